/** The session against a server that is as simple as it can be: whatever is cut, nothing is lost and nothing comes twice. */

import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";
import { zlibSync } from "fflate";

import { BufferFull, ConnectionLost, Kicked, type ProtocolError, UsageError } from "../src/errors.js";
import { Session, type SessionEvent } from "../src/session.js";
import { joined, text, utf8 } from "./bytes.js";
import { type Connection, Server, type ServerOptions } from "./server.js";

/** A session and a server, and two pipes between them that can be cut. */
class Pair {
    readonly server: Server;
    readonly session: Session;
    readonly events: SessionEvent[] = [];
    connection: Connection | undefined;
    now = 1000;
    /** Bytes under way. */
    up: Uint8Array = new Uint8Array(0);
    down: Uint8Array = new Uint8Array(0);

    constructor(options: ServerOptions = {}, compression = false, maxPayload = 1 << 20) {
        this.server = new Server(options);
        this.session = new Session({ name: "test", compression, maxPayload });
    }

    connect(): void {
        this.connection = this.server.connect();
        this.session.handleConnected(this.now);
        this.collect();
    }

    collect(): void {
        for (let event = this.session.pollEvent(); event !== undefined; event = this.session.pollEvent()) {
            this.events.push(event);
        }
        this.up = joined([this.up, ...this.session.pollOutput()]);
        this.down = joined([this.down, ...(this.connection?.take() ?? [])]);
    }

    /** Some of the bytes that are under way arrive. */
    carryUp(count: number): void {
        const piece = this.up.slice(0, count);
        this.up = this.up.slice(count);
        this.connection?.data(piece);
        this.collect();
    }

    carryDown(count: number): void {
        const piece = this.down.slice(0, count);
        this.down = this.down.slice(count);
        if (piece.length > 0 && this.connection !== undefined) {
            this.session.handleData(piece, this.now);
        }
        this.collect();
    }

    cut(): void {
        this.session.handleCut(this.now);
        const play = this.connection?.play;
        if (play !== undefined && play.connection === this.connection) {
            play.connection = undefined;
        }
        this.connection = undefined;
        this.up = new Uint8Array(0);
        this.down = new Uint8Array(0);
        this.collect();
    }

    /** Until nothing is under way. */
    settle(): void {
        this.collect();
        for (let round = 0; this.up.length > 0 || this.down.length > 0; round++) {
            assert.ok(round < 1000, "it does not come to rest");
            this.carryUp(this.up.length);
            this.carryDown(this.down.length);
        }
    }

    heal(): void {
        if (this.connection === undefined || !this.session.open) {
            this.cut();
            this.connect();
        }
        this.settle();
    }

    error(): Error {
        const last = this.events.at(-1);
        assert.equal(last?.kind, "over");
        return (last as SessionEvent & { kind: "over" }).error;
    }

    pushes(): string[] {
        return this.events.flatMap((event) =>
            event.kind === "message" ? [`${event.route} ${text(event.payload)}`] : [],
        );
    }

    answers(): string[] {
        return this.events.flatMap((event) => (event.kind === "answer" ? [text(event.payload)] : []));
    }
}

function opened(options: ServerOptions = {}, compression = false, maxPayload = 1 << 20): Pair {
    const pair = new Pair(options, compression, maxPayload);
    pair.connect();
    pair.settle();
    assert.deepEqual(pair.events, [{ kind: "opened", anew: false }]);
    return pair;
}

type Step =
    | { do: "request" | "message" | "push"; route: number; size: number }
    | { do: "up" | "down"; count: number }
    | { do: "cut" | "connect" | "heartbeat" };

const route = fc.integer({ min: 0, max: 3 });
const size = fc.integer({ min: 0, max: 40 });
const count = fc.integer({ min: 1, max: 60 });
const step: fc.Arbitrary<Step> = fc.oneof(
    { arbitrary: fc.record({ do: fc.constantFrom("request", "message", "push"), route, size }), weight: 4 },
    { arbitrary: fc.record({ do: fc.constantFrom("up", "down"), count }), weight: 5 },
    { arbitrary: fc.record({ do: fc.constantFrom("cut", "connect", "heartbeat") }), weight: 2 },
) as fc.Arbitrary<Step>;

/** What was said on both sides, and what should have come of it. */
class Expected {
    readonly heard: string[] = [];
    readonly pushed: string[] = [];
    readonly asked: string[] = [];
    private serial = 0;

    say(pair: Pair, step: { do: "request" | "message" | "push"; route: number; size: number }): void {
        this.serial += 1;
        const [route, payload] = [`route ${step.route}`, `${this.serial}${"x".repeat(step.size)}`];
        const said = `${route} ${payload}`;
        if (step.do === "push") {
            if (pair.server.plays.length === 1) {
                pair.server.push(pair.server.play, route, utf8(payload));
                this.pushed.push(said);
            }
        } else if (step.do === "request") {
            pair.session.request(route, utf8(payload), false);
            this.heard.push(said);
            this.asked.push(payload);
        } else {
            pair.session.message(route, utf8(payload), false);
            this.heard.push(said);
        }
        pair.collect();
    }
}

function perform(pair: Pair, step: Step, expected: Expected): void {
    pair.now += 1;
    switch (step.do) {
        case "up":
            pair.carryUp(step.count);
            break;
        case "down":
            pair.carryDown(step.count);
            break;
        case "cut":
            pair.cut();
            break;
        case "connect":
            if (pair.connection === undefined) {
                pair.connect();
            }
            break;
        case "heartbeat":
            if (pair.connection?.play !== undefined) {
                pair.connection.heartbeat(1_000_000n);
                pair.collect();
            }
            break;
        default:
            expected.say(pair, step);
    }
}

/** Both sides have counted alike: after a heartbeat nothing waits for the other side's word. */
function agree(pair: Pair): void {
    const play = pair.server.play;
    pair.connection?.heartbeat(1n);
    pair.settle();
    assert.deepEqual([play.base, play.kept.length], [pair.connection?.heartbeats.at(-1)?.received, 0]);
    assert.ok(!pair.events.some((event) => event.kind === "over"));
}

test("random sequences of connect, send, cut and resume lose nothing and double nothing", () => {
    fc.assert(
        fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
            const pair = opened();
            const expected = new Expected();
            for (const step of steps) {
                perform(pair, step, expected);
            }
            pair.heal();
            agree(pair);
            assert.deepEqual(pair.server.heard, expected.heard);
            assert.deepEqual(pair.pushes(), expected.pushed);
            assert.deepEqual(pair.answers(), expected.asked);
            assert.ok(!pair.events.some((event) => event.kind === "lost" || event.kind === "over"));
        }),
        { numRuns: 400 },
    );
});

test("where the server keeps little, each request is answered or lost, once, and what the client sends arrives", () => {
    let gaps = 0;
    fc.assert(
        fc.property(fc.array(step, { maxLength: 120, size: "max" }), (steps) => {
            const pair = opened({ keep: 2 });
            const expected = new Expected();
            for (const step of steps) {
                perform(pair, step, expected);
            }
            pair.heal();
            agree(pair);
            assert.deepEqual(pair.server.heard, expected.heard);
            const ends = pair.events.filter(({ kind }) => kind === "answer" || kind === "lost").length;
            assert.equal(ends, expected.asked.length);
            // In order, some left out; and no more of them than the gaps have told.
            const lost = pair.events.reduce((sum, event) => sum + (event.kind === "resumed" ? event.lost : 0), 0);
            const [pushes, answers] = [pair.pushes(), pair.answers()];
            assert.deepEqual(
                pushes,
                expected.pushed.filter((said) => pushes.includes(said)),
            );
            assert.equal(pushes.length + answers.length + lost, expected.pushed.length + expected.asked.length);
            gaps += pair.events.filter((event) => event.kind === "resumed" && event.gap).length;
        }),
        // The same each time: what is asked for below is no matter of luck.
        { numRuns: 400, seed: 5 },
    );
    assert.ok(gaps > 0);
});

test("a cut after every byte, in both directions", () => {
    const talk = (pair: Pair, expected: Expected) => {
        for (let round = 0; round < 3; round++) {
            expected.say(pair, { do: "request", route: round, size: 5 });
            expected.say(pair, { do: "push", route: round, size: 5 });
            expected.say(pair, { do: "message", route: 0, size: 5 });
        }
    };
    const whole = opened();
    talk(whole, new Expected());
    whole.carryUp(whole.up.length);
    const [up, down] = [200, whole.down.length];
    for (let at = 0; at <= up + down; at++) {
        const pair = opened();
        const expected = new Expected();
        talk(pair, expected);
        pair.carryUp(Math.min(at, up));
        pair.carryDown(Math.max(at - up, 0));
        pair.cut();
        // The next welcome is lost on its way, too, in the middle.
        pair.connect();
        pair.carryUp(pair.up.length);
        pair.carryDown(at % pair.down.length);
        pair.cut();
        talk(pair, expected);
        pair.heal();
        assert.deepEqual(pair.server.heard, expected.heard, `cut at ${at}`);
        assert.deepEqual(pair.pushes(), expected.pushed, `cut at ${at}`);
        assert.deepEqual(pair.answers(), expected.asked, `cut at ${at}`);
    }
});

test("counting goes on behind a gap, and droppable pushes are not counted", () => {
    const pair = opened({ keep: 1 });
    pair.cut();
    for (const number of [1, 2, 3]) {
        pair.server.push(pair.server.play, "said", utf8(String(number)));
    }
    pair.heal();
    assert.deepEqual(pair.events.at(-1), { kind: "resumed", gap: true, lost: 3 });
    pair.connection?.put({ type: 6, route: "said", payload: utf8("now") }, 0x20);
    pair.settle();
    pair.cut();
    pair.server.push(pair.server.play, "said", utf8("4"));
    pair.heal();
    assert.deepEqual(pair.events.at(-2), { kind: "resumed", gap: false, lost: 0 });
    assert.deepEqual(pair.pushes(), ["said now", "said 4"]);
    agree(pair);
});

test("another session counts from 0 again", () => {
    const pair = opened();
    for (const number of [1, 2, 3]) {
        pair.session.message("move", utf8(String(number)), false);
        pair.server.push(pair.server.play, "said", utf8(String(number)));
    }
    pair.settle();
    agree(pair);
    pair.cut();
    pair.server.plays.splice(0);
    pair.session.forget();
    pair.heal();
    assert.deepEqual(pair.events.at(-1), { kind: "opened", anew: true });
    pair.session.message("move", utf8("4"), false);
    pair.server.push(pair.server.play, "said", utf8("4"));
    pair.settle();
    agree(pair);
    assert.deepEqual(pair.server.heard, ["move 1", "move 2", "move 3", "move 4"]);
});

test("the server is told of what came after 64 counted frames, or 16384 bytes", () => {
    const pair = opened();
    const told = () => pair.connection?.heartbeats.at(-1)?.received;
    for (let number = 0; number < 63; number++) {
        pair.server.push(pair.server.play, "said", utf8("x"));
    }
    pair.settle();
    assert.equal(told(), 0);
    pair.server.push(pair.server.play, "said", utf8("x"));
    pair.settle();
    assert.equal(told(), 64);
    assert.equal(pair.server.play.kept.length, 0);
    pair.server.push(pair.server.play, "said", utf8("x".repeat(16_384)));
    pair.settle();
    assert.equal(told(), 65);
});

test("each of the server's heartbeats is answered at once, and tells how long the way is", () => {
    const pair = opened();
    const connection = pair.connection as Connection;
    const first = connection.heartbeats[0];
    assert.deepEqual([first?.echo, first?.held, connection.heartbeats.length], [1_000_000n, 0n, 1]);
    pair.now += 50;
    connection.heartbeat(2_000_000n, first?.clock ?? 0n, 20_000n);
    pair.collect();
    pair.settle();
    assert.equal(pair.session.clock.roundTrip, 30_000);
    assert.equal(pair.session.clock.at(pair.now + 10), 2_000_000 + 15_000 + 10_000);
    assert.deepEqual([connection.heartbeats.length, connection.heartbeats[1]?.echo], [2, 2_000_000n]);
    // One that does not tell how long it was on the way is a lower bound.
    pair.now += 10;
    connection.heartbeat(2_000_000n);
    pair.settle();
    assert.equal(pair.session.clock.at(pair.now), 2_000_000 + 15_000 + 10_000);
    connection.heartbeat(3_000_000n);
    pair.settle();
    assert.equal(pair.session.clock.at(pair.now), 3_000_000);
});

test("whoever hears nothing for two intervals takes the connection for cut", () => {
    const pair = opened({ heartbeat: 100 });
    assert.equal(pair.session.pollTimeout(), pair.now + 200);
    pair.now += 150;
    pair.server.push(pair.server.play, "said", utf8("x"));
    pair.settle();
    pair.session.handleTimeout(pair.now + 199);
    assert.ok(pair.session.open);
    pair.session.handleTimeout(pair.now + 200);
    pair.collect();
    assert.equal(pair.events.at(-1)?.kind, "silent");
    assert.ok(!pair.session.open);
});

test("a session without a token keeps nothing, and cannot be resumed", () => {
    const pair = opened({ window: 0 });
    for (let number = 0; number < 10_000; number++) {
        pair.session.message("move", utf8("x".repeat(500)), false);
        pair.up = new Uint8Array(0);
        pair.session.pollOutput();
    }
    pair.cut();
    assert.ok(!pair.session.resumable(pair.now));
});

test("a session can be resumed for its window, counted from the cut", () => {
    const pair = opened({ window: 1000 });
    pair.cut();
    pair.now += 500;
    pair.connect();
    pair.cut();
    assert.ok(pair.session.resumable(pair.now + 499));
    assert.ok(!pair.session.resumable(pair.now + 500));
});

test("what is kept is bounded", () => {
    const pair = opened({ maxPayload: 1 << 24 });
    pair.cut();
    let taken = 0;
    assert.throws(() => {
        for (; ; taken++) {
            pair.session.message("move", utf8("x".repeat(1000)), false);
        }
    }, BufferFull);
    assert.equal(taken, Math.floor((1024 * 1024) / (1000 + 4 + 64)));
    const small = opened();
    small.cut();
    assert.throws(() => {
        for (;;) {
            small.session.request("move", utf8(""), false);
        }
    }, BufferFull);
    small.heal();
    assert.equal(small.server.heard.length, 4096);
    // And the first one is taken, however long it is.
    pair.heal();
    pair.connection?.heartbeat(1n);
    pair.settle();
    pair.session.message("move", new Uint8Array(2 << 20), false);
    assert.throws(() => pair.session.message("move", utf8("x"), false), BufferFull);
});

test("what cannot be sent is the caller's mistake", () => {
    const pair = opened({ maxPayload: 10 });
    assert.throws(() => pair.session.message("move", utf8("x".repeat(11)), false), UsageError);
    assert.throws(() => pair.session.message("", utf8("x"), false), UsageError);
    assert.throws(() => pair.session.message("x".repeat(256), utf8("x"), false), UsageError);
    for (let number = 0; number < 1024; number++) {
        pair.session.message(`route ${number}`, utf8("x"), false);
    }
    assert.throws(() => pair.session.message("one more", utf8("x"), false), UsageError);
    pair.settle();
    assert.equal(pair.server.heard.length, 1024);
});

test("a droppable message is sent at once or not at all, and is not counted", () => {
    const pair = opened();
    assert.ok(pair.session.droppable("move", utf8("1"), false));
    pair.settle();
    assert.equal(pair.server.play.received, 0);
    pair.cut();
    assert.ok(!pair.session.droppable("move", utf8("2"), false));
    pair.heal();
    assert.deepEqual(pair.server.heard, ["move 1"]);
});

test("payloads are deflated from the threshold on, if that is shorter, and never a secret", () => {
    const pair = opened({ threshold: 100 }, true);
    const long = utf8("abc".repeat(100));
    const sizes = [
        [long, false],
        [long, true],
        [long.subarray(0, 99), false],
        [new Uint8Array(120).map((_, at) => (at * 7919) % 251), false],
    ].map(([payload, secret]) => {
        pair.session.message("move", payload as Uint8Array, secret as boolean);
        return pair.session.pollOutput().reduce((sum, frame) => sum + frame.length, 0);
    });
    assert.ok((sizes[0] as number) < 60);
    assert.deepEqual(sizes.slice(1), [4 + 300, 3 + 99, 3 + 120]);
});

test("what the server has compressed is inflated, up to the limit", () => {
    const pair = opened({ threshold: 0 }, true, 100_000);
    const send = (payload: Uint8Array) => {
        (pair.connection as Connection).put({ type: 6, route: "said", payload }, 0x10);
        pair.settle();
    };
    const long = utf8("abc".repeat(33_333));
    send(zlibSync(long, { level: 9 }));
    send(zlibSync(utf8("")));
    assert.deepEqual(pair.pushes(), [`said ${text(long)}`, "said "]);
    send(zlibSync(new Uint8Array(50_000_000)));
    assert.equal((pair.error() as ProtocolError).reason, "too-long");
});

test("what cannot be inflated ends the session", () => {
    const good = zlibSync(utf8("hello hello hello"));
    const noHeader = good.slice();
    noHeader[0] = 0;
    for (const bad of [
        new Uint8Array(0),
        good.slice(0, -1),
        good.slice(0, 8),
        joined([good, utf8("!")]),
        noHeader,
        joined([good.slice(0, -1), new Uint8Array([0])]),
        utf8("no zlib at all"),
    ]) {
        const pair = opened({ threshold: 0 }, true);
        (pair.connection as Connection).put({ type: 6, route: "said", payload: bad }, 0x10);
        pair.settle();
        assert.equal((pair.error() as ProtocolError).reason, "bad-compression", text(bad));
    }
});

test("an answer to what was not asked ends the session, and so does a second one", () => {
    for (const answers of [1, 2]) {
        const pair = opened();
        pair.server.answer = () => undefined;
        const id = pair.session.request("echo", utf8("x"), false);
        pair.settle();
        for (let number = 0; number < answers; number++) {
            pair.connection?.put({ type: 8, id: id + 2 - answers, payload: utf8("y") });
        }
        pair.settle();
        assert.equal((pair.error() as ProtocolError).reason, "bad-frame");
    }
});

test("a server that has received more than was sent, or less than before, ends the session", () => {
    for (const received of [3, 1]) {
        const pair = opened();
        pair.session.message("move", utf8("1"), false);
        pair.session.message("move", utf8("2"), false);
        pair.settle();
        pair.connection?.heartbeat(1n);
        pair.settle();
        pair.server.play.received = received;
        pair.connection?.heartbeat(1n);
        pair.settle();
        assert.equal((pair.error() as ProtocolError).reason, "bad-frame");
    }
});

test("a server resumes nobody who has shown no token, and compresses for nobody who has not offered it", () => {
    for (const [prepare, compression] of [
        [(pair: Pair) => pair.server.instead.push(utf8("\x02\x1a")), false],
        [(pair: Pair) => Object.assign(pair.server.options, { threshold: 1 }), false],
    ] as const) {
        const pair = new Pair({}, compression);
        prepare(pair);
        if (pair.server.instead.length > 0) {
            pair.server.instead[0] = new Uint8Array(
                Buffer.from("021a 010101 020101 030101 0402904e 0503c0843d 0703808004 0c0100".replace(/ /g, ""), "hex"),
            );
        }
        pair.connect();
        pair.settle();
        assert.equal((pair.error() as ProtocolError).reason, "bad-handshake");
    }
});

test("after a kick nothing is read, and nothing can be resumed", () => {
    const pair = opened();
    pair.connection?.raw(11, utf8("replaced"));
    pair.connection?.put({ type: 6, route: "said", payload: utf8("x") });
    pair.settle();
    assert.equal((pair.error() as Kicked).reason, "replaced");
    assert.ok(pair.error() instanceof Kicked);
    assert.ok(!pair.session.resumable(pair.now));
    assert.equal(pair.pushes().length, 0);
});

test("a farewell ends the server's session", () => {
    const pair = opened();
    pair.session.message("move", utf8("last"), false);
    pair.session.leave(new ConnectionLost("closed by this client"));
    pair.settle();
    assert.deepEqual([pair.server.plays.length, pair.server.leaves.length], [0, 1]);
    assert.deepEqual(pair.server.heard, ["move last"]);
});

test("ids are as small as they can be, and free when their answer was taken", () => {
    const pair = opened();
    assert.deepEqual(
        [0, 1, 2].map(() => pair.session.request("echo", utf8("x"), false)),
        [0, 1, 2],
    );
    pair.settle();
    assert.equal(pair.session.request("echo", utf8("x"), false), 0);
});

/** The client in virtual time: promises, pushes, refusals and ends. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { encode } from "@msgpack/msgpack";

import { open } from "../src/client.js";
import {
    BufferFull,
    ConnectionLost,
    HandshakeRefused,
    Kicked,
    ProtocolError,
    Refused,
    RequestTimeout,
    Unreadable,
    UsageError,
} from "../src/errors.js";
import * as browser from "../src/index.js";
import * as node from "../src/node.js";
import type { WebSocketLike } from "../src/transport.js";
import { bytes, utf8 } from "./bytes.js";
import { watched } from "./watching.js";
import { WAY, World } from "./world.js";

function push(world: World, route: string, message: unknown): void {
    world.server.push(world.server.play, route, message instanceof Uint8Array ? message : encode(message));
    world.deliver();
}

test("a request and its answer, in MessagePack and in JSON", async () => {
    for (const json of [false, true]) {
        const world = new World({ json });
        const client = await world.connect();
        assert.deepEqual(await world.during(client.request("echo", { text: "hé", left: undefined })), { text: "hé" });
        assert.equal(await world.during(client.request("echo")), undefined);
        const raw = await world.during(client.request("echo", new Uint8Array([0xc1, 0]), { raw: true }));
        assert.deepEqual(raw, new Uint8Array([0xc1, 0]));
        await assert.rejects(world.during(client.request("echo", new Uint8Array([0xc1, 0]))), Unreadable);
    }
});

test("an error answer has its code and its fields", async () => {
    const world = new World();
    const client = await world.connect();
    for (const [payload, code, fields, message] of [
        [
            encode({ code: "too-poor", msg: "too-poor", missing: 3 }),
            "too-poor",
            { msg: "too-poor", missing: 3 },
            "too-poor",
        ],
        [encode({ code: "internal", msg: "it failed" }), "internal", { msg: "it failed" }, "internal: it failed"],
        [encode({ missing: 3 }), "unknown", { missing: 3 }, "unknown"],
        [encode([1]), "unreadable", {}, "unreadable"],
        [new Uint8Array([0xc1]), "unreadable", {}, "unreadable"],
    ] as const) {
        world.server.answer = () => ({ error: true, payload });
        const error = await world.during(client.request("buy", {})).catch((error: unknown) => error);
        assert.ok(error instanceof Refused);
        assert.deepEqual([error.code, error.fields, error.message], [code, fields, message]);
    }
});

test("pushes go to handlers and to iterators, in order, and to those who have left no more", async () => {
    const world = new World();
    const client = await world.connect();
    const heard: unknown[] = [];
    const off = client.on("said", (said) => heard.push(said));
    const subscription = client.subscribe<number>("said");
    const raw: Uint8Array[] = [];
    client.on("said", (said) => raw.push(said), { raw: true });
    for (const number of [1, 2, 3]) {
        push(world, "said", number);
    }
    await world.advance(100);
    off();
    push(world, "said", 4);
    push(world, "other", 5);
    await world.advance(100);
    assert.deepEqual(heard, [1, 2, 3]);
    assert.deepEqual(
        raw.map((said) => said[0]),
        [1, 2, 3, 4],
    );
    const read: number[] = [];
    for await (const said of subscription) {
        read.push(said);
        if (said === 4) {
            break;
        }
    }
    assert.deepEqual(read, [1, 2, 3, 4]);
    push(world, "said", 6);
    await world.advance(100);
    assert.deepEqual(await subscription.next(), { done: true, value: undefined });
});

test("every push is told of, whatever its route, after those who asked for it", async () => {
    const world = new World();
    const client = await world.connect();
    const heard: unknown[] = [];
    client.when("push", ({ route, payload }) => heard.push([route, [...payload]]));
    client.on("said", (said) => heard.push(said));
    push(world, "said", 1);
    push(world, "unasked", new Uint8Array([2]));
    await world.advance(100);
    assert.deepEqual(heard, [1, ["said", [1]], ["unasked", [2]]]);
});

test("the program may make the WebSockets, in a browser and in Node", async () => {
    for (const { connect } of [browser, node]) {
        const made: string[] = [];
        const webSocket = (url: string): WebSocketLike => {
            made.push(url);
            const socket: WebSocketLike = {
                binaryType: "",
                bufferedAmount: 0,
                onopen: null,
                onmessage: null,
                onclose: null,
                onerror: null,
                send: () => {},
                close: () => {},
            };
            queueMicrotask(() => socket.onclose?.({ code: 1006, reason: "" } as never));
            return socket;
        };
        await assert.rejects(connect("ws://nowhere.example/play", { webSocket }), ConnectionLost);
        assert.deepEqual(made, ["ws://nowhere.example/play"]);
    }
});

test("a subscriber who is slow loses the oldest, and is told how many", async () => {
    const world = new World();
    const client = await world.connect();
    const subscription = client.subscribe<number>("said", { limit: 2 });
    const first = subscription.next();
    for (const number of [1, 2, 3, 4, 5]) {
        push(world, "said", number);
    }
    await world.advance(100);
    assert.equal((await first).value, 1);
    assert.deepEqual([(await subscription.next()).value, (await subscription.next()).value], [4, 5]);
    assert.equal(subscription.dropped, 2);
    assert.throws(() => client.subscribe("said", { limit: 0 }), UsageError);
});

test("a push that is not in the format is its subscriber's to know, and the next one comes", async () => {
    const world = new World();
    const client = await world.connect();
    const subscription = client.subscribe<number>("said");
    const waiting = assert.rejects(subscription.next(), Unreadable);
    push(world, "said", new Uint8Array([0xc1]));
    push(world, "said", new Uint8Array([0xc1]));
    push(world, "said", 7);
    await world.advance(100);
    await waiting;
    await assert.rejects(subscription.next(), Unreadable);
    assert.equal((await subscription.next()).value, 7);
});

test("what is pushed together with the welcome reaches who subscribes right after connecting", async () => {
    const world = new World();
    const heard: unknown[] = [];
    const subscribing = open("wss://a/", {}, world).then((client) => client.on("said", (said) => heard.push(said)));
    await world.advance(2 * WAY);
    const connection = world.connection;
    const data = connection.data.bind(connection);
    connection.data = (piece) => {
        connection.data = data;
        data(piece);
        world.server.push(world.server.play, "said", encode("first"));
    };
    await world.advance(2 * WAY);
    await subscribing;
    await world.advance(100);
    assert.deepEqual(heard, ["first"]);
});

test("a request gives up waiting after its time, or when its signal says so, and its late answer is nobody's", async () => {
    const world = new World();
    const client = await world.connect({ requestTimeout: 300 });
    world.server.answer = () => undefined;
    await assert.rejects(world.during(client.request("echo", 1)), RequestTimeout);
    await assert.rejects(world.during(client.request("echo", 2, { timeout: 5 })), RequestTimeout);
    const abort = new AbortController();
    const aborted = assert.rejects(client.request("echo", 3, { signal: abort.signal, timeout: 1e6 }), /enough/);
    abort.abort(new Error("enough"));
    await aborted;
    await assert.rejects(client.request("echo", 4, { signal: abort.signal }), /enough/);
    await world.advance(100);
    for (const id of [0, 1, 2]) {
        world.server.send(world.server.play, { type: 8, id, payload: encode("late") });
    }
    world.server.answer = (_, payload) => ({ error: false, payload });
    const answer = client.request("echo", "in time");
    world.deliver();
    assert.equal(await world.during(answer), "in time");
    assert.equal(world.server.heard.length, 4);
});

test("a handler that asks while an answer of the same turn waits gets its own", async () => {
    const world = new World();
    const client = await world.connect();
    let second: Promise<unknown> | undefined;
    client.on("said", () => {
        second = client.request("echo", "second");
    });
    const answer = world.server.answer;
    // The push and the answer to request 0 come in one piece.
    world.server.answer = (route, payload) => {
        world.server.answer = answer;
        world.server.push(world.server.play, "said", encode(0));
        return answer(route, payload);
    };
    const first = client.request("echo", "first");
    await world.advance(100);
    assert.equal(await first, "first");
    assert.equal(await world.during(second as Promise<unknown>), "second");
});

test("a kick ends everything, with its reason", async () => {
    const world = new World();
    const client = await world.connect();
    const happened = watched(client);
    const request = assert.rejects(client.request("echo", 1), { name: "Kicked", reason: "replaced" });
    const subscription = client.subscribe("said");
    const next = assert.rejects(subscription.next(), Kicked);
    world.connection.put({ type: 6, route: "heard", payload: encode(1) });
    world.connection.raw(11, utf8("replaced"));
    world.deliver();
    await world.advance(100);
    await request;
    await next;
    await assert.rejects(subscription.next(), Kicked);
    await assert.rejects(client.request("echo", 2), Kicked);
    assert.throws(() => client.notify("echo", 3), Kicked);
    await assert.rejects(client.subscribe("said").next(), Kicked);
    await world.advance(60_000);
    assert.deepEqual(happened, ["closed"]);
    assert.equal(world.tries.length, 1);
});

test("a server that breaks the protocol is left for good", async () => {
    const world = new World();
    const client = await world.connect();
    let error: unknown;
    client.when("closed", (closed) => {
        error = closed.error;
    });
    const request = assert.rejects(client.request("echo", 1), ProtocolError);
    world.link.listener.data(bytes("0e"));
    await request;
    await world.advance(60_000);
    assert.equal((error as ProtocolError).reason, "bad-frame");
    assert.equal(world.tries.length, 1);
    assert.equal(world.links.filter(({ open }) => open).length, 0);
});

test("a refusal is an error with its code, and when to come again", async () => {
    const world = new World();
    world.server.instead.push(bytes("030a 0104 66756c6c 0202 d00f"));
    const error = await world.connect().catch((error: unknown) => error);
    assert.ok(error instanceof HandshakeRefused);
    assert.deepEqual([error.code, error.retryAfter], ["full", 2000]);
    await world.advance(60_000);
    assert.equal(world.tries.length, 1);
});

test("a client stands in line for as long as it takes", async () => {
    const world = new World();
    const places: unknown[] = [];
    world.server.instead.push(bytes("0403 010103"), bytes("0409 0102e807 020390bf05"));
    const connecting = open("wss://a/", { onWait: (wait) => places.push(wait) }, world);
    await world.advance(100);
    assert.deepEqual(places, [
        { place: 3, estimate: undefined },
        { place: 1000, estimate: 90_000 },
    ]);
    for (let second = 0; second < 60; second += 5) {
        await world.advance(5000);
        world.connection.out.push(bytes("0403 010102"));
        world.deliver();
    }
    await world.advance(WAY);
    assert.equal(places.length, 14);
    world.connection.greeted = false;
    world.connection.data(bytes("0103 010101"));
    world.deliver();
    assert.ok((await world.during(connecting)).connected);
});

test("a line in which the server has fallen silent is left", async () => {
    const world = new World();
    world.server.instead.push(bytes("0403 010103"));
    await assert.rejects(world.connect(), /the server has fallen silent/);
    assert.ok(world.now() > 5000 + 15_000 && world.now() < 5000 + 17_000);
});

test("connecting fails in time, and when its signal says so", async () => {
    const world = new World();
    world.server.instead.push(new Uint8Array(0));
    await assert.rejects(world.connect({ timeout: 700 }), /no handshake within 700 ms/);
    assert.ok(world.now() < 5000 + 1000);
    const abort = new AbortController();
    world.server.instead.push(new Uint8Array(0));
    const connecting = world.connect({ signal: abort.signal });
    await world.advance(50);
    abort.abort(new Error("enough"));
    await assert.rejects(connecting, /enough/);
    await assert.rejects(world.connect({ signal: abort.signal }), /enough/);
    const later = new AbortController();
    const client = await world.connect({ signal: later.signal });
    later.abort();
    await world.advance(100);
    assert.ok(client.connected);
    await world.during(client.close());
    world.servers.clear();
    await assert.rejects(world.connect(), /connection refused/);
    await world.advance(60_000);
    assert.equal(world.tries.length, 4);
    assert.equal(world.links.filter(({ open }) => open).length, 0);
});

test("only URLs that this client speaks are taken", async () => {
    const world = new World();
    await assert.rejects(open("nonsense", {}, world), UsageError);
    await assert.rejects(open("wss://a/?protocol=pomelo", {}, world), UsageError);
});

test("closing says farewell, and ends what waits without an error", async () => {
    const world = new World();
    const client = await world.connect();
    const happened = watched(client);
    const request = assert.rejects(client.request("wait", 1), /closed by this client/);
    const subscription = client.subscribe("said");
    const next = subscription.next();
    client.notify("move", "last");
    const closing = client.close();
    await request;
    assert.equal((await next).done, true);
    await world.during(closing);
    await client.close();
    assert.equal(world.server.leaves.length, 1);
    assert.equal(world.server.heard.length, 2);
    await world.advance(60_000);
    assert.deepEqual([happened, world.tries.length], [["closed"], 1]);
});

test("what is late is dropped, and what is not read is not sent", async () => {
    const world = new World();
    const client = await world.connect();
    assert.ok(client.notify("move", 1, { droppable: true }));
    world.buffered = 100_000;
    assert.ok(!client.notify("move", 2, { droppable: true }));
    assert.ok(client.notify("move", 3));
    world.buffered = 5_000_000;
    assert.throws(() => client.notify("move", 4), BufferFull);
    await assert.rejects(client.request("move", 5), BufferFull);
    world.buffered = 0;
    await world.advance(100);
    world.cut();
    assert.ok(!client.notify("move", 6, { droppable: true }));
    await world.advance(1000);
    assert.equal(world.server.heard.length, 2);
});

test("bytes that are changed after they were given are sent as they were", async () => {
    const world = new World();
    const client = await world.connect();
    world.cut();
    const given = utf8("before");
    const answer = client.request("echo", given, { raw: true });
    given.set(utf8("after!"));
    assert.deepEqual(await world.during(answer), utf8("before"));
});

test("what cannot be written is the caller's mistake", async () => {
    const world = new World({ json: true });
    const client = await world.connect();
    assert.throws(() => client.notify("move", () => 1), UsageError);
    assert.throws(() => client.notify("move", 1n), UsageError);
});

test("what is said in one turn goes out in one piece", async () => {
    const world = new World();
    const client = await world.connect();
    await world.advance(100);
    let pieces = 0;
    const connection = world.connection;
    const data = connection.data.bind(connection);
    connection.data = (piece) => {
        pieces += 1;
        data(piece);
    };
    for (let number = 0; number < 16; number++) {
        client.notify("move", number);
    }
    await world.advance(100);
    assert.deepEqual([world.server.heard.length, pieces], [16, 1]);
});

test("the server's time and the way to it are known", async () => {
    const world = new World();
    const client = await world.connect();
    await world.advance(100);
    const clock = world.connection.heartbeats.at(-1)?.clock ?? 0n;
    world.connection.heartbeat(3_000_000n, clock, 0n);
    world.deliver();
    await world.advance(WAY);
    assert.ok((client.roundTrip ?? 0) >= WAY);
    const time = client.serverTime();
    assert.ok(Math.abs(time - 3000 - (client.roundTrip ?? 0) / 2) < 1);
    await world.advance(1000);
    assert.ok(Math.abs(client.serverTime() - time - 1000) < 1);
});

test("a handler's error is its program's, and the next handler is called", async () => {
    const world = new World();
    const client = await world.connect();
    const errors: unknown[] = [];
    const listeners = process.listeners("uncaughtException");
    process.removeAllListeners("uncaughtException");
    process.once("uncaughtException", (error) => errors.push(error));
    try {
        const heard: unknown[] = [];
        client.on("said", () => {
            throw new Error("mine");
        });
        client.on("said", (said) => heard.push(said));
        push(world, "said", 1);
        await world.advance(100);
        assert.deepEqual(heard, [1]);
        assert.match(String(errors[0]), /mine/);
    } finally {
        for (const listener of listeners) {
            process.on("uncaughtException", listener);
        }
    }
});

/** The client in virtual time, when its connection is cut: when it connects again, where, and what comes of it. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { encode } from "@msgpack/msgpack";

import { AnswerLost, ConnectionLost } from "../src/errors.js";
import { bytes, joined, utf8 } from "./bytes.js";
import { Server } from "./server.js";
import { watched } from "./watching.js";
import { WAY, World } from "./world.js";

function push(world: World, route: string, message: unknown): void {
    world.server.push(world.server.play, route, message instanceof Uint8Array ? message : encode(message));
    world.deliver();
}

test("requests in flight survive a cut, and are answered once", async () => {
    const world = new World();
    const client = await world.connect();
    const happened = watched(client);
    const answers = Promise.all([1, 2, 3].map((number) => client.request("echo", number)));
    await world.advance(WAY);
    assert.equal(world.server.heard.length, 3);
    world.cut();
    assert.ok(!client.connected);
    client.notify("move", 4);
    const later = client.request("echo", 5);
    assert.deepEqual(await world.during(answers), [1, 2, 3]);
    assert.equal(await world.during(later), 5);
    assert.equal(world.server.heard.length, 5);
    assert.deepEqual(happened, ["reconnecting", "resumed"]);
});

test("a gap is told, and its requests fail, and those that the server has not had do not", async () => {
    const world = new World({ keep: 0 });
    const client = await world.connect();
    const happened = watched(client);
    let lost = 0;
    client.when("gap", (gap) => {
        lost += gap.lost;
    });
    const had = client.request("echo", 1);
    const failing = assert.rejects(had, AnswerLost);
    await world.advance(WAY);
    world.cut();
    const hadNot = client.request("echo", 2);
    await world.during(failing);
    assert.equal(await world.during(hadNot), 2);
    assert.deepEqual([happened, lost], [["reconnecting", "gap", "resumed"], 1]);
});

test("tries come later and later, and end with the window", async () => {
    const world = new World({ window: 20_000 });
    const client = await world.connect();
    const server = world.server;
    world.servers.clear();
    world.cut();
    const failing = assert.rejects(client.request("echo", 1), ConnectionLost);
    const cut = world.now();
    await world.advance(60_000);
    await failing;
    const pauses = world.tries.slice(1).map(({ at }, number, all) => at - (all[number - 1]?.at ?? cut) - 2 * WAY);
    assert.deepEqual(pauses.slice(0, 5), [50 - 2 * WAY, 150, 300, 600, 1200]);
    assert.ok(pauses.every((pause) => pause <= 5000));
    const last = (world.tries.at(-1)?.at ?? 0) - cut;
    assert.ok(last > 10_000 && last <= 20_000);
    assert.equal(server.plays.length, 1);
    assert.throws(() => client.notify("move", 1), ConnectionLost);
});

test("a server that lets go as soon as it has welcomed is not tried more often for that", async () => {
    const world = new World();
    const client = await world.connect();
    const attempts: number[] = [];
    client.when("reconnecting", ({ attempt }) => attempts.push(attempt));
    client.when("resumed", () => world.cut());
    world.cut();
    await world.advance(3000);
    assert.deepEqual(
        attempts,
        [...attempts.keys()].map((key) => key + 1),
    );
    assert.ok(attempts.length >= 4 && attempts.length <= 7);
});

test("after a steady connection the first try is soon", async () => {
    const world = new World();
    const client = await world.connect();
    const attempts: number[] = [];
    client.when("reconnecting", ({ attempt }) => attempts.push(attempt));
    for (let number = 0; number < 3; number++) {
        await world.advance(6000);
        world.cut();
    }
    assert.deepEqual(attempts, [1, 1, 1]);
});

test("a server that has fallen silent is left for another connection to it", async () => {
    const world = new World({ heartbeat: 500 });
    const client = await world.connect();
    const reasons: string[] = [];
    client.when("reconnecting", ({ reason }) => reasons.push(reason));
    const silent = world.link;
    await world.advance(900);
    assert.deepEqual(reasons, []);
    await world.advance(300);
    assert.deepEqual(reasons, ["the server has fallen silent"]);
    assert.ok(client.connected);
    assert.ok(!silent.open);
});

test("what still comes on a connection that was given up is not heard", async () => {
    const world = new World({ heartbeat: 500 });
    const client = await world.connect();
    const heard: unknown[] = [];
    client.on("said", (said) => heard.push(said));
    const old = world.link;
    await world.advance(1005);
    assert.ok(!client.connected);
    const late = () => {
        old.connection?.put({ type: 6, route: "said", payload: encode("late") });
        old.listener.data(joined(old.connection?.take() ?? []));
    };
    late();
    await world.advance(500);
    assert.ok(client.connected);
    late();
    old.listener.closed("late");
    assert.ok(client.connected);
    push(world, "said", "now");
    await world.advance(100);
    assert.deepEqual(heard, ["now"]);
});

test("whoever comes back to a full server comes again when it says so, and whoever is unknown does not", async () => {
    const world = new World();
    const client = await world.connect();
    world.server.instead.push(bytes("030a 0104 66756c6c 0202 d00f"));
    world.cut();
    const answer = client.request("echo", 1);
    assert.equal(await world.during(answer), 1);
    assert.deepEqual(
        world.tries.slice(1).map(({ at }, number, all) => at - (all[number - 1]?.at ?? at) > 2000),
        [false, true],
    );
    world.server.plays.splice(0);
    world.cut();
    await assert.rejects(world.during(client.request("echo", 2)), { name: "HandshakeRefused", code: "resume-unknown" });
});

test("a redirect is followed, and the session goes with it", async () => {
    const world = new World();
    const there = new Server();
    world.servers.set("b", there);
    const client = await world.connect();
    const happened = watched(client);
    // As a cluster does: the session moves, and is known under the same token.
    there.plays.push(...world.server.plays);
    world.connection.raw(12, utf8("wss://b/?protocol=photinus"));
    world.deliver();
    await world.advance(WAY + 1);
    const answer = client.request("echo", 1);
    assert.equal(await world.during(answer), 1);
    assert.equal(client.url, "wss://b/");
    assert.deepEqual(happened, ["redirected", "reconnecting", "resumed"]);
});

test("where a redirect leads nobody may know the session: then it is another one", async () => {
    for (const window of [0, 30_000]) {
        const world = new World({ window });
        world.servers.set("b", new Server());
        const client = await world.connect();
        const happened = watched(client);
        const lost = assert.rejects(client.request("wait", 1), AnswerLost);
        world.server.answer = () => undefined;
        world.connection.raw(12, utf8("wss://b/"));
        await world.advance(WAY);
        world.deliver();
        await world.advance(3000);
        await lost;
        assert.ok(happened.includes("renewed") && !happened.includes("closed"));
        assert.equal(await world.during(client.request("echo", 2)), 2);
    }
});

test("a redirect leads to no plain connection, and round in no circle", async () => {
    for (const [url, what] of [
        ["ws://b/", /not encrypted/],
        ["nonsense", /no address/],
        ["wss://a/", /redirected 9 times/],
    ] as const) {
        const world = new World();
        const client = await world.connect();
        const redirect = () => {
            world.connection.raw(12, utf8(url));
            world.deliver();
        };
        client.when("resumed", redirect);
        let error: unknown;
        client.when("closed", (closed) => {
            error = closed.error;
        });
        redirect();
        await world.advance(60_000);
        assert.match(String(error), what);
    }
});

test("closing between two connections does not connect again", async () => {
    const world = new World();
    const client = await world.connect();
    world.cut();
    await client.close();
    await world.advance(60_000);
    assert.equal(world.tries.length, 1);
});

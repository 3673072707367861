// What test_typescript.py has the TypeScript client do: node scenarios.mjs CLIENT SCENARIO URL. The last line that is
// printed is what came of it, as JSON.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import net from "node:net";

const [path, scenario, url] = process.argv.slice(2);
if (path.endsWith("photinus.js")) {
    // The browser's one file, with the WebSocket that it expects.
    const packages = createRequire(path);
    globalThis.WebSocket = packages("ws").WebSocket;
}
const { connect, HandshakeRefused, Kicked, Refused } = await import(path);

const SCENARIOS = {
    async play() {
        const client = await connect(url, { name: "scenarios 1.0" });
        const welcome = await client.request("login", { name: "Ann" });
        const refusals = [];
        for (const [route, message] of [
            ["buy", { gold: 2 }],
            ["buy", { gold: "much" }],
            ["nowhere", {}],
            ["fails", {}],
        ]) {
            const error = await client.request(route, message).catch((error) => error);
            assert.ok(error instanceof Refused, String(error));
            refusals.push([error.code, error.fields]);
        }
        const bytes = new Uint8Array(60_000).map((_, at) => at * 7);
        const echoed = await client.request("echo", bytes, { raw: true });
        assert.deepEqual(Buffer.from(echoed), Buffer.from(bytes));
        assert.equal((await client.request("echo", new Uint8Array(0), { raw: true })).length, 0);
        assert.ok(client.serverTime() > 0);
        await client.close();
        return { welcome, refusals };
    },

    async many() {
        const client = await connect(url);
        await client.request("login", { name: "Bob" });
        const heard = [];
        client.on("counted", ({ number }) => heard.push(number));
        const answers = [];
        for (let number = 0; number < 2000; number++) {
            answers.push(client.request("double", { number }));
            client.notify("note", { number });
            client.notify("note", { number: -1 }, { droppable: true });
        }
        const doubled = (await Promise.all(answers)).map(({ number }) => number);
        await client.request("count", { number: 5000 });
        assert.deepEqual(
            doubled,
            doubled.map((_, number) => 2 * number),
        );
        assert.deepEqual(heard, [...Array(5000).keys()]);
        // The clocks are known from the first heartbeat on, which a second brings.
        while (client.roundTrip === undefined) {
            await new Promise((resolve) => setTimeout(resolve, 20));
        }
        assert.ok(client.roundTrip >= 0 && client.roundTrip < 10_000);
        await client.close();
        return { doubled: doubled.length, heard: heard.length };
    },

    async kicked() {
        const client = await connect(url);
        await client.request("login", { name: "Eve" });
        const closed = new Promise((resolve) => client.when("closed", ({ error }) => resolve(error)));
        const subscription = client.subscribe("said");
        client.notify("misbehave", {});
        const read = [];
        const error = await (async () => {
            for await (const said of subscription) {
                read.push(said.text);
            }
        })().catch((error) => error);
        assert.ok(error instanceof Kicked);
        assert.equal(await closed, error);
        await assert.rejects(client.request("echo", {}), Kicked);
        return { reason: error.reason, read };
    },

    async compressed() {
        const client = await connect(url);
        const text = "abc ".repeat(10_000);
        assert.equal((await client.request("repeat", { text })).text, text);
        assert.equal((await client.request("repeat", { text }, { secret: true })).text, text);
        await client.close();
        return {};
    },

    async refused() {
        const first = await connect(url);
        const error = await connect(url).catch((error) => error);
        await first.close();
        assert.ok(error instanceof HandshakeRefused, String(error));
        return { code: error.code };
    },

    async waited() {
        const first = await connect(url);
        const places = [];
        let leaving;
        const second = await connect(url, {
            onWait: ({ place }) => {
                places.push(place);
                leaving ??= first.close();
            },
        });
        await leaving;
        await second.request("login", { name: "Kim" });
        await second.close();
        return { places };
    },

    /** Everything over a line that is cut again and again, after so and so many bytes in either direction. */
    async resumed() {
        const line = await relay(new URL(url));
        const client = await connect(line.url);
        const happened = { reconnecting: 0, resumed: 0, gap: 0 };
        for (const name of Object.keys(happened)) {
            client.when(name, () => {
                happened[name] += 1;
            });
        }
        await client.request("login", { name: "Zoe" });
        const heard = [];
        client.on("counted", ({ number }) => heard.push(number));
        const answers = [];
        for (let cut = 0; cut < 5; cut++) {
            line.cutAfter(20 + 107 * cut, cut % 2 === 0);
            answers.push(client.request("count", { number: 50 }));
            for (let number = 0; number < 20; number++) {
                answers.push(client.request("double", { number: cut }));
                client.notify("note", { number: 20 * cut + number });
            }
            await line.wasCut();
            // And some of it while there is no line at all.
            answers.push(client.request("double", { number: 1000 + cut }));
            client.notify("note", { number: 1_000_000 + cut });
            await Promise.all(answers);
        }
        const answered = answers.length;
        const noted = (await client.request("noted", {})).numbers;
        await client.close();
        line.close();
        return { answered, heard, noted, happened };
    },

    async forgotten() {
        const line = await relay(new URL(url));
        const client = await connect(line.url);
        await client.request("login", { name: "Tom" });
        const closed = new Promise((resolve) => client.when("closed", ({ error }) => resolve(error)));
        line.refuse(true);
        line.cut();
        const error = await closed;
        line.close();
        return { name: error.name };
    },
};

/** A line to the server that can be cut. */
async function relay(target) {
    let budget = Number.POSITIVE_INFINITY;
    let upwards = true;
    let refusing = false;
    let told = () => {};
    let happened = Promise.resolve();
    const open = new Set();
    const cut = () => {
        for (const socket of open) {
            socket.destroy();
        }
        open.clear();
        budget = Number.POSITIVE_INFINITY;
        told();
    };
    const server = net.createServer((near) => {
        if (refusing) {
            near.destroy();
            return;
        }
        const far = net.connect(Number(target.port), target.hostname);
        for (const [from, to, up] of [
            [near, far, true],
            [far, near, false],
        ]) {
            open.add(from);
            from.setNoDelay(true);
            from.on("error", () => {});
            from.on("close", () => to.destroy());
            from.on("data", (piece) => {
                if (up !== upwards || budget > piece.length) {
                    budget -= up === upwards ? piece.length : 0;
                    to.write(piece);
                    return;
                }
                // What was before the cut is to arrive.
                to.write(piece.subarray(0, budget), cut);
                budget = Number.POSITIVE_INFINITY;
                from.pause();
            });
        }
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const there = new URL(target);
    there.port = String(server.address().port);
    return {
        url: there.href,
        cut,
        cutAfter(bytes, up) {
            [budget, upwards] = [bytes, up];
            happened = new Promise((resolve) => {
                told = resolve;
            });
        },
        wasCut: () => happened,
        refuse(refuses) {
            refusing = refuses;
        },
        close() {
            server.close();
            cut();
        },
    };
}

console.log(JSON.stringify(await SCENARIOS[scenario]()));

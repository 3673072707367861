/** The golden vectors of docs/protocol.md, section 5: what a client reads, and what it writes. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { heartbeat } from "../src/bodies.js";
import { ProtocolError } from "../src/errors.js";
import { hello } from "../src/fields.js";
import { COMPRESSED, DROPPABLE, frame, PAYLOAD_MAX, Type } from "../src/frames.js";
import { Incoming, type Said } from "../src/incoming.js";
import { putNumber } from "../src/numbers.js";
import { bytes, hex } from "./bytes.js";

interface Vector {
    readonly name: string;
    readonly direction: "client" | "server";
    readonly before?: string;
    readonly hex: string;
    readonly message?: Record<string, unknown> & { readonly kind: string };
    readonly events: readonly Record<string, unknown>[];
    readonly error: string | null;
    readonly refused?: string;
}

const FILE = new URL("../../../../tests/wire/photinus.json", import.meta.url);
/** As they stand in the file: clocks may be above what a double holds, and are told apart by their names. */
const TEXT = readFileSync(FILE, "utf-8").replace(/"(clock|echo|held)": (\d+)/g, '"$1": "$2"');
const VECTORS = (JSON.parse(TEXT) as { vectors: readonly Vector[] }).vectors;

test("there are vectors of both directions", () => {
    assert.ok(VECTORS.filter(({ direction }) => direction === "server").length >= 50);
    assert.ok(VECTORS.filter(writable).length >= 20);
});

for (const vector of VECTORS.filter(({ direction }) => direction === "server")) {
    for (const size of [1, 3, 1 << 20]) {
        test(`a client reads, ${size} bytes at a time: ${vector.name}`, () => {
            const before = read(bytes(vector.before ?? ""), size);
            const all = read(bytes((vector.before ?? "") + vector.hex), size);
            assert.equal(before.refused, undefined);
            assert.deepEqual(all.events.slice(before.events.length), vector.events.map(told));
            assert.equal(all.refused, vector.refused);
        });
    }
}

for (const vector of VECTORS.filter(writable)) {
    test(`a client writes: ${vector.name}`, () => {
        assert.equal(hex(written(vector.message as Vector["message"] & object)), vector.hex);
    });
}

function writable({ direction, message, error }: Vector): boolean {
    // A client that speaks several versions is another one than this.
    return direction === "client" && error === null && message !== undefined && message.versions === undefined;
}

function read(data: Uint8Array, size: number): { events: Record<string, unknown>[]; refused: string | undefined } {
    const incoming = new Incoming(PAYLOAD_MAX);
    const events: Record<string, unknown>[] = [];
    try {
        for (let at = 0; at < data.length; at += size) {
            incoming.push(data.slice(at, at + size));
            for (let said = incoming.next(); said !== undefined; said = incoming.next()) {
                events.push(event(said));
            }
        }
    } catch (error) {
        assert.ok(error instanceof ProtocolError);
        assert.throws(() => incoming.next(), error);
        assert.throws(() => incoming.push(bytes("00")), error);
        return { events, refused: error.reason };
    }
    return { events, refused: undefined };
}

/** What was said, in the words of the file. */
function event(said: Said): Record<string, unknown> {
    switch (said.kind) {
        case "welcome":
            return {
                event: "welcome",
                version: said.version,
                status: said.status,
                format: said.format === "json" ? 0 : 1,
                heartbeat: said.heartbeat,
                clock: String(said.clock),
                rate: said.rate,
                max_payload: said.maxPayload,
                compression: said.compression ? [said.compression.algorithm, said.compression.threshold] : null,
                dictionary: said.dictionary ?? null,
                token: said.token ? hex(said.token) : null,
                window: said.window ?? null,
                received: said.received ?? null,
                next: said.next ?? null,
            };
        case "refusal":
            return { event: "refusal", code: said.code, retry_after: said.retryAfter ?? null };
        case "wait":
            return { event: "wait", place: said.place, estimate: said.estimate ?? null };
        case "route":
            return { event: "route", name: said.name };
        case "message": {
            const { route, payload, compressed, droppable } = said;
            return { event: "push", route, body: hex(payload), compressed, droppable };
        }
        case "answer": {
            const { id, error, payload, compressed } = said;
            return {
                event: error ? "error" : "response",
                id,
                body: hex(payload),
                compressed,
                droppable: false,
            };
        }
        case "heartbeat": {
            const { received, rate } = said;
            const [clock, echo, held] = [said.clock, said.echo, said.held].map(String);
            return { event: "heartbeat", received, clock, echo, held, rate };
        }
        case "kick":
            return { event: "kick", reason: said.reason };
        case "redirect":
            return { event: "redirect", url: said.url };
    }
}

/** An event of the file; of messages and answers it leaves out what is false. */
function told(event: Record<string, unknown>): Record<string, unknown> {
    return "body" in event ? { compressed: false, droppable: false, ...event } : event;
}

function written(message: Record<string, unknown> & { readonly kind: string }): Uint8Array {
    const body = bytes((message.body as string | undefined) ?? "");
    const flags = (message.compressed ? COMPRESSED : 0) | (message.droppable ? DROPPABLE : 0);
    switch (message.kind) {
        case "hello": {
            const { client, compression, token, received } = message as {
                readonly client?: string;
                readonly compression?: number[];
                readonly token?: string;
                readonly received?: number;
            };
            const resume = token === undefined ? undefined : { token: bytes(token), received: received ?? 0 };
            return frame(Type.hello, 0, hello({ client, compression, resume }));
        }
        case "route":
            return frame(Type.route, 0, [], new TextEncoder().encode(message.name as string));
        case "notify":
            return frame(Type.message, flags, numbers(message.index), body);
        case "request":
            return frame(Type.request, flags, numbers(message.id, message.index), body);
        case "heartbeat": {
            const [clock, echo, held] = [message.clock, message.echo, message.held].map((value) =>
                BigInt(value as string),
            ) as [bigint, bigint, bigint];
            return frame(Type.heartbeat, 0, heartbeat({ received: message.received as number, clock, echo, held }));
        }
        case "leave":
            return frame(Type.leave, 0, []);
        default:
            throw new Error(`a client has no ${message.kind}`);
    }
}

function numbers(...values: unknown[]): number[] {
    const out: number[] = [];
    for (const value of values) {
        putNumber(value as number, out);
    }
    return out;
}

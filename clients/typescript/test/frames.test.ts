/** Frames and numbers beside the golden vectors: what hides where a vector has another fault behind it. */

import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { readWait } from "../src/fields.js";
import { FrameReader, frame, Type } from "../src/frames.js";
import { CLOCK_MAX, NUMBER_MAX, putClock, putNumber, Reader } from "../src/numbers.js";
import { bytes, joined } from "./bytes.js";

const WELCOMED = { welcomed: true, compression: false };

test("numbers come back as they were, in the fewest bytes", () => {
    fc.assert(
        fc.property(
            fc.integer({ min: 0, max: NUMBER_MAX }),
            fc.bigInt({ min: 0n, max: CLOCK_MAX }),
            (number, clock) => {
                const out: number[] = [];
                putNumber(number, out);
                assert.equal(out.length, Math.max(1, Math.ceil(number.toString(2).length / 7)));
                putClock(clock, out);
                const reader = new Reader(new Uint8Array(out));
                assert.deepEqual([reader.number(), reader.clock()], [number, clock]);
                reader.end();
            },
        ),
    );
});

test("numbers that are too long, too large or cut short are refused", () => {
    for (const hex of ["8000", "ff00", "ffffffff1f", "808080808000", "80", ""]) {
        assert.throws(() => new Reader(bytes(hex)).number(), { reason: "bad-frame" }, hex);
    }
    for (const hex of ["8000", "ffffffffffffffffff02", "8080808080808080808001", "80", ""]) {
        assert.throws(() => new Reader(bytes(hex)).clock(), { reason: "bad-frame" }, hex);
    }
});

test("a length in a longer form is refused, also of what may be empty", () => {
    for (const hex of ["0b8000", "0b818000", "0b8080808000"]) {
        const reader = new FrameReader(100);
        reader.push(bytes(hex));
        assert.throws(() => reader.next(WELCOMED), { reason: "bad-frame" }, hex);
        assert.throws(() => reader.next(WELCOMED), { reason: "bad-frame" }, hex);
    }
});

test("a length above its limit is refused before what it counts has come", () => {
    for (const [hex, longest] of [
        ["066f", "066e"],
        ["0a33", "0a32"],
        ["058002", "05ff01"],
    ] as const) {
        const reader = new FrameReader(100);
        reader.push(bytes(hex));
        assert.throws(() => reader.next(WELCOMED), { reason: "too-long" }, hex);
        const other = new FrameReader(100);
        other.push(bytes(longest));
        assert.equal(other.next(WELCOMED), undefined);
    }
});

test("frames are read as they were written, wherever they were cut", () => {
    const body = fc.uint8Array({ maxLength: 300 });
    const cuts = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 50 });
    fc.assert(
        fc.property(fc.array(body, { maxLength: 20 }), cuts, (bodies, cuts) => {
            const data = joined(bodies.map((body) => frame(Type.message, 0, [], body)));
            const reader = new FrameReader(1000);
            const read: Uint8Array[] = [];
            for (let at = 0, turn = 0; at < data.length; turn++) {
                const piece = data.slice(at, at + (cuts[turn % cuts.length] as number));
                at += piece.length;
                reader.push(piece);
                for (let next = reader.next(WELCOMED); next !== undefined; next = reader.next(WELCOMED)) {
                    read.push(next.body);
                }
            }
            // Looked at only now: what comes later must not have changed what came before.
            assert.deepEqual(
                read.map((body) => [...body]),
                bodies.map((body) => [...body]),
            );
        }),
    );
});

test("fields that nobody knows yet are skipped however often they stand, and the known stand once", () => {
    assert.equal(readWait(bytes("010103 630178 6300 630179 0000")).place, 3);
    assert.throws(() => readWait(bytes("010103 010104")), { reason: "bad-handshake" });
    assert.throws(() => readWait(bytes("010103 630578")), { reason: "bad-handshake" });
});

/** zlib (docs/protocol.md, 5.7), by fflate: at once and not later, since the frames behind wait for this one. */

import { Unzlib, zlibSync } from "fflate";

import { ProtocolError } from "./errors.js";

/** What is inflated at once. Deflate makes at most 1032 bytes of one, so no more than a MiB is past the limit. */
const PIECE = 1024;
/** As zlib itself does: the default of 6, which is four fifths of the way to 9 at a third of its time. */
const LEVEL = 6;
const CHECKSUM_BYTES = 4;

/** The payload in one stream of RFC 1950, or itself if that is not longer. */
export function deflate(payload: Uint8Array): Uint8Array {
    const shorter = zlibSync(payload, { level: LEVEL });
    return shorter.length < payload.length ? shorter : payload;
}

/** What was deflated; `too-long` as soon as there is more than `limit` bytes of it. */
export function inflate(payload: Uint8Array, limit: number): Uint8Array {
    const pieces: Uint8Array[] = [];
    let length = 0;
    const inflating = new Unzlib((piece) => {
        length += piece.length;
        if (length > limit) {
            throw new ProtocolError("too-long", `more than ${limit} bytes when inflated`);
        }
        pieces.push(piece);
    });
    try {
        for (let at = 0; at < payload.length || at === 0; at += PIECE) {
            inflating.push(payload.slice(at, at + PIECE), at + PIECE >= payload.length);
        }
    } catch (error) {
        throw error instanceof ProtocolError ? error : new ProtocolError("bad-compression", String(error));
    }
    const whole = new Uint8Array(length);
    let at = 0;
    for (const piece of pieces) {
        whole.set(piece, at);
        at += piece.length;
    }
    // fflate looks neither at the checksum nor behind it. It stands last, so this finds what was added, too: all but what
    // ends in the same four bytes, which makes the same payload.
    const end = payload.slice(-CHECKSUM_BYTES);
    if (end.length < CHECKSUM_BYTES || new DataView(end.buffer).getUint32(0) !== adler32(whole)) {
        throw new ProtocolError("bad-compression", "the checksum is another");
    }
    return whole;
}

/** RFC 1950, 8.2. */
function adler32(bytes: Uint8Array): number {
    let low = 1;
    let high = 0;
    for (let at = 0; at < bytes.length; ) {
        // After so many the sums still fit into 32 bits.
        const end = Math.min(at + 5552, bytes.length);
        for (; at < end; at++) {
            low += bytes[at] as number;
            high += low;
        }
        low %= 65521;
        high %= 65521;
    }
    return high * 65536 + low;
}

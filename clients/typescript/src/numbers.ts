/**
 * Numbers (docs/protocol.md, 5.1): LEB128 in the fewest bytes, 32 bits or, for clocks, 64.
 *
 * A clock is a bigint, since a server's may begin anywhere and has to come back to it exactly.
 */

import { type Fault, ProtocolError } from "./errors.js";

const NUMBER_BYTES = 5;
const CLOCK_BYTES = 10;
export const NUMBER_MAX = 0xffff_ffff;
export const CLOCK_MAX = 0xffff_ffff_ffff_ffffn;

/** Reads a body from its beginning to its end. Whatever does not fit is a ProtocolError of the kind given. */
export class Reader {
    private at = 0;

    constructor(
        private readonly bytes: Uint8Array,
        private readonly fault: Fault = "bad-frame",
    ) {}

    get done(): boolean {
        return this.at === this.bytes.length;
    }

    byte(): number {
        const byte = this.bytes[this.at];
        if (byte === undefined) {
            throw this.malformed("cut short");
        }
        this.at += 1;
        return byte;
    }

    number(): number {
        let value = 0;
        let scale = 1;
        for (let count = 1; count <= NUMBER_BYTES; count++) {
            const byte = this.byte();
            value += (byte & 0x7f) * scale;
            scale *= 128;
            if (byte < 0x80) {
                this.checkShortest(byte, count);
                if (value > NUMBER_MAX) {
                    break;
                }
                return value;
            }
        }
        throw this.malformed("a number of more than 32 bits");
    }

    clock(): bigint {
        let value = 0n;
        for (let count = 1; count <= CLOCK_BYTES; count++) {
            const byte = this.byte();
            value |= BigInt(byte & 0x7f) << BigInt(7 * (count - 1));
            if (byte < 0x80) {
                this.checkShortest(byte, count);
                if (value > CLOCK_MAX) {
                    break;
                }
                return value;
            }
        }
        throw this.malformed("a clock of more than 64 bits");
    }

    take(length: number): Uint8Array {
        if (length > this.bytes.length - this.at) {
            throw this.malformed("cut short");
        }
        this.at += length;
        return this.bytes.subarray(this.at - length, this.at);
    }

    rest(): Uint8Array {
        return this.take(this.bytes.length - this.at);
    }

    /** Nothing may follow what was read. */
    end(): void {
        if (!this.done) {
            throw this.malformed("something behind the end");
        }
    }

    malformed(what: string): ProtocolError {
        return new ProtocolError(this.fault, what);
    }

    private checkShortest(last: number, count: number): void {
        if (last === 0 && count > 1) {
            throw this.malformed("a number that is longer than it need be");
        }
    }
}

/** Appends a number of at most 32 bits. */
export function putNumber(value: number, out: number[]): void {
    let left = value;
    while (left >= 0x80) {
        out.push((left % 128) | 0x80);
        left = Math.floor(left / 128);
    }
    out.push(left);
}

/** Appends a number of at most 64 bits. */
export function putClock(value: bigint, out: number[]): void {
    let left = value;
    while (left >= 0x80n) {
        out.push(Number(left & 0x7fn) | 0x80);
        left >>= 7n;
    }
    out.push(Number(left));
}

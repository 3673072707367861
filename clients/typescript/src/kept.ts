/** What was sent and may have to be sent again (docs/protocol.md, 5.11): counted frames, by their numbers. */

import { BufferFull } from "./errors.js";

/** Bytes that may wait for the server's word that it has them: a minute of a busy player without a connection. */
export const KEPT_BYTES = 1024 * 1024;
/** And frames, since each takes memory beside its bytes. */
export const KEPT_FRAMES = 8192;
/** What a frame of a few bytes takes beside them. */
const BESIDE = 64;

export interface Counted {
    /** Of a request; a message has none. */
    readonly id: number | undefined;
    readonly route: string;
    /** In the listener's format, not compressed: the next connection may agree on something else. */
    readonly payload: Uint8Array;
    readonly secret: boolean;
}

/** Frames `first` to `next - 1`. The oldest go when the other side has them, and none before. */
export class Kept {
    private frames: Counted[] = [];
    /** Those at the beginning of `frames` that are gone; they are cut off when they are half of it. */
    private gone = 0;
    private bytes = 0;

    private base = 0;

    /** The number of the oldest one that is here. */
    get first(): number {
        return this.base + this.gone;
    }

    /** The number that the next one gets. */
    get next(): number {
        return this.base + this.frames.length;
    }

    at(number: number): Counted {
        return this.frames[number - this.base] as Counted;
    }

    /** BufferFull if there is no room for it. */
    push(counted: Counted): number {
        const bytes = this.bytes + size(counted);
        const frames = this.next - this.first;
        // The first is taken whatever its size is: how long a payload may be is the server's to say.
        if (frames >= KEPT_FRAMES || (frames > 0 && bytes > KEPT_BYTES)) {
            throw new BufferFull(`${frames} frames of ${this.bytes} bytes wait until the server says that it has them`);
        }
        this.bytes = bytes;
        this.frames.push(counted);
        return this.next - 1;
    }

    /** The other side has all before this number. */
    drop(number: number): void {
        for (; this.first < number; this.gone++) {
            this.bytes -= size(this.frames[this.gone] as Counted);
        }
        if (this.gone * 2 >= this.frames.length) {
            this.frames = this.frames.slice(this.gone);
            this.base += this.gone;
            this.gone = 0;
        }
    }
}

function size(counted: Counted): number {
    return counted.payload.length + counted.route.length + BESIDE;
}

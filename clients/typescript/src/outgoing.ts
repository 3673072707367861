/** What a client says on one connection: routes are named before they are used, and payloads deflated where it pays. */

import { type Heartbeat, heartbeat } from "./bodies.js";
import { deflate } from "./compression.js";
import { type Hello, hello } from "./fields.js";
import { COMPRESSED, DROPPABLE, frame, Type } from "./frames.js";
import type { Counted } from "./kept.js";
import { putNumber } from "./numbers.js";

/** Deflating makes nothing of less than this shorter, whatever the server would have. */
const LEAST_WORTH = 16;

export class Outgoing {
    /** Frames to be sent, in order. */
    readonly frames: Uint8Array[] = [];
    /** The least payload that is deflated; nothing is until the welcome has agreed on it. */
    threshold = Number.POSITIVE_INFINITY;
    private readonly routes = new Map<string, number>();

    hello(said: Hello): void {
        this.frames.push(frame(Type.hello, 0, hello(said)));
    }

    /** A message, or a request if it has an id. */
    counted(said: Counted): void {
        const fields: number[] = [];
        if (said.id !== undefined) {
            putNumber(said.id, fields);
        }
        this.payload(said.id === undefined ? Type.message : Type.request, 0, fields, said);
    }

    droppable(said: Counted): void {
        this.payload(Type.message, DROPPABLE, [], said);
    }

    heartbeat(said: Heartbeat): void {
        this.frames.push(frame(Type.heartbeat, 0, heartbeat(said)));
    }

    leave(): void {
        this.frames.push(frame(Type.leave, 0, []));
    }

    private payload(type: number, flags: number, fields: number[], said: Counted): void {
        putNumber(this.route(said.route), fields);
        const worthwhile = !said.secret && said.payload.length >= Math.max(this.threshold, LEAST_WORTH);
        const payload = worthwhile ? deflate(said.payload) : said.payload;
        const compressed = payload === said.payload ? 0 : COMPRESSED;
        this.frames.push(frame(type, flags | compressed, fields, payload));
    }

    private route(name: string): number {
        const known = this.routes.get(name);
        if (known !== undefined) {
            return known;
        }
        const number = this.routes.size;
        this.routes.set(name, number);
        this.frames.push(frame(Type.route, 0, [], new TextEncoder().encode(name)));
        return number;
    }
}

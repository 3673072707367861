/** What is in the frames of an open session (docs/protocol.md, 5.5, 5.6, 5.8 and 5.10). */

import { ProtocolError } from "./errors.js";
import { putClock, putNumber, Reader } from "./numbers.js";

export interface Heartbeat {
    /** Counted frames received so far. */
    readonly received: number;
    /** Microseconds of the sender's clock. */
    readonly clock: bigint;
    /** The clock in the last heartbeat or welcome of the other side; 0: none came. */
    readonly echo: bigint;
    /** Microseconds since that came. */
    readonly held: bigint;
}

/** A client's heartbeat, which tells no rate. */
export function heartbeat(said: Heartbeat): number[] {
    const out: number[] = [];
    putNumber(said.received, out);
    putClock(said.clock, out);
    putClock(said.echo, out);
    putClock(said.held, out);
    return out;
}

/** A server's heartbeat, with the rate of its clock in millionths. */
export function readHeartbeat(body: Uint8Array): Heartbeat & { readonly rate: number } {
    const reader = new Reader(body);
    const said = {
        received: reader.number(),
        clock: reader.clock(),
        echo: reader.clock(),
        held: reader.clock(),
        rate: reader.number(),
    };
    reader.end();
    return said;
}

/** The number of a push's route, or the id of a reply's or an error's request; and the payload. */
export function readNumbered(body: Uint8Array): { readonly number: number; readonly payload: Uint8Array } {
    const reader = new Reader(body);
    return { number: reader.number(), payload: reader.rest() };
}

export function readRoute(body: Uint8Array): string {
    if (body.length === 0) {
        throw new ProtocolError("bad-frame", "a route without a name");
    }
    return readText(body);
}

/** The reason of a kick, or the address of a redirect. */
export function readText(body: Uint8Array): string {
    try {
        return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
    } catch {
        throw new ProtocolError("bad-frame", "text that is no UTF-8");
    }
}

/** Payloads: the application's objects as JSON or MessagePack, and its bytes as they are. */

import { decode, encode } from "@msgpack/msgpack";

import { Refused, Unreadable, UsageError } from "./errors.js";
import { NOTHING } from "./frames.js";

export type Format = "json" | "msgpack";

/** `undefined` is nothing, a Uint8Array is sent as it is, and everything else is written in the format. */
export function write(message: unknown, format: Format): Uint8Array {
    if (message === undefined) {
        return NOTHING;
    }
    if (message instanceof Uint8Array) {
        // It may have to be sent again, and is its owner's to change.
        return message.slice();
    }
    try {
        if (format === "msgpack") {
            return encode(message, { ignoreUndefined: true });
        }
        const text = JSON.stringify(message) as string | undefined;
        if (text === undefined) {
            throw new TypeError(`a ${typeof message} is no JSON`);
        }
        return new TextEncoder().encode(text);
    } catch (error) {
        throw new UsageError(`this payload cannot be written: ${text(error)}`);
    }
}

/** Unreadable if it is not in the format; an empty one is `undefined`. */
export function read(payload: Uint8Array, format: Format): unknown {
    if (payload.length === 0) {
        return undefined;
    }
    try {
        return format === "msgpack"
            ? decode(payload)
            : JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload));
    } catch (error) {
        throw new Unreadable(`a payload of ${payload.length} bytes is no ${format}: ${text(error)}`);
    }
}

/** What an error answer says (docs/protocol.md, 1.6). */
export function readRefusal(payload: Uint8Array, format: Format): Refused {
    let said: unknown;
    try {
        said = read(payload, format);
    } catch {
        said = undefined;
    }
    if (typeof said !== "object" || said === null || Array.isArray(said)) {
        return new Refused("unreadable", {});
    }
    const { code, ...fields } = said as Record<string, unknown>;
    return new Refused(typeof code === "string" ? code : "unknown", fields);
}

function text(error: unknown): string {
    return error instanceof Error ? error.message : String(error);
}

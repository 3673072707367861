/**
 * Frames (docs/protocol.md, 5.2): a head, a length, a body. A server's bytes come in, in any pieces, and its frames go
 * out; a client's frames are written.
 */

import { ProtocolError } from "./errors.js";
import { putNumber } from "./numbers.js";

export const Type = {
    hello: 1,
    welcome: 2,
    refusal: 3,
    wait: 4,
    route: 5,
    message: 6,
    request: 7,
    reply: 8,
    error: 9,
    heartbeat: 10,
    kick: 11,
    redirect: 12,
    leave: 13,
} as const;

export const COMPRESSED = 0x10;
export const DROPPABLE = 0x20;

/** The longest payload that a server's 28 bits of length are trusted with unless the client says less (5.7). */
export const PAYLOAD_MAX = 0xff_ffff;
/** Head fields before a payload: an id and a number of a route, five bytes each. */
const BEFORE_PAYLOAD = 10;
/** Fields for which there are sixteen tags so far: as much as a hello may have. */
const FIELDS_MAX = 1024;
export const ROUTE_MAX = 255;
const HEARTBEAT_MAX = 50;
const KICK_MAX = 256;
const REDIRECT_MAX = 1024;
/** 28 bits. */
const LENGTH_BYTES = 4;

export interface Frame {
    readonly type: number;
    readonly flags: number;
    readonly body: Uint8Array;
}

/** What has been agreed on so far, which decides what may come. */
export interface Agreed {
    readonly welcomed: boolean;
    readonly compression: boolean;
}

/** The bytes that a frame with this head may have, if it may come from a server now. */
function limitOf(head: number, agreed: Agreed, maxPayload: number): number {
    const type = head & 0x0f;
    const handshake = type === Type.welcome || type === Type.refusal || type === Type.wait;
    if (!agreed.welcomed && !handshake) {
        throw new ProtocolError("bad-handshake", `type ${type} before a welcome`);
    }
    const [flags, limit] = agreed.welcomed ? inSession(type, maxPayload) : [0, FIELDS_MAX];
    if ((head & 0xf0 & ~flags) !== 0) {
        throw new ProtocolError("bad-frame", `head ${head.toString(16)}`);
    }
    if ((head & COMPRESSED) !== 0 && !agreed.compression) {
        throw new ProtocolError("compression-unsupported", "compressed, and no compression was agreed on");
    }
    return limit;
}

/** The flags that may stand on this type, and the bytes of its body. */
function inSession(type: number, maxPayload: number): [flags: number, limit: number] {
    switch (type) {
        case Type.route:
            return [0, ROUTE_MAX];
        case Type.message:
            return [COMPRESSED | DROPPABLE, maxPayload + BEFORE_PAYLOAD];
        case Type.reply:
        case Type.error:
            return [COMPRESSED, maxPayload + BEFORE_PAYLOAD];
        case Type.heartbeat:
            return [0, HEARTBEAT_MAX];
        case Type.kick:
            return [0, KICK_MAX];
        case Type.redirect:
            return [0, REDIRECT_MAX];
        default:
            throw new ProtocolError("bad-frame", `type ${type} from a server`);
    }
}

/**
 * `push` what has come, then `next` until there is nothing whole left. After a bad frame every later call throws the
 * same error again.
 *
 * A body is a view of the bytes that came: those are never written to again, so it stays what it is.
 */
export class FrameReader {
    private bytes = new Uint8Array(0);
    private start = 0;
    private end = 0;
    /** Whether `bytes` was made here, and has room behind its end that nobody sees. */
    private own = false;
    private failure: ProtocolError | undefined;

    constructor(private readonly maxPayload: number) {}

    push(piece: Uint8Array): void {
        const left = this.end - this.start;
        if (left === 0) {
            this.bytes = piece as Uint8Array<ArrayBuffer>;
            this.start = 0;
            this.end = piece.length;
            this.own = false;
            return;
        }
        if (!this.own || this.end + piece.length > this.bytes.length) {
            // Twice as much as is needed, so that a long frame in small pieces is not copied for each of them.
            const roomier = new Uint8Array(2 * (left + piece.length));
            roomier.set(this.bytes.subarray(this.start, this.end));
            this.bytes = roomier;
            this.start = 0;
            this.end = left;
            this.own = true;
        }
        this.bytes.set(piece, this.end);
        this.end += piece.length;
    }

    next(agreed: Agreed): Frame | undefined {
        if (this.failure !== undefined) {
            throw this.failure;
        }
        try {
            return this.read(agreed);
        } catch (error) {
            if (error instanceof ProtocolError) {
                this.failure = error;
            }
            throw error;
        }
    }

    private read(agreed: Agreed): Frame | undefined {
        let at = this.start;
        const head = at < this.end ? this.bytes[at++] : undefined;
        if (head === undefined) {
            return undefined;
        }
        const limit = limitOf(head, agreed, this.maxPayload);
        let length = 0;
        for (let count = 0; ; count++) {
            if (count === LENGTH_BYTES) {
                throw new ProtocolError("bad-frame", "a length of more than 28 bits");
            }
            const byte = at < this.end ? this.bytes[at++] : undefined;
            if (byte === undefined) {
                return undefined;
            }
            length += (byte & 0x7f) << (7 * count);
            if (byte < 0x80) {
                if (byte === 0 && count > 0) {
                    throw new ProtocolError("bad-frame", "a length that is longer than it need be");
                }
                break;
            }
        }
        if (length > limit) {
            throw new ProtocolError("too-long", `${length} bytes in a frame of at most ${limit}`);
        }
        if (length > this.end - at) {
            return undefined;
        }
        this.start = at + length;
        return { type: head & 0x0f, flags: head & 0xf0, body: this.bytes.subarray(at, this.start) };
    }
}

/** A frame whose body is these fields and then this payload. */
export function frame(
    type: number,
    flags: number,
    fields: readonly number[],
    payload: Uint8Array = NOTHING,
): Uint8Array {
    const head = [type | flags];
    putNumber(fields.length + payload.length, head);
    const bytes = new Uint8Array(head.length + fields.length + payload.length);
    bytes.set(head);
    bytes.set(fields, head.length);
    bytes.set(payload, head.length + fields.length);
    return bytes;
}

export const NOTHING = new Uint8Array(0);

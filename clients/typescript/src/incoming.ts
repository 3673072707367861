/**
 * What a server says on one connection: its bytes become frames, and those what they mean. It knows the names of routes
 * and what the welcome has agreed on, and nothing of the session.
 *
 * `push` what has come, then `next` until there is nothing whole left; both after a bad frame throw its error again.
 */

import { readHeartbeat, readNumbered, readRoute, readText } from "./bodies.js";
import { ProtocolError } from "./errors.js";
import { type Refusal, readRefusal, readWait, readWelcome, type Wait, type Welcome } from "./fields.js";
import { type Agreed, COMPRESSED, DROPPABLE, type Frame, FrameReader, Type } from "./frames.js";

/**
 * Names of routes that a server may give on one connection. The protocol sets it no limit; this is what a game with a
 * route for each thing in its world might come to.
 */
const ROUTES_MAX = 65_536;

/** A payload as it came, compressed or not. */
interface Payload {
    readonly payload: Uint8Array;
    readonly compressed: boolean;
    /** Bytes of the frame's body, which count towards the next heartbeat (5.8). */
    readonly bytes: number;
}

export type Said =
    | ({ readonly kind: "welcome" } & Welcome)
    | ({ readonly kind: "refusal" } & Refusal)
    | ({ readonly kind: "wait" } & Wait)
    | { readonly kind: "route"; readonly name: string }
    | ({ readonly kind: "message"; readonly route: string; readonly droppable: boolean } & Payload)
    | ({ readonly kind: "answer"; readonly id: number; readonly error: boolean } & Payload)
    | ({ readonly kind: "heartbeat" } & ReturnType<typeof readHeartbeat>)
    | { readonly kind: "kick"; readonly reason: string }
    | { readonly kind: "redirect"; readonly url: string };

export class Incoming {
    private readonly frames: FrameReader;
    private readonly routes: string[] = [];
    private agreed: Agreed = { welcomed: false, compression: false };
    private failure: ProtocolError | undefined;

    /** @param maxPayload bytes of a payload, as it comes */
    constructor(maxPayload: number) {
        this.frames = new FrameReader(maxPayload);
    }

    push(piece: Uint8Array): void {
        if (this.failure !== undefined) {
            throw this.failure;
        }
        this.frames.push(piece);
    }

    next(): Said | undefined {
        if (this.failure !== undefined) {
            throw this.failure;
        }
        try {
            const frame = this.frames.next(this.agreed);
            return frame && this.read(frame);
        } catch (error) {
            if (error instanceof ProtocolError) {
                this.failure = error;
            }
            throw error;
        }
    }

    private read(frame: Frame): Said {
        const body = frame.body;
        switch (frame.type) {
            case Type.welcome: {
                const welcome = readWelcome(body);
                this.agreed = { welcomed: true, compression: welcome.compression !== undefined };
                return { kind: "welcome", ...welcome };
            }
            case Type.refusal:
                return { kind: "refusal", ...readRefusal(body) };
            case Type.wait:
                return { kind: "wait", ...readWait(body) };
            case Type.route: {
                if (this.routes.length === ROUTES_MAX) {
                    throw new ProtocolError("bad-frame", `more than ${ROUTES_MAX} routes`);
                }
                const name = readRoute(body);
                this.routes.push(name);
                return { kind: "route", name };
            }
            case Type.message: {
                const { number, payload } = readNumbered(body);
                const route = this.routes[number];
                if (route === undefined) {
                    throw new ProtocolError("bad-frame", `route ${number}, which has no name`);
                }
                const droppable = (frame.flags & DROPPABLE) !== 0;
                return { kind: "message", route, droppable, ...part(frame, payload) };
            }
            case Type.reply:
            case Type.error: {
                const { number, payload } = readNumbered(body);
                return { kind: "answer", id: number, error: frame.type === Type.error, ...part(frame, payload) };
            }
            case Type.heartbeat:
                return { kind: "heartbeat", ...readHeartbeat(body) };
            case Type.kick:
                return { kind: "kick", reason: readText(body) };
            case Type.redirect:
                return { kind: "redirect", url: readText(body) };
            default:
                // The reader of frames lets no other type through.
                throw new ProtocolError("bad-frame", `type ${frame.type}`);
        }
    }
}

function part(frame: Frame, payload: Uint8Array): Payload {
    return { payload, compressed: (frame.flags & COMPRESSED) !== 0, bytes: frame.body.length };
}

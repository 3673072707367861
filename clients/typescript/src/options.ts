/** What a program may ask of a client, and what it is told. */

import type { ConnectionFailed } from "./errors.js";
import type { WebSocketLike } from "./transport.js";

export interface ConnectOptions {
    /** Milliseconds to connect and shake hands, each time: 5000. Standing in line is not counted. */
    readonly timeout?: number;
    /** Milliseconds for an answer unless the request says otherwise: 30000. */
    readonly requestTimeout?: number;
    /** Your software's name and version, for the server's log; at most 64 bytes are told. */
    readonly name?: string;
    /** Makes the WebSockets instead of the browser or the package `ws`: to look on, or to disturb them. */
    readonly webSocket?: (url: string) => WebSocketLike;
    /** Whether compression is offered: yes. */
    readonly compression?: boolean;
    /** Bytes of the longest payload that is taken from the server, inflated: 16777215. */
    readonly maxPayload?: number;
    /** Gives up connecting; it has no effect afterwards. */
    readonly signal?: AbortSignal;
    /** Called as this client stands in line, before `connect` has returned one. */
    readonly onWait?: (wait: ClientEvents["wait"]) => void;
}

export interface RequestOptions {
    /** Milliseconds, also of cuts meanwhile. The request itself is not taken back. */
    readonly timeout?: number;
    /** Gives up waiting. */
    readonly signal?: AbortSignal;
    /** The answer's bytes instead of what they say. */
    readonly raw?: boolean;
    /** Never compressed, so that its length does not tell of what is in it. */
    readonly secret?: boolean;
}

export interface NotifyOptions {
    /** About the present: sent at once, or not at all. */
    readonly droppable?: boolean;
    /** Never compressed, so that its length does not tell of what is in it. */
    readonly secret?: boolean;
}

/** What happens to a client, by name. */
export interface ClientEvents {
    /** The server is full: `place` in line, 1 is the next, and milliseconds until then, if the server can tell. */
    wait: { readonly place: number; readonly estimate: number | undefined };
    /** The connection was cut; `delay` milliseconds until it is tried again. */
    reconnecting: { readonly attempt: number; readonly delay: number; readonly reason: string };
    /** Connected again: nothing was lost but what `gap` has told. */
    resumed: Record<never, never>;
    /** So many pushes and answers of the server's were lost; the server sends a snapshot. */
    gap: { readonly lost: number };
    /** A push, whatever its route is; its handlers and subscriptions have it before. */
    push: { readonly route: string; readonly payload: Uint8Array };
    /** The server has sent this client to another address. */
    redirected: { readonly url: string };
    /** After a redirect: another session, which knows nothing of the one before. Log in again. */
    renewed: Record<never, never>;
    /** The end. Without an error it was this client that closed. */
    closed: { readonly error: ConnectionFailed | undefined };
}

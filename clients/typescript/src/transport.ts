/** What carries bytes to a server and back: in a browser, a WebSocket. */

import { UsageError } from "./errors.js";
import { PAYLOAD_MAX } from "./frames.js";

export interface Transport {
    /** Bytes that were sent and have not left yet. */
    readonly buffered: number;
    send(bytes: Uint8Array): void;
    /** What was sent before still goes out. */
    close(): void;
}

/** What a transport tells, each in a later turn than the one it was opened in; nothing after `closed`. */
export interface Listener {
    opened(): void;
    data(bytes: Uint8Array): void;
    /** Once, also if it was never open. */
    closed(reason: string): void;
}

/** UsageError if nothing here carries such a URL. */
export type Open = (url: URL, listener: Listener) => Transport;

/** As much as one message of a server's may have: a frame and what else it says in one turn. */
export const MESSAGE_MAX = 2 * PAYLOAD_MAX;

/** What WebSocket and the package `ws` have in common. */
export interface WebSocketLike {
    binaryType: string;
    readonly bufferedAmount: number;
    onopen: ((event: never) => unknown) | null;
    onmessage: ((event: never) => unknown) | null;
    onclose: ((event: never) => unknown) | null;
    onerror: ((event: never) => unknown) | null;
    send(bytes: Uint8Array<ArrayBuffer>): void;
    close(): void;
}

export function webSockets(make: (url: string) => WebSocketLike): Open {
    return (url, listener) => {
        if (url.protocol !== "ws:" && url.protocol !== "wss:") {
            throw new UsageError(`${url.href}: expected ws:// or wss://`);
        }
        const socket = make(url.href);
        let why: string | undefined;
        socket.binaryType = "arraybuffer";
        socket.onopen = () => listener.opened();
        socket.onmessage = ({ data }: { data: unknown }) => {
            if (why !== undefined) {
                return;
            }
            if (data instanceof ArrayBuffer) {
                listener.data(new Uint8Array(data));
            } else {
                why = "the server sent text: it does not speak photinus here";
                socket.close();
            }
        };
        socket.onerror = ({ message }: { message?: unknown }) => {
            // A browser does not say what it was, so that pages cannot look around in a network.
            why ??= typeof message === "string" && message !== "" ? message : "the connection failed";
        };
        socket.onclose = ({ code, reason }: { code: number; reason: string }) => {
            listener.closed(why ?? `closed by the server (${code}${reason === "" ? "" : ` ${reason}`})`);
        };
        return {
            get buffered() {
                return socket.bufferedAmount;
            },
            send: (bytes) => socket.send(bytes as Uint8Array<ArrayBuffer>),
            close: () => socket.close(),
        };
    };
}

/** The client of Photinus for Node: as for browsers, and over TCP and TLS, too. */

import { type Client, open } from "./client.js";
import { UsageError } from "./errors.js";
import type { ConnectOptions } from "./options.js";
import { sockets } from "./sockets.js";
import { surroundings } from "./surroundings.js";
import { MESSAGE_MAX, type WebSocketLike, webSockets } from "./transport.js";

export * from "./api.js";

/**
 * Connects to the listener at `wss://`, `ws://`, `tls://` or `tcp://`, and shakes hands; from then on the client connects
 * again by itself. ConnectionFailed if that cannot be, UsageError if the URL is none, or the signal's reason.
 */
export async function connect(url: string, options: ConnectOptions = {}): Promise<Client> {
    const webSocket = /^wss?:/i.test(url) ? webSockets(options.webSocket ?? (await webSocketMaker())) : undefined;
    return open(
        url,
        options,
        surroundings((address, listener) => {
            const stream = address.protocol === "tcp:" || address.protocol === "tls:";
            return (stream ? sockets : (webSocket ?? withoutWebSocket))(address, listener);
        }),
    );
}

/** Node's own WebSocket from Node 22 on; before, that of the package `ws`. */
async function webSocketMaker(): Promise<(url: string) => WebSocketLike> {
    if (typeof WebSocket !== "undefined") {
        return (url) => new WebSocket(url);
    }
    // A name that bundlers do not follow, since it may not be there.
    const name = "ws";
    try {
        const { WebSocket } = (await import(name)) as {
            WebSocket: new (url: string, options: object) => WebSocketLike;
        };
        return (url) => new WebSocket(url, { maxPayload: MESSAGE_MAX, perMessageDeflate: false });
    } catch (error) {
        throw new UsageError(`this Node has no WebSocket: npm install ws, or use Node 22 (${String(error)})`);
    }
}

function withoutWebSocket(address: URL): never {
    throw new UsageError(`${address.href}: from tcp:// and tls:// to those alone`);
}

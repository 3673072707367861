/** TCP and TLS of Node. */

import { connect, isIP } from "node:net";
import { connect as connectTls } from "node:tls";

import { UsageError } from "./errors.js";
import type { Open } from "./transport.js";

export const sockets: Open = (url, listener) => {
    // The URL of an IPv6 address has it in brackets.
    const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
    const port = Number(url.port);
    if (host === "" || port === 0) {
        throw new UsageError(`${url.href}: expected a host and a port`);
    }
    const secure = url.protocol === "tls:";
    const socket = secure
        ? connectTls({ host, port, ...(isIP(host) === 0 ? { servername: host } : {}) })
        : connect({ host, port });
    let why = "closed by the server";
    socket.setNoDelay(true);
    socket.on(secure ? "secureConnect" : "connect", () => listener.opened());
    socket.on("data", (bytes: Uint8Array) => listener.data(bytes));
    socket.on("error", (error) => {
        why = error.message;
    });
    socket.on("close", () => listener.closed(why));
    return {
        get buffered() {
            return socket.writableLength;
        },
        send: (bytes) => void socket.write(bytes),
        close: () => void socket.destroySoon(),
    };
};

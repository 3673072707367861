/**
 * The way to the game, which can be cut: what is under way then is lost, and neither side is told anything but that.
 *
 * While it is cut, a WebSocket that the client asks for is not there yet; it is made when the way is open again.
 */

export class Line {
    cut = false;
    #sockets = new Set();

    /** For the client's option `webSocket`. */
    make = (url) => {
        const socket = new CuttableSocket(url, () => this.#sockets.delete(socket));
        this.#sockets.add(socket);
        if (!this.cut) {
            // As with a WebSocket, its handlers are set after it was made.
            socket.begin();
        }
        return socket;
    };

    sever() {
        this.cut = true;
        for (const socket of [...this.#sockets]) {
            socket.sever();
        }
    }

    mend() {
        this.cut = false;
        for (const socket of [...this.#sockets]) {
            socket.begin();
        }
    }
}

class CuttableSocket {
    binaryType = "arraybuffer";
    onopen = null;
    onmessage = null;
    onclose = null;
    onerror = null;
    #url;
    #gone;
    #socket;

    constructor(url, gone) {
        this.#url = url;
        this.#gone = gone;
    }

    get bufferedAmount() {
        return this.#socket?.bufferedAmount ?? 0;
    }

    begin() {
        if (this.#socket !== undefined) {
            return;
        }
        this.#socket = new WebSocket(this.#url);
        this.#socket.binaryType = this.binaryType;
        this.#socket.onopen = (event) => this.onopen?.(event);
        this.#socket.onmessage = (event) => this.onmessage?.(event);
        this.#socket.onerror = (event) => this.onerror?.(event);
        this.#socket.onclose = (event) => this.#end(event);
    }

    send(bytes) {
        this.#socket?.send(bytes);
    }

    close() {
        if (this.#socket === undefined) {
            this.#end({ code: 1006, reason: "" });
        } else {
            this.#socket.close();
        }
    }

    sever() {
        const socket = this.#socket;
        if (socket !== undefined) {
            socket.onopen = socket.onmessage = socket.onerror = socket.onclose = null;
            socket.close();
            this.#end({ code: 1006, reason: "cut on this page" });
        }
    }

    #end(event) {
        this.#gone();
        // In a turn of its own, as a WebSocket tells it.
        queueMicrotask(() => this.onclose?.(event));
    }
}

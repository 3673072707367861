/** Pushes that wait for one reader: `for await (const said of client.subscribe<Said>("said"))`. */

import type { ConnectionFailed } from "./errors.js";

/** Pushes that wait for a slow reader unless it says otherwise; a few seconds of a busy scene. */
export const SUBSCRIPTION_ITEMS = 1024;

export class Subscription<T> implements AsyncIterableIterator<T, undefined> {
    /** Pushes that were dropped, the oldest first, since as many as the limit were waiting. */
    dropped = 0;
    private waiting: Uint8Array[] = [];
    private readers: { resolve(result: IteratorResult<T, undefined>): void; reject(error: unknown): void }[] = [];
    private ended = false;
    private failure: ConnectionFailed | undefined;

    /** Made by `Client.subscribe`. */
    constructor(
        private readonly limit: number,
        private readonly read: (payload: Uint8Array) => unknown,
        private readonly unsubscribe: () => void,
    ) {}

    [Symbol.asyncIterator](): this {
        return this;
    }

    /**
     * The next push. Iteration ends when this client closes, and throws Kicked or another ConnectionFailed when the
     * server or the network ended it, after what came before; Unreadable is one push that is not in the format.
     */
    async next(): Promise<IteratorResult<T, undefined>> {
        const payload = this.waiting.shift();
        if (payload !== undefined) {
            return { done: false, value: this.read(payload) as T };
        }
        if (this.failure !== undefined) {
            throw this.failure;
        }
        if (this.ended) {
            return { done: true, value: undefined };
        }
        return new Promise((resolve, reject) => this.readers.push({ resolve, reject }));
    }

    /** Takes no more pushes and forgets those that wait; leaving a `for await` comes here. */
    async return(): Promise<IteratorResult<T, undefined>> {
        this.unsubscribe();
        this.waiting = [];
        this.end(undefined);
        return { done: true, value: undefined };
    }

    /** For the client: a push has come. */
    put(payload: Uint8Array): void {
        const reader = this.readers.shift();
        if (reader !== undefined) {
            try {
                reader.resolve({ done: false, value: this.read(payload) as T });
            } catch (error) {
                reader.reject(error);
            }
            return;
        }
        if (this.waiting.length >= this.limit) {
            this.waiting.shift();
            this.dropped += 1;
        }
        this.waiting.push(payload);
    }

    /** For the client: no more pushes will come. */
    end(failure: ConnectionFailed | undefined): void {
        if (this.ended) {
            return;
        }
        this.ended = true;
        this.failure = failure;
        for (const reader of this.readers.splice(0)) {
            if (failure === undefined) {
                reader.resolve({ done: true, value: undefined });
            } else {
                reader.reject(failure);
            }
        }
    }
}

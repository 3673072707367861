/**
 * The client: one session on a server, over one connection after the other.
 *
 * The session says what is to be said (session.ts), the transport carries it (transport.ts); here are the promises, the
 * timers, and when to connect again.
 */

import { delay } from "./backoff.js";
import {
    AnswerLost,
    BufferFull,
    type ConnectionFailed,
    ConnectionLost,
    type HandshakeRefused,
    RequestTimeout,
    UsageError,
} from "./errors.js";
import { PAYLOAD_MAX } from "./frames.js";
import { add, guarded } from "./handlers.js";
import type { ClientEvents, ConnectOptions, NotifyOptions, RequestOptions } from "./options.js";
import { type Format, read, readRefusal, write } from "./payload.js";
import { Session, type SessionEvent } from "./session.js";
import { SUBSCRIPTION_ITEMS, Subscription } from "./subscription.js";
import type { Surroundings } from "./surroundings.js";
import type { Transport } from "./transport.js";

/** Milliseconds to connect and shake hands; standing in line is not counted. */
const CONNECT_MS = 5000;
/** Milliseconds for an answer: as long as a session can be resumed, so that a cut alone fails no request. */
const REQUEST_MS = 30_000;
/** A connection that lasted for less was none: the next try waits longer than the one before it. */
const STEADY_MS = 2000;
/** Milliseconds for which the server that a redirect named is tried, if there is nothing to resume. */
const REDIRECT_MS = 30_000;
/** Redirects one after the other, without a steady connection between them. */
const REDIRECTS_MAX = 8;
/** Bytes that have not left, behind which a droppable message would be of the past when it arrives. */
const LATE_BYTES = 64 * 1024;
/** And those behind which nothing is sent: the server does not read. */
const BUFFERED_MAX = 4 * 1024 * 1024;
/** Milliseconds that a farewell may take. */
const CLOSE_MS = 1000;

interface Waiting {
    readonly raw: boolean;
    resolve(answer: unknown): void;
    reject(error: unknown): void;
}

/** Connects to the server at this URL. ConnectionFailed if it cannot be, UsageError if there can be none. */
export async function open(url: string, options: ConnectOptions, surroundings: Surroundings): Promise<Client> {
    options.signal?.throwIfAborted();
    const address = parse(url);
    return new Promise((resolve, reject) => {
        const client = new Client(address, options, surroundings, (error) => {
            options.signal?.removeEventListener("abort", abort);
            if (error === undefined) {
                resolve(client);
            } else {
                reject(error);
            }
        });
        const abort = () => {
            reject(options.signal?.reason);
            void client.close();
        };
        options.signal?.addEventListener("abort", abort);
        client.start();
    });
}

export class Client {
    private readonly session: Session;
    private transport: Transport | undefined;
    private failure: ConnectionFailed | undefined;
    private readonly waiting = new Map<number, Waiting>();
    private readonly readers = new Map<string, Set<(payload: Uint8Array) => void>>();
    private readonly subscriptions = new Set<Subscription<unknown>>();
    private readonly watchers = new Map<string, Set<(event: never) => void>>();

    private attempt = 0;
    private redirects = 0;
    private redirectUntil = 0;
    private openedAt = 0;
    private cancelRetry: (() => void) | undefined;
    private cancelConnecting: (() => void) | undefined;
    private cancelSilence: (() => void) | undefined;
    private gone: (() => void) | undefined;
    private flushing = false;
    private paused = false;

    /** Made by `connect`. */
    constructor(
        private address: URL,
        private readonly options: ConnectOptions,
        private readonly surroundings: Surroundings,
        /** Called once: with the error if there will be no session. */
        private begun: ((error?: Error) => void) | undefined,
    ) {
        this.session = new Session({
            name: options.name,
            compression: options.compression ?? true,
            maxPayload: Math.min(options.maxPayload ?? PAYLOAD_MAX, PAYLOAD_MAX),
        });
    }

    /** Where it is connected, or tries to be: another address than the one given after a redirect. */
    get url(): string {
        return this.address.href;
    }

    /** Whether what is sent goes out at once, and is not kept for the next connection. */
    get connected(): boolean {
        return this.session.open;
    }

    /** Milliseconds to the server and back, once that is known. */
    get roundTrip(): number | undefined {
        const microseconds = this.session.clock.roundTrip;
        return microseconds === undefined ? undefined : microseconds / 1000;
    }

    /**
     * Milliseconds of the server's clock now, as far as can be told. It goes at the rate of the server's world; what a
     * heartbeat corrects may set it back.
     */
    serverTime(): number {
        return this.session.clock.at(this.surroundings.now()) / 1000;
    }

    /**
     * The answer to this message. A cut meanwhile does not matter: the request arrives once, and its answer too.
     *
     * Rejects with Refused, the server's error answer; RequestTimeout; AnswerLost, if a gap has swallowed it; Unreadable,
     * if it is not in the listener's format; BufferFull; UsageError; the signal's reason; or why the session has ended.
     * @param message an object, or its bytes as a Uint8Array
     */
    async request<T = unknown>(
        route: string,
        message?: unknown,
        options?: RequestOptions & { raw?: false },
    ): Promise<T>;
    async request(route: string, message: unknown, options: RequestOptions & { raw: true }): Promise<Uint8Array>;
    async request(route: string, message?: unknown, options: RequestOptions = {}): Promise<unknown> {
        this.check();
        options.signal?.throwIfAborted();
        const id = this.session.request(route, write(message, this.session.format), options.secret ?? false);
        this.flush();
        const timeout = options.timeout ?? this.options.requestTimeout ?? REQUEST_MS;
        let cancel: (() => void) | undefined;
        let abort: (() => void) | undefined;
        try {
            return await new Promise((resolve, reject) => {
                this.waiting.set(id, { raw: options.raw ?? false, resolve, reject });
                const giveUp = (reason: unknown) => {
                    this.waiting.delete(id);
                    reject(reason);
                };
                cancel = this.surroundings.after(timeout, () =>
                    giveUp(new RequestTimeout(`no answer to ${JSON.stringify(route)} within ${timeout} ms`)),
                );
                abort = () => giveUp(options.signal?.reason);
                options.signal?.addEventListener("abort", abort);
            });
        } finally {
            cancel?.();
            if (abort !== undefined) {
                options.signal?.removeEventListener("abort", abort);
            }
        }
    }

    /**
     * Sends a message that is not answered; between two connections it is kept for the next one. `false`: it was
     * droppable, and could not be sent at once. Throws as `request` rejects.
     */
    notify(route: string, message?: unknown, options: NotifyOptions = {}): boolean {
        this.check();
        const payload = write(message, this.session.format);
        const secret = options.secret ?? false;
        if (options.droppable) {
            const late = (this.transport?.buffered ?? 0) > LATE_BYTES;
            if (late || !this.session.droppable(route, payload, secret)) {
                return false;
            }
        } else {
            this.session.message(route, payload, secret);
        }
        this.flush();
        return true;
    }

    /** What the server pushes under this route from now on, as an iterator; past `limit` that wait the oldest go. */
    subscribe<T = unknown>(route: string, options?: { limit?: number; raw?: false }): Subscription<T>;
    subscribe(route: string, options: { limit?: number; raw: true }): Subscription<Uint8Array>;
    subscribe(route: string, options: { limit?: number; raw?: boolean } = {}): Subscription<unknown> {
        const limit = options.limit ?? SUBSCRIPTION_ITEMS;
        if (!(limit >= 1)) {
            throw new UsageError(`a subscription to at most ${limit} pushes`);
        }
        const off = this.listen(route, (payload) => subscription.put(payload));
        const subscription: Subscription<unknown> = new Subscription(limit, this.decoder(options.raw), () => {
            off();
            this.subscriptions.delete(subscription);
        });
        this.subscriptions.add(subscription);
        if (this.failure !== undefined) {
            subscription.end(this.failure);
        }
        return subscription;
    }

    /** Calls the handler with what the server pushes under this route. What is returned ends that. */
    on<T = unknown>(route: string, handler: (message: T) => void, options?: { raw?: false }): () => void;
    on(route: string, handler: (message: Uint8Array) => void, options: { raw: true }): () => void;
    on(route: string, handler: (message: never) => void, options: { raw?: boolean } = {}): () => void {
        const decode = this.decoder(options.raw);
        return this.listen(route, (payload) => guarded(() => handler(decode(payload) as never)));
    }

    /** Calls the handler when this happens to the client. What is returned ends that. */
    when<Name extends keyof ClientEvents>(name: Name, handler: (event: ClientEvents[Name]) => void): () => void {
        return add(this.watchers, name, handler);
    }

    /** Says farewell: the session ends at once, requests that wait are rejected with ConnectionLost, iterators end. */
    async close(): Promise<void> {
        if (this.failure !== undefined) {
            return;
        }
        const failure = new ConnectionLost("closed by this client");
        const gone = new Promise<void>((resolve) => {
            this.gone = resolve;
        });
        const cancel = this.transport && this.surroundings.after(CLOSE_MS, () => this.gone?.());
        this.session.leave(failure);
        this.send();
        this.end(failure, true);
        if (cancel !== undefined) {
            await gone;
            cancel();
        }
    }

    /** For `open`: connects for the first time. */
    start(): void {
        try {
            this.connect();
        } catch (error) {
            this.end(error as ConnectionFailed, false);
        }
    }

    private connect(): void {
        const transport = this.surroundings.open(this.address, {
            opened: () => {
                if (this.transport === transport) {
                    this.session.handleConnected(this.surroundings.now());
                    this.pump();
                }
            },
            data: (bytes) => {
                if (this.transport === transport) {
                    this.session.handleData(bytes, this.surroundings.now());
                    this.pump();
                }
            },
            closed: (reason) => {
                this.gone?.();
                if (this.transport === transport) {
                    this.lose(reason);
                }
            },
        });
        this.transport = transport;
        const timeout = this.options.timeout ?? CONNECT_MS;
        this.cancelConnecting = this.surroundings.after(timeout, () => this.lose(`no handshake within ${timeout} ms`));
    }

    /** Whatever the session has to say, to this program and to the server. */
    private pump(): void {
        while (!this.paused && this.failure === undefined) {
            const event = this.session.pollEvent();
            if (event === undefined) {
                break;
            }
            this.handle(event);
        }
        this.flush();
        this.watchSilence();
    }

    private handle(event: SessionEvent): void {
        switch (event.kind) {
            case "opened":
                this.settled();
                if (event.anew) {
                    this.tell("renewed", {});
                } else {
                    this.begin();
                }
                break;
            case "resumed":
                this.settled();
                if (event.gap) {
                    this.tell("gap", { lost: event.lost });
                }
                this.tell("resumed", {});
                break;
            case "wait": {
                this.cancelConnecting?.();
                const { place, estimate } = event;
                if (this.begun !== undefined) {
                    guarded(() => this.options.onWait?.({ place, estimate }));
                } else {
                    this.tell("wait", { place, estimate });
                }
                break;
            }
            case "message":
                for (const reader of [...(this.readers.get(event.route) ?? [])]) {
                    reader(event.payload);
                }
                this.tell("push", { route: event.route, payload: event.payload });
                break;
            case "answer":
                this.answer(event.id, event.error, event.payload);
                break;
            case "lost": {
                const waiting = this.take(event.id);
                waiting?.reject(new AnswerLost("the session goes on, and what the server answered was lost"));
                break;
            }
            case "refused":
                this.handleRefusal(event.error);
                break;
            case "redirected":
                this.handleRedirect(event.url);
                break;
            case "silent":
                this.lose("the server has fallen silent");
                break;
            case "over":
                this.end(event.error, false);
                break;
        }
    }

    /** The program that awaits this client first gets the chance to subscribe, before pushes are handed out. */
    private begin(): void {
        const begun = this.begun;
        this.begun = undefined;
        begun?.();
        this.paused = true;
        this.surroundings.after(0, () => this.resumeEvents());
    }

    private resumeEvents(): void {
        this.paused = false;
        if (this.failure === undefined) {
            this.pump();
        }
    }

    private answer(id: number, error: boolean, payload: Uint8Array): void {
        const waiting = this.take(id);
        if (waiting === undefined) {
            // Its program has given up waiting.
            return;
        }
        if (error) {
            waiting.reject(readRefusal(payload, this.session.format));
            return;
        }
        try {
            waiting.resolve(waiting.raw ? payload : read(payload, this.session.format));
        } catch (unreadable) {
            waiting.reject(unreadable);
        }
    }

    private take(id: number): Waiting | undefined {
        const waiting = this.waiting.get(id);
        this.waiting.delete(id);
        return waiting;
    }

    private settled(): void {
        this.cancelConnecting?.();
        this.openedAt = this.surroundings.now();
        this.redirectUntil = 0;
    }

    private handleRefusal(error: HandshakeRefused): void {
        if (this.begun === undefined && error.code.startsWith("resume-") && this.redirectUntil > 0) {
            // Where a redirect leads the session may be unknown; there is none left where it came from.
            this.session.forget();
            this.retry(error.message, 0);
        } else if (this.begun === undefined && PASSING.has(error.code)) {
            this.retry(error.message, error.retryAfter ?? 0);
        } else {
            this.end(error, false);
        }
    }

    private handleRedirect(url: string): void {
        const now = this.surroundings.now();
        this.noteSteadiness(now);
        this.redirects += 1;
        let address: URL;
        try {
            address = parse(url);
        } catch {
            this.end(new ConnectionLost(`redirected to ${url}, which is no address`), false);
            return;
        }
        if (this.redirects > REDIRECTS_MAX) {
            this.end(new ConnectionLost(`redirected ${this.redirects} times, at last to ${url}`), false);
        } else if (SECURE.has(this.address.protocol) && !SECURE.has(address.protocol)) {
            // The token would be shown to whoever listens.
            this.end(new ConnectionLost(`redirected from ${this.url} to ${url}, which is not encrypted`), false);
        } else {
            this.address = address;
            this.redirectUntil = now + REDIRECT_MS;
            this.tell("redirected", { url: address.href });
            this.retry(`redirected to ${url}`, 0);
        }
    }

    /** The connection is gone, or to be given up. */
    private lose(reason: string): void {
        const now = this.surroundings.now();
        this.paused = false;
        this.session.handleCut(now);
        // What came before the cut still counts.
        this.pump();
        if (this.failure === undefined && this.cancelRetry === undefined) {
            this.noteSteadiness(now);
            this.retry(reason, 0);
        }
    }

    private noteSteadiness(now: number): void {
        if (this.openedAt > 0 && now - this.openedAt >= STEADY_MS) {
            this.attempt = 0;
            this.redirects = 0;
        }
        this.openedAt = 0;
    }

    /** Connects again after a while, at least `after` milliseconds, or gives up. */
    private retry(reason: string, after: number): void {
        this.drop();
        if (!this.worthTrying()) {
            this.end(new ConnectionLost(reason), false);
            return;
        }
        this.attempt += 1;
        const wait = Math.max(after, delay(this.attempt, this.surroundings.random()));
        this.cancelRetry = this.surroundings.after(wait, () => {
            this.cancelRetry = undefined;
            if (!this.worthTrying()) {
                this.end(new ConnectionLost(reason), false);
                return;
            }
            try {
                this.connect();
            } catch (error) {
                this.end(new ConnectionLost(String(error)), false);
            }
        });
        this.tell("reconnecting", { attempt: this.attempt, delay: wait, reason });
    }

    private worthTrying(): boolean {
        const now = this.surroundings.now();
        return this.session.resumable(now) || now < this.redirectUntil;
    }

    private drop(): void {
        this.cancelConnecting?.();
        const transport = this.transport;
        this.transport = undefined;
        transport?.close();
    }

    private end(failure: ConnectionFailed, expected: boolean): void {
        if (this.failure !== undefined) {
            return;
        }
        this.failure = failure;
        this.drop();
        this.cancelRetry?.();
        this.cancelSilence?.();
        const begun = this.begun;
        this.begun = undefined;
        begun?.(failure);
        for (const waiting of this.waiting.values()) {
            waiting.reject(failure);
        }
        this.waiting.clear();
        for (const subscription of this.subscriptions) {
            subscription.end(expected ? undefined : failure);
        }
        this.tell("closed", { error: expected ? undefined : failure });
    }

    private check(): void {
        if (this.failure !== undefined) {
            throw this.failure;
        }
        const buffered = this.transport?.buffered ?? 0;
        if (buffered > BUFFERED_MAX) {
            throw new BufferFull(`${buffered} bytes have not left yet: the server does not read`);
        }
    }

    /** What is said in one turn of the program goes out together. */
    private flush(): void {
        if (!this.flushing) {
            this.flushing = true;
            queueMicrotask(() => {
                this.flushing = false;
                this.send();
            });
        }
    }

    private send(): void {
        const frames = this.session.pollOutput();
        if (frames.length > 0) {
            this.transport?.send(joined(frames));
        }
    }

    /** One timer, which looks again when it was early: nothing is to be done for each packet that comes. */
    private watchSilence(): void {
        const due = this.session.pollTimeout();
        if (due === undefined || this.cancelSilence !== undefined || this.failure !== undefined) {
            return;
        }
        this.cancelSilence = this.surroundings.after(Math.max(due - this.surroundings.now(), 0), () => {
            this.cancelSilence = undefined;
            this.session.handleTimeout(this.surroundings.now());
            this.pump();
        });
    }

    private decoder(raw: boolean | undefined): (payload: Uint8Array) => unknown {
        const format = (): Format => this.session.format;
        return raw ? (payload) => payload : (payload) => read(payload, format());
    }

    private listen(route: string, reader: (payload: Uint8Array) => void): () => void {
        return add(this.readers, route, reader);
    }

    private tell<Name extends keyof ClientEvents>(name: Name, event: ClientEvents[Name]): void {
        for (const watcher of [...(this.watchers.get(name) ?? [])]) {
            guarded(() => watcher(event as never));
        }
    }
}

/** Refusals that pass; the others would be the same the next time. */
const PASSING = new Set(["full", "overloaded", "shutdown"]);
const SECURE = new Set(["wss:", "tls:"]);

/** A listener's URL, as `photinus run` prints it. Of its options the client needs none but that they fit. */
function parse(url: string): URL {
    let address: URL;
    try {
        address = new URL(url);
    } catch {
        throw new UsageError(`${url}: expected a URL such as wss://example.org/play`);
    }
    const protocol = address.searchParams.get("protocol") ?? "photinus";
    if (protocol !== "photinus") {
        throw new UsageError(`${url}: expected protocol=photinus, the one that this client speaks`);
    }
    address.searchParams.delete("protocol");
    return address;
}

function joined(frames: readonly Uint8Array[]): Uint8Array {
    const bytes = new Uint8Array(frames.reduce((length, frame) => length + frame.length, 0));
    let at = 0;
    for (const frame of frames) {
        bytes.set(frame, at);
        at += frame.length;
    }
    return bytes;
}

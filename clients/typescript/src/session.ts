/**
 * A session without IO: it outlives its connections (docs/protocol.md, 5.11), and both sides' counts are kept here.
 *
 *     apart ──handleConnected──> greeting ──welcome──> open
 *       ^                           │                    │
 *       └────── handleCut, a redirect, a refusal ────────┘          kick, leave, a fault of the server's ──> over
 *
 * Order of calls: `handleConnected` when there is a connection, `handleData` with what it brings, `handleTimeout` when
 * the time of `pollTimeout` has come, `handleCut` when the connection is gone. After each call, and after `request`,
 * `message` and `leave`, all of `pollEvent` and of `pollOutput` is to be taken. Nothing is to be handled from a
 * connection that `handleCut` was called for. Times (`now`) are milliseconds of one clock that never goes back.
 */

import { microseconds, ServerClock } from "./clock.js";
import { inflate } from "./compression.js";
import { BufferFull, type ConnectionFailed, HandshakeRefused, Kicked, ProtocolError, UsageError } from "./errors.js";
import { NEW, RESUMED_WITH_GAP, type Welcome, ZLIB } from "./fields.js";
import { ROUTE_MAX } from "./frames.js";
import { Incoming, type Said } from "./incoming.js";
import { Kept } from "./kept.js";
import { Outgoing } from "./outgoing.js";
import type { Format } from "./payload.js";

/** Names of routes that the server takes on one connection. */
const ROUTES_MAX = 1024;
/** Requests whose answers have not come: as many as a busy client has in several seconds without a connection. */
const UNANSWERED_MAX = 4096;
/** Received since the last heartbeat, after which the other side is told, so that it need not keep more (5.8). */
const TELL_AFTER_FRAMES = 64;
const TELL_AFTER_BYTES = 16_384;
/** Intervals of the server's heartbeats without a sign of life, after which the connection is taken for cut. */
const HEARTBEATS_MISSED = 2;
/** Milliseconds without a word to whoever stands in line: the server has one at least each 5 s (5.4). */
const LINE_SILENCE = 15_000;
/** Milliseconds, if the server gives a token and does not say for how long: the window of one that is not configured. */
const WINDOW = 30_000;
/** In the place of a counted frame's number. */
const ANSWERED = -1;
/** The same for one that was told to be lost, whose answer may come after all. */
const LOST = -2;

export interface SessionOptions {
    /** The client's software, for the server's log. */
    readonly name: string | undefined;
    readonly compression: boolean;
    /** Bytes of a payload from the server, inflated. */
    readonly maxPayload: number;
}

export type SessionEvent =
    /** The first welcome; or, if `anew`, one to another session, and what there was of the one before is gone. */
    | { readonly kind: "opened"; readonly anew: boolean }
    /** Goes on. With a gap, `lost` counted frames of the server's never came; otherwise it is 0. */
    | { readonly kind: "resumed"; readonly gap: boolean; readonly lost: number }
    | { readonly kind: "wait"; readonly place: number; readonly estimate: number | undefined }
    | { readonly kind: "message"; readonly route: string; readonly payload: Uint8Array }
    | { readonly kind: "answer"; readonly id: number; readonly error: boolean; readonly payload: Uint8Array }
    /** The answer to this request will not come. */
    | { readonly kind: "lost"; readonly id: number }
    /** This connection is of no more use, and to be closed. */
    | { readonly kind: "refused"; readonly error: HandshakeRefused }
    | { readonly kind: "redirected"; readonly url: string }
    | { readonly kind: "silent" }
    | { readonly kind: "over"; readonly error: ConnectionFailed };

type Connection = { readonly incoming: Incoming; readonly outgoing: Outgoing };

export class Session {
    readonly clock = new ServerClock();
    private phase: "apart" | "greeting" | "open" | "over" = "apart";
    private connection: Connection | undefined;
    private readonly events: SessionEvent[] = [];
    private welcome: Welcome | undefined;
    private token: Uint8Array | undefined;
    private cutAt = 0;
    private heardAt = 0;
    private inLine = false;

    private kept = new Kept();
    /** What the server has last said that it has received. */
    private acknowledged = 0;
    /** Number of the next counted frame to be sent on this connection. */
    private unsent = 0;
    /** Counted frames that came, and of those what the server has not been told. */
    private received = 0;
    private untold = { frames: 0, bytes: 0 };
    /** Requests whose answers were not taken yet, and which counted frame each was, or that it is answered. */
    private unanswered = new Map<number, number>();
    private lowestFree = 0;
    private readonly routes = new Set<string>();

    constructor(private readonly options: SessionOptions) {}

    get open(): boolean {
        return this.phase === "open";
    }

    get over(): boolean {
        return this.phase === "over";
    }

    /** Of the last welcome; JSON before the first. */
    get format(): Format {
        return this.welcome?.format ?? "json";
    }

    /** Whether what was cut can still be resumed. */
    resumable(now: number): boolean {
        return this.token !== undefined && now < this.cutAt + (this.welcome?.window ?? WINDOW);
    }

    handleConnected(now: number): void {
        const outgoing = new Outgoing();
        this.connection = { incoming: new Incoming(this.options.maxPayload), outgoing };
        this.phase = "greeting";
        this.inLine = false;
        this.heardAt = now;
        outgoing.hello({
            client: this.options.name,
            compression: this.options.compression ? [ZLIB] : undefined,
            resume: this.token && { token: this.token, received: this.received },
        });
    }

    handleData(piece: Uint8Array, now: number): void {
        const connection = this.connection;
        if (connection === undefined || this.phase === "over") {
            return;
        }
        this.heardAt = now;
        try {
            connection.incoming.push(piece);
            // What was said may have ended the connection: then what stands behind is not read.
            while (this.connection === connection && !this.over) {
                const said = connection.incoming.next();
                if (said === undefined) {
                    break;
                }
                this.handle(said, connection, now);
            }
        } catch (error) {
            if (!(error instanceof ProtocolError)) {
                throw error;
            }
            this.end(error);
        }
    }

    handleTimeout(now: number): void {
        const due = this.pollTimeout();
        if (due !== undefined && now >= due) {
            this.handleCut(now);
            this.events.push({ kind: "silent" });
        }
    }

    handleCut(now: number): void {
        this.connection = undefined;
        if (this.phase === "open") {
            this.cutAt = now;
        }
        if (this.phase !== "over") {
            this.phase = "apart";
        }
    }

    /** Gives up the session, so that the next connection begins another one. */
    forget(): void {
        this.token = undefined;
    }

    /**
     * Sends a request, or keeps it until there is a connection. Returns its id, which its answer will carry.
     * BufferFull if too much is kept, UsageError if it cannot be sent at all.
     */
    request(route: string, payload: Uint8Array, secret: boolean): number {
        this.check(route, payload);
        if (this.unanswered.size >= UNANSWERED_MAX) {
            throw new BufferFull(`${UNANSWERED_MAX} requests wait for their answers`);
        }
        let id = this.lowestFree;
        while (this.unanswered.has(id)) {
            id += 1;
        }
        this.unanswered.set(id, this.kept.push({ id, route, payload, secret }));
        this.lowestFree = id + 1;
        this.flush();
        return id;
    }

    /** Sends a message, or keeps it, as `request` does. */
    message(route: string, payload: Uint8Array, secret: boolean): void {
        this.check(route, payload);
        this.kept.push({ id: undefined, route, payload, secret });
        this.flush();
    }

    /** Sends a message if that can be done at once, and says whether. UsageError if it cannot be sent at all. */
    droppable(route: string, payload: Uint8Array, secret: boolean): boolean {
        this.check(route, payload);
        if (this.phase !== "open" || this.connection === undefined) {
            return false;
        }
        this.connection.outgoing.droppable({ id: undefined, route, payload, secret });
        return true;
    }

    /** Says farewell, if there is somebody to say it to. The session is over. */
    leave(error: ConnectionFailed): void {
        if (this.phase === "open") {
            this.connection?.outgoing.leave();
        }
        this.end(error);
    }

    pollEvent(): SessionEvent | undefined {
        const event = this.events.shift();
        if (event?.kind === "answer") {
            // Not before its answer is taken is an id free: else the next request of that id would get it.
            this.unanswered.delete(event.id);
            this.lowestFree = Math.min(this.lowestFree, event.id);
        }
        return event;
    }

    /** What is to be sent on the connection that is there now. */
    pollOutput(): Uint8Array[] {
        return this.connection?.outgoing.frames.splice(0) ?? [];
    }

    /** When `handleTimeout` is to be called, if nothing comes until then. */
    pollTimeout(): number | undefined {
        if (this.phase === "greeting" && this.inLine) {
            return this.heardAt + LINE_SILENCE;
        }
        const interval = this.welcome?.heartbeat ?? 0;
        return this.phase === "open" && interval > 0 ? this.heardAt + HEARTBEATS_MISSED * interval : undefined;
    }

    private handle(said: Said, connection: Connection, now: number): void {
        switch (said.kind) {
            case "welcome":
                this.handleWelcome(said, connection, now);
                break;
            case "refusal":
                this.handleCut(now);
                this.events.push({ kind: "refused", error: new HandshakeRefused(said.code, said.retryAfter) });
                break;
            case "wait":
                this.inLine = true;
                this.events.push({ kind: "wait", place: said.place, estimate: said.estimate });
                break;
            case "route":
                break;
            case "message": {
                const payload = this.inflated(said);
                if (!said.droppable) {
                    this.count(said.bytes, connection, now);
                }
                this.events.push({ kind: "message", route: said.route, payload });
                break;
            }
            case "answer": {
                const asked = this.unanswered.get(said.id) ?? ANSWERED;
                if (asked === ANSWERED) {
                    throw new ProtocolError("bad-frame", `an answer to ${said.id}, which was not asked`);
                }
                const payload = this.inflated(said);
                this.count(said.bytes, connection, now);
                if (asked === LOST) {
                    this.unanswered.delete(said.id);
                    break;
                }
                this.unanswered.set(said.id, ANSWERED);
                this.events.push({ kind: "answer", id: said.id, error: said.error, payload });
                break;
            }
            case "heartbeat":
                this.acknowledge(said.received, "bad-frame");
                this.clock.handleHeartbeat(said.clock, said.rate, said.echo, said.held, now);
                this.heartbeat(connection, now);
                break;
            case "kick":
                this.end(new Kicked(said.reason));
                break;
            case "redirect":
                this.handleCut(now);
                this.events.push({ kind: "redirected", url: said.url });
                break;
        }
    }

    private handleWelcome(welcome: Welcome, connection: Connection, now: number): void {
        const before = this.welcome;
        const compression = welcome.compression;
        if (compression !== undefined && (compression.algorithm !== ZLIB || !this.options.compression)) {
            throw new ProtocolError("bad-handshake", `compression ${compression.algorithm} was not offered`);
        }
        if (before !== undefined && welcome.status !== NEW && before.format !== welcome.format) {
            throw new ProtocolError("bad-handshake", `resumed in ${welcome.format}`);
        }
        if (welcome.status !== NEW && this.token === undefined) {
            throw new ProtocolError("bad-handshake", "resumed, and no token was shown");
        }
        if (welcome.status === NEW) {
            this.begin();
            this.events.push({ kind: "opened", anew: before !== undefined });
        } else {
            this.resume(welcome);
        }
        this.phase = "open";
        this.welcome = welcome;
        this.token = welcome.token;
        connection.outgoing.threshold = compression?.threshold ?? Number.POSITIVE_INFINITY;
        this.clock.handleWelcome(welcome.clock, welcome.rate, welcome.status === NEW, now);
        this.heartbeat(connection, now);
        this.flush();
    }

    /** A session that has not sent or received anything yet. */
    private begin(): void {
        this.lose(Number.POSITIVE_INFINITY);
        this.unanswered = new Map();
        this.lowestFree = 0;
        this.acknowledged = 0;
        this.kept = new Kept();
        this.unsent = 0;
        this.received = 0;
    }

    private resume(welcome: Welcome): void {
        const received = welcome.received as number;
        this.acknowledge(received, "bad-handshake");
        this.unsent = received;
        const gap = welcome.status === RESUMED_WITH_GAP;
        const next = gap ? (welcome.next as number) : this.received;
        if (next < this.received) {
            throw new ProtocolError("bad-handshake", `a gap back to ${next}, and ${this.received} have come`);
        }
        this.events.push({ kind: "resumed", gap, lost: next - this.received });
        this.received = next;
        if (gap) {
            // Of what the server had before the cut, the answers may have been in the gap. Their ids stay taken, in
            // case one comes after all.
            this.lose(received);
        }
    }

    /** No answer will come to what was asked in counted frames before this one. */
    private lose(before: number): void {
        for (const [id, number] of this.unanswered) {
            if (number >= 0 && number < before) {
                this.unanswered.set(id, LOST);
                this.events.push({ kind: "lost", id });
            }
        }
    }

    /** The server has received so many counted frames. */
    private acknowledge(received: number, fault: "bad-frame" | "bad-handshake"): void {
        if (received > this.kept.next) {
            throw new ProtocolError(fault, `${received} received of ${this.kept.next} that were sent`);
        }
        if (received < this.acknowledged) {
            throw new ProtocolError(fault, `${received} received after ${this.acknowledged}`);
        }
        this.acknowledged = received;
        this.kept.drop(received);
    }

    /** Another counted frame has come. */
    private count(bytes: number, connection: Connection, now: number): void {
        this.received += 1;
        this.untold.frames += 1;
        this.untold.bytes += bytes;
        if (this.untold.frames >= TELL_AFTER_FRAMES || this.untold.bytes >= TELL_AFTER_BYTES) {
            this.heartbeat(connection, now);
        }
    }

    private heartbeat(connection: Connection, now: number): void {
        this.untold = { frames: 0, bytes: 0 };
        const echo = this.clock.echo(now);
        connection.outgoing.heartbeat({ received: this.received, clock: microseconds(now), ...echo });
    }

    /** Sends what this connection has not had. Without a token nothing can be resumed, and nothing is kept. */
    private flush(): void {
        if (this.phase !== "open" || this.connection === undefined) {
            return;
        }
        for (; this.unsent < this.kept.next; this.unsent++) {
            this.connection.outgoing.counted(this.kept.at(this.unsent));
        }
        if (this.token === undefined) {
            this.kept.drop(this.unsent);
        }
    }

    private inflated(said: { readonly payload: Uint8Array; readonly compressed: boolean }): Uint8Array {
        const limit = this.options.maxPayload;
        if (said.compressed) {
            return inflate(said.payload, limit);
        }
        if (said.payload.length > limit) {
            throw new ProtocolError("too-long", `a payload of ${said.payload.length} bytes, at most ${limit}`);
        }
        return said.payload;
    }

    private check(route: string, payload: Uint8Array): void {
        const most = this.welcome?.maxPayload ?? 0;
        if (payload.length > most) {
            throw new UsageError(`a payload of ${payload.length} bytes, and the server takes at most ${most}`);
        }
        if (this.routes.has(route)) {
            return;
        }
        const bytes = new TextEncoder().encode(route).length;
        if (bytes < 1 || bytes > ROUTE_MAX) {
            throw new UsageError(`a route has 1 to ${ROUTE_MAX} bytes, and this one ${bytes}`);
        }
        if (this.routes.size === ROUTES_MAX) {
            throw new UsageError(`${JSON.stringify(route)} would be one route more than the ${ROUTES_MAX} that may be`);
        }
        this.routes.add(route);
    }

    private end(error: ConnectionFailed): void {
        this.phase = "over";
        this.token = undefined;
        this.events.push({ kind: "over", error });
    }
}

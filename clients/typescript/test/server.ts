/**
 * A server for the tests, after docs/protocol.md, sections 5.2 to 5.11, without IO: sessions that outlive their
 * connections, and an application that answers each request with its own payload.
 *
 * It shares with the client how numbers are read, and nothing else.
 */

import assert from "node:assert/strict";

import { putClock, putNumber, Reader } from "../src/numbers.js";
import { joined, text, utf8 } from "./bytes.js";

export interface ServerOptions {
    /** Milliseconds; 0: none. */
    readonly heartbeat?: number;
    readonly json?: boolean;
    /** Counted frames that are kept for a resume at most. */
    readonly keep?: number;
    /** No tokens if it is 0. Milliseconds. */
    readonly window?: number;
    readonly threshold?: number;
    readonly maxPayload?: number;
}

/** A counted frame: a push of this route, or an answer to this id. */
interface Sent {
    readonly type: number;
    readonly id?: number;
    readonly route?: string;
    readonly payload: Uint8Array;
}

interface Play {
    token: string;
    previous: string | undefined;
    connection: Connection | undefined;
    received: number;
    base: number;
    kept: Sent[];
}

let tokens = 0;

export class Server {
    /** What the application has got: the route and the payload of every message and request, in order. */
    readonly heard: string[] = [];
    readonly plays: Play[] = [];
    /** Frames to answer the next hello with, instead of a welcome. */
    readonly instead: Uint8Array[] = [];
    readonly leaves: Play[] = [];
    /** How a request is answered, if not with its own payload; `undefined`: not at all. */
    answer: (
        route: string,
        payload: Uint8Array,
    ) => { readonly error: boolean; readonly payload: Uint8Array } | undefined = (_, payload) => ({
        error: false,
        payload,
    });

    constructor(readonly options: ServerOptions = {}) {}

    connect(): Connection {
        return new Connection(this);
    }

    /** The only session that there is. */
    get play(): Play {
        assert.equal(this.plays.length, 1);
        return this.plays[0] as Play;
    }

    push(play: Play, route: string, payload: Uint8Array): void {
        this.send(play, { type: 6, route, payload });
    }

    send(play: Play, sent: Sent): void {
        play.kept.push(sent);
        while (play.kept.length > (this.options.keep ?? Number.POSITIVE_INFINITY)) {
            play.kept.shift();
            play.base += 1;
        }
        play.connection?.put(sent);
    }
}

export class Connection {
    readonly out: Uint8Array[] = [];
    /** Heartbeats that the client has sent. */
    readonly heartbeats: { received: number; clock: bigint; echo: bigint; held: bigint }[] = [];
    play: Play | undefined;
    greeted = false;
    private unread: Uint8Array = new Uint8Array(0);
    private readonly named: string[] = [];
    private readonly names = new Map<string, number>();

    constructor(private readonly server: Server) {}

    take(): Uint8Array[] {
        return this.out.splice(0);
    }

    data(piece: Uint8Array): void {
        this.unread = joined([this.unread, piece]);
        for (;;) {
            const head = this.unread[0];
            let length = 0;
            let at = 1;
            for (let shift = 0; ; shift += 7) {
                const byte = this.unread[at++];
                if (head === undefined || byte === undefined) {
                    return;
                }
                length |= (byte & 0x7f) << shift;
                if (byte < 0x80) {
                    break;
                }
            }
            if (this.unread.length < at + length) {
                return;
            }
            const body = this.unread.subarray(at, at + length);
            this.unread = this.unread.slice(at + length);
            this.frame(head, body);
        }
    }

    heartbeat(clock: bigint, echo = 0n, held = 0n): void {
        const fields: number[] = [];
        putNumber(this.play?.received ?? 0, fields);
        putClock(clock, fields);
        putClock(echo, fields);
        putClock(held, fields);
        putNumber(1_000_000, fields);
        this.raw(10, new Uint8Array(fields));
    }

    put(sent: Sent, flags = 0): void {
        const fields: number[] = [];
        if (sent.route !== undefined) {
            let number = this.names.get(sent.route);
            if (number === undefined) {
                number = this.names.size;
                this.names.set(sent.route, number);
                this.raw(5, utf8(sent.route));
            }
            putNumber(number, fields);
        } else {
            putNumber(sent.id as number, fields);
        }
        this.raw(sent.type | flags, joined([new Uint8Array(fields), sent.payload]));
    }

    raw(head: number, body: Uint8Array): void {
        const length: number[] = [];
        putNumber(body.length, length);
        this.out.push(joined([new Uint8Array([head, ...length]), body]));
    }

    private frame(head: number, body: Uint8Array): void {
        const reader = new Reader(body);
        const type = head & 0x0f;
        if (!this.greeted) {
            assert.equal(type, 1, "a hello comes first");
            this.greeted = true;
            this.hello(reader);
            return;
        }
        const play = this.play;
        assert.ok(play !== undefined, "nothing more before a welcome");
        // Whatever comes after the welcome shows that it has arrived.
        play.previous = undefined;
        switch (type) {
            case 5:
                this.named.push(text(body));
                break;
            case 6:
            case 7: {
                const id = type === 7 ? reader.number() : undefined;
                const route = this.named[reader.number()];
                const payload = reader.rest().slice();
                assert.ok(route !== undefined, "a route is named before it is used");
                if ((head & 0x20) === 0) {
                    play.received += 1;
                }
                this.server.heard.push(`${route} ${text(payload)}`);
                if (id !== undefined) {
                    const answer = this.server.answer(route, payload);
                    if (answer !== undefined) {
                        this.server.send(play, { type: answer.error ? 9 : 8, id, payload: answer.payload });
                    }
                }
                break;
            }
            case 10: {
                const [received, clock, echo, held] = [reader.number(), reader.clock(), reader.clock(), reader.clock()];
                reader.end();
                assert.ok(received <= play.base + play.kept.length, "it has not received more than was sent");
                this.heartbeats.push({ received, clock, echo, held });
                while (play.base < received) {
                    play.kept.shift();
                    play.base += 1;
                }
                break;
            }
            case 13:
                this.server.leaves.push(play);
                this.server.plays.splice(this.server.plays.indexOf(play), 1);
                this.play = undefined;
                break;
            default:
                assert.fail(`type ${type} from a client`);
        }
    }

    private hello(reader: Reader): void {
        const fields = new Map<number, Uint8Array>();
        while (!reader.done) {
            const tag = reader.byte();
            fields.set(tag, reader.take(reader.number()).slice());
        }
        assert.deepEqual(fields.get(1), new Uint8Array([1]));
        const instead = this.server.instead.splice(0);
        if (instead.length > 0) {
            this.out.push(...instead);
            return;
        }
        const resume = fields.get(5);
        if (resume === undefined) {
            const token = this.token();
            this.play = { token, previous: undefined, connection: this, received: 0, base: 0, kept: [] };
            this.server.plays.push(this.play);
            this.welcome(0, []);
            return;
        }
        const token = Buffer.from(resume.subarray(0, 20)).toString("hex");
        const received = new Reader(resume.subarray(20)).number();
        const play = this.server.plays.find((play) => play.token === token || play.previous === token);
        if (play === undefined) {
            this.raw(3, joined([new Uint8Array([1, 14]), utf8("resume-unknown")]));
            return;
        }
        assert.ok(received <= play.base + play.kept.length, "it has not received more than was sent");
        this.play = play;
        play.connection = this;
        // The one that was shown stays good until the client has said something.
        play.previous = token;
        play.token = this.token();
        const progress: number[] = [];
        putNumber(play.received, progress);
        if (received >= play.base) {
            this.welcome(1, [12, progress.length, ...progress]);
            for (const sent of play.kept.slice(received - play.base)) {
                this.put(sent);
            }
        } else {
            const next: number[] = [];
            putNumber(play.base + play.kept.length, next);
            play.base += play.kept.length;
            play.kept = [];
            this.welcome(2, [12, progress.length, ...progress, 13, next.length, ...next]);
        }
    }

    private token(): string {
        tokens += 1;
        return tokens.toString(16).padStart(40, "0");
    }

    private welcome(status: number, progress: number[]): void {
        const { heartbeat = 0, json = false, window = 30_000, threshold, maxPayload = 65_536 } = this.server.options;
        const field = (tag: number, value: readonly number[]) => [tag, value.length, ...value];
        const number = (value: number) => {
            const out: number[] = [];
            putNumber(value, out);
            return out;
        };
        const token = [...Buffer.from((this.play as Play).token, "hex")];
        this.raw(
            2,
            new Uint8Array([
                ...field(1, [1]),
                ...field(2, [status]),
                ...field(3, [json ? 0 : 1]),
                ...field(4, number(heartbeat)),
                ...field(5, number(1_000_000)),
                ...field(7, number(maxPayload)),
                ...(threshold === undefined ? [] : field(8, [1, ...number(threshold)])),
                ...(window === 0 ? [] : [...field(10, token), ...field(11, number(window))]),
                ...progress,
            ]),
        );
    }
}

/** What is said in fields (docs/protocol.md, 5.3 and 5.4): hello, welcome, refusal and wait. */

import { ProtocolError } from "./errors.js";
import { putNumber, Reader } from "./numbers.js";

export const VERSION = 1;
export const TOKEN_BYTES = 20;
/** Algorithms (5.7); there is snappy between them. */
export const ZLIB = 1;
const ZSTD = 3;
/** Bytes of the client's name, which is for logs alone. */
const NAME_MAX = 64;

export interface Hello {
    readonly client?: string | undefined;
    /** Numbers of algorithms. */
    readonly compression?: readonly number[] | undefined;
    readonly resume?: { readonly token: Uint8Array; readonly received: number } | undefined;
}

const WELCOME_TAGS = 13;
export const NEW = 0;
export const RESUMED = 1;
export const RESUMED_WITH_GAP = 2;

export interface Welcome {
    readonly version: number;
    readonly status: number;
    readonly format: "json" | "msgpack";
    /** Milliseconds; 0: none. */
    readonly heartbeat: number;
    /** Microseconds. */
    readonly clock: bigint;
    /** Millionths. */
    readonly rate: number;
    readonly maxPayload: number;
    readonly compression: { readonly algorithm: number; readonly threshold: number } | undefined;
    readonly dictionary: number | undefined;
    readonly token: Uint8Array | undefined;
    /** Milliseconds. */
    readonly window: number | undefined;
    readonly received: number | undefined;
    readonly next: number | undefined;
}

export interface Refusal {
    readonly code: string;
    /** Milliseconds. */
    readonly retryAfter: number | undefined;
}

export interface Wait {
    /** Place in line; 1 is the next. */
    readonly place: number;
    /** Milliseconds until it is this client's turn, if the server can tell. */
    readonly estimate: number | undefined;
}

/** The body of a hello. */
export function hello(said: Hello): number[] {
    const out: number[] = [];
    put(1, [VERSION], out);
    if (said.client !== undefined) {
        put(2, cut(said.client), out);
    }
    if (said.compression !== undefined) {
        put(3, said.compression, out);
    }
    if (said.resume !== undefined) {
        const value = [...said.resume.token];
        putNumber(said.resume.received, value);
        put(5, value, out);
    }
    return out;
}

export function readWelcome(body: Uint8Array): Welcome {
    const fields = read(body, WELCOME_TAGS);
    const algorithm = fields.get(8);
    const status = one(must(fields, 2));
    const format = one(must(fields, 3));
    if (status > RESUMED_WITH_GAP || format > 1) {
        throw malformed(`status ${status}, format ${format}`);
    }
    const clock = new Reader(must(fields, 5), "bad-handshake");
    const welcome: Welcome = {
        version: one(must(fields, 1)),
        status,
        format: format === 0 ? "json" : "msgpack",
        heartbeat: number(must(fields, 4)),
        clock: clock.clock(),
        rate: optional(fields, 6, number) ?? 1_000_000,
        maxPayload: number(must(fields, 7)),
        compression: algorithm === undefined ? undefined : compression(algorithm),
        dictionary: optional(fields, 9, dictionary),
        token: optional(fields, 10, token),
        window: optional(fields, 11, number),
        received: optional(fields, 12, number),
        next: optional(fields, 13, number),
    };
    clock.end();
    if (welcome.version !== VERSION) {
        throw malformed(`version ${welcome.version}`);
    }
    if (status !== NEW && welcome.received === undefined) {
        throw malformed("resumed, and how far the server is was not said");
    }
    if (status === RESUMED_WITH_GAP && welcome.next === undefined) {
        throw malformed("a gap, and where it ends was not said");
    }
    return welcome;
}

export function readRefusal(body: Uint8Array): Refusal {
    const fields = read(body, 2);
    return { code: text(must(fields, 1)), retryAfter: optional(fields, 2, number) };
}

export function readWait(body: Uint8Array): Wait {
    const fields = read(body, 2);
    return { place: number(must(fields, 1)), estimate: optional(fields, 2, number) };
}

/** The fields with tags from 1 to the last that is known; later versions may say more. */
function read(body: Uint8Array, last: number): Map<number, Uint8Array> {
    const reader = new Reader(body, "bad-handshake");
    const fields = new Map<number, Uint8Array>();
    while (!reader.done) {
        const tag = reader.byte();
        const value = reader.take(reader.number());
        if (fields.has(tag)) {
            throw malformed(`tag ${tag} twice`);
        }
        if (tag >= 1 && tag <= last) {
            fields.set(tag, value);
        }
    }
    return fields;
}

function must(fields: Map<number, Uint8Array>, tag: number): Uint8Array {
    const value = fields.get(tag);
    if (value === undefined) {
        throw malformed(`no tag ${tag}`);
    }
    return value;
}

function optional<T>(fields: Map<number, Uint8Array>, tag: number, form: (value: Uint8Array) => T): T | undefined {
    const value = fields.get(tag);
    return value === undefined ? undefined : form(value);
}

function one(value: Uint8Array): number {
    const reader = new Reader(value, "bad-handshake");
    const byte = reader.byte();
    reader.end();
    return byte;
}

function number(value: Uint8Array): number {
    const reader = new Reader(value, "bad-handshake");
    const number = reader.number();
    reader.end();
    return number;
}

function compression(value: Uint8Array): Welcome["compression"] {
    const reader = new Reader(value, "bad-handshake");
    const agreed = { algorithm: reader.byte(), threshold: reader.number() };
    reader.end();
    if (agreed.algorithm < ZLIB || agreed.algorithm > ZSTD) {
        throw malformed(`compression ${agreed.algorithm}`);
    }
    return agreed;
}

function dictionary(value: Uint8Array): number {
    if (value.length !== 4) {
        throw malformed(`a dictionary's id of ${value.length} bytes`);
    }
    return new DataView(value.buffer, value.byteOffset).getUint32(0);
}

function token(value: Uint8Array): Uint8Array {
    if (value.length !== TOKEN_BYTES) {
        throw malformed(`a token of ${value.length} bytes`);
    }
    // The frame's bytes need not stay for as long as the token does.
    return value.slice();
}

function text(value: Uint8Array): string {
    try {
        return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(value);
    } catch {
        throw malformed("text that is no UTF-8");
    }
}

function put(tag: number, value: ArrayLike<number>, out: number[]): void {
    out.push(tag);
    putNumber(value.length, out);
    for (let at = 0; at < value.length; at++) {
        out.push(value[at] as number);
    }
}

/** As many whole characters of a name as may be told. */
function cut(name: string): Uint8Array {
    const room = new Uint8Array(NAME_MAX);
    return room.subarray(0, new TextEncoder().encodeInto(name, room).written);
}

function malformed(what: string): ProtocolError {
    return new ProtocolError("bad-handshake", what);
}

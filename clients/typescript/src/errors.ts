/**
 * What goes wrong, in one small tree that is split by who is at fault.
 *
 *     PhotinusError
 *         Refused                the server's rules: the error answer to a request
 *         UsageError             the caller: something that cannot work as written
 *         BufferFull             the caller: more was sent than can be kept until the server has it
 *         Unreadable             the application's payload is not in the listener's format
 *         ConnectionFailed       the network, or the server
 *             ConnectionLost     the session is gone, or there was never one
 *             HandshakeRefused   the server did not let this client in, or not again
 *             Kicked             the server ended the session and said why
 *             ProtocolError      the server said what the protocol does not allow
 *             RequestTimeout     no answer in the time given
 *             AnswerLost         the session goes on, but this answer was lost in a gap
 */

export class PhotinusError extends Error {
    // The name of the class would be lost in a bundle that shortens names.
    override name = "PhotinusError";
}

/** The error answer to a request. The codes of Photinus' own stand in docs/protocol.md, 1.6. */
export class Refused extends PhotinusError {
    override name = "Refused";
    /**
     * @param code a word that programs look at; `unreadable` if the answer was no map in the listener's format, and
     *   `unknown` if there was no code in it
     * @param fields what the application has added, and `msg`, the text for people
     */
    constructor(
        readonly code: string,
        readonly fields: Readonly<Record<string, unknown>>,
    ) {
        super(typeof fields.msg === "string" && fields.msg !== code ? `${code}: ${fields.msg}` : code);
    }
}

export class UsageError extends PhotinusError {
    override name = "UsageError";
}

export class BufferFull extends PhotinusError {
    override name = "BufferFull";
}

/** A payload is not in the listener's format: if that is meant to be so, ask for its bytes with `raw: true`. */
export class Unreadable extends PhotinusError {
    override name = "Unreadable";
}

export class ConnectionFailed extends PhotinusError {
    override name = "ConnectionFailed";
}

export class ConnectionLost extends ConnectionFailed {
    override name = "ConnectionLost";
}

export class HandshakeRefused extends ConnectionFailed {
    override name = "HandshakeRefused";
    /**
     * @param code one of docs/protocol.md, 5.4
     * @param retryAfter milliseconds after which it is worth trying again, if the server has said so
     */
    constructor(
        readonly code: string,
        readonly retryAfter: number | undefined,
    ) {
        super(`the server refused this client: ${code}`);
    }
}

export class Kicked extends ConnectionFailed {
    override name = "Kicked";
    constructor(readonly reason: string) {
        super(`the server ended the session: ${reason}`);
    }
}

/** The words of docs/protocol.md, 1.5 and 5.7, that a server can deserve. */
export type Fault = "too-long" | "bad-frame" | "bad-handshake" | "bad-compression" | "compression-unsupported";

export class ProtocolError extends ConnectionFailed {
    override name = "ProtocolError";
    constructor(
        readonly reason: Fault,
        what: string,
    ) {
        super(`${reason}: ${what}`);
    }
}

export class RequestTimeout extends ConnectionFailed {
    override name = "RequestTimeout";
}

export class AnswerLost extends ConnectionFailed {
    override name = "AnswerLost";
}

/** What a program imports, whatever it runs on; `connect` comes beside it from index.ts or node.ts. */

export type { Client } from "./client.js";
export {
    AnswerLost,
    BufferFull,
    ConnectionFailed,
    ConnectionLost,
    type Fault,
    HandshakeRefused,
    Kicked,
    PhotinusError,
    ProtocolError,
    Refused,
    RequestTimeout,
    Unreadable,
    UsageError,
} from "./errors.js";
export type { ClientEvents, ConnectOptions, NotifyOptions, RequestOptions } from "./options.js";
export type { Subscription } from "./subscription.js";
export type { WebSocketLike } from "./transport.js";

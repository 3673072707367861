"""The photinus protocol (docs/protocol.md, 5) once more: see reference.py.

A server's reader welcomes whoever says hello to a new session that cannot be resumed, at a clock of one second.
A client's reader has offered every compression.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from tests.wire.reading import Json, Listener, Outcome, Reader, Side, WireError, packet

HELLO, WELCOME, REFUSAL, WAIT, ROUTE, MESSAGE, REQUEST, REPLY, ERROR, HEARTBEAT, KICK, REDIRECT, LEAVE = range(1, 14)
COMPRESSED, DROPPABLE = 0x10, 0x20
CLIENT_FLAGS = {MESSAGE: COMPRESSED | DROPPABLE, REQUEST: COMPRESSED}
SERVER_FLAGS = {MESSAGE: COMPRESSED | DROPPABLE, REPLY: COMPRESSED, ERROR: COMPRESSED}
FROM_SERVER = {ROUTE, MESSAGE, REPLY, ERROR, HEARTBEAT, KICK, REDIRECT}
ALGORITHMS = {"zlib": 1, "snappy": 2, "zstd": 3}
LENGTH_LIMIT = 2**28 - 1


def read(listener: Listener, side: Side, outcome: Outcome) -> Reader:
    return _server(listener, outcome) if side == "server" else _client(outcome)


def _server(listener: Listener, outcome: Outcome) -> Reader:
    limits: dict[int, int] = {
        ROUTE: 255,
        MESSAGE: listener.max_payload + 10,
        REQUEST: listener.max_payload + 10,
        HEARTBEAT: 50,
        LEAVE: 0,
    }
    try:
        _, body = yield from _frame({HELLO: 1024}, "bad-handshake", CLIENT_FLAGS, compression=False)
        hello = _hello(listener, body)
    except WireError as error:
        outcome.reply += frame(REFUSAL, field(1, b"version" if error.reason == "bad-version" else b"bad-handshake"))
        raise
    outcome.events.append(hello)
    outcome.reply += _welcome(listener, {"status": 0, "clock": 1_000_000}, hello["compression"])
    routes = 0
    while True:
        head, body = yield from _frame(limits, "bad-frame", CLIENT_FLAGS, compression=hello["compression"] is not None)
        match head & 15:
            case 5:
                routes += 1
                if routes > 1024:
                    raise WireError("bad-frame")
                outcome.events.append({"event": "route", "name": _text(body, 1)})
            case 6 | 7 as kind:
                number = 0
                if kind == REQUEST:
                    number, body = pop_number(body)
                route, body = pop_number(body)
                if route >= routes:
                    raise WireError("bad-frame")
                if len(body) > listener.max_payload:
                    raise WireError("too-long")
                said = packet("request" if kind == REQUEST else "notify", route, body, number)
                outcome.events.append(said | _flags(head))
            case 10:
                outcome.events.append({"event": "heartbeat"} | _heartbeat(body, "received", "clock", "echo", "held"))
            case _:
                outcome.events.append({"event": "leave"})


def _client(outcome: Outcome) -> Reader:
    welcome: Json | None = None
    while welcome is None:
        head, body = yield from _frame(
            dict.fromkeys((WELCOME, REFUSAL, WAIT), 1024), "bad-handshake", SERVER_FLAGS, compression=False
        )
        fields = _fields(body, 13 if head == WELCOME else 2)
        match head:
            case 2:
                welcome = _read_welcome(fields)
                outcome.events.append(welcome)
            case 3:
                code = _text(_needed(fields, 1), 1)
                outcome.events.append({"event": "refusal", "code": code, "retry_after": _number(fields, 2)})
            case _:
                place = _whole_number(_needed(fields, 1))
                outcome.events.append({"event": "wait", "place": place, "estimate": _number(fields, 2)})
    limits: dict[int, int] = {
        **dict.fromkeys(FROM_SERVER, LENGTH_LIMIT),
        ROUTE: 255,
        HEARTBEAT: 50,
        KICK: 256,
        REDIRECT: 1024,
    }
    routes: list[str] = []
    while True:
        head, body = yield from _frame(
            limits, "bad-frame", SERVER_FLAGS, compression=welcome["compression"] is not None
        )
        match head & 15:
            case 5:
                routes.append(_text(body, 1))
                outcome.events.append({"event": "route", "name": routes[-1]})
            case 6:
                number, body = pop_number(body)
                if number >= len(routes):
                    raise WireError("bad-frame")
                push: Json = {"event": "push", "route": routes[number], "body": body.hex()}
                outcome.events.append(push | _flags(head))
            case 8 | 9 as kind:
                number, body = pop_number(body)
                answer: Json = {"event": "response" if kind == REPLY else "error", "id": number, "body": body.hex()}
                outcome.events.append(answer | _flags(head))
            case 10:
                told = _heartbeat(body, "received", "clock", "echo", "held", "rate")
                outcome.events.append({"event": "heartbeat"} | told)
            case 11:
                outcome.events.append({"event": "kick", "reason": _text(body, 0)})
            case _:
                outcome.events.append({"event": "redirect", "url": _text(body, 0)})


def _frame(
    limits: dict[int, int], elsewhere: str, flags: dict[int, int], compression: bool
) -> Generator[int, bytes, tuple[int, bytes]]:
    """One frame whose type is among these, with its head; any other type is the error `elsewhere`."""
    head = (yield 1)[0]
    kind = head & 15
    if head & 0xF0 & ~flags.get(kind, 0):
        raise WireError("bad-frame")
    if head & COMPRESSED and not compression:
        raise WireError("compression-unsupported")
    if kind not in limits:
        raise WireError(elsewhere)
    digits = bytearray()
    while not digits or digits[-1] & 128:
        if len(digits) == 4:
            raise WireError("bad-frame")
        digits += yield 1
    length, _ = pop_number(bytes(digits))
    if length > limits[kind]:
        raise WireError("too-long")
    return head, (yield length)


def _flags(head: int) -> Json:
    if head < 16:
        return {}
    return {"compressed": bool(head & COMPRESSED), "droppable": bool(head & DROPPABLE)}


def _heartbeat(body: bytes, *names: str) -> Json:
    told: Json = {}
    for name in names:
        told[name], body = pop_number(body, 32 if name in ("received", "rate") else 64)
    if body:
        raise WireError("bad-frame")
    return told


def _text(body: bytes, least: int) -> str:
    if len(body) < least:
        raise WireError("bad-frame")
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise WireError("bad-frame") from None


def pop_number(data: bytes, bits: int = 32) -> tuple[int, bytes]:
    size = next((at + 1 for at, byte in enumerate(data) if byte < 128), 0)
    digits = data[:size]
    number = sum((byte & 127) << 7 * at for at, byte in enumerate(digits))
    if not size or number >> bits or encode_number(number) != digits:
        raise WireError("bad-frame")
    return number, data[size:]


def encode_number(number: int) -> bytes:
    digits = bytearray()
    while number > 127:
        digits.append(128 | number & 127)
        number >>= 7
    return bytes(digits) + bytes([number])


# The handshake of 5.4, in the fields of 5.3.


def _fields(body: bytes, known: int) -> dict[int, bytes]:
    """Malformed ones are `bad-handshake`; a tag that is not among the first `known` may stand as often as it likes."""
    fields: dict[int, bytes] = {}
    while body:
        tag = body[0]
        length, rest = _in_handshake(body[1:], 14)
        if len(rest) < length or (tag in fields and 1 <= tag <= known):
            raise WireError("bad-handshake")
        fields[tag], body = rest[:length], rest[length:]
    return fields


def _in_handshake(data: bytes, bits: int = 32) -> tuple[int, bytes]:
    try:
        return pop_number(data, bits)
    except WireError:
        raise WireError("bad-handshake") from None


def _whole_number(value: bytes, bits: int = 32) -> int:
    number, rest = _in_handshake(value, bits)
    if rest:
        raise WireError("bad-handshake")
    return number


def _number(fields: dict[int, bytes], tag: int, bits: int = 32) -> int | None:
    return _whole_number(fields[tag], bits) if tag in fields else None


def _needed(fields: dict[int, bytes], tag: int, size: int | None = None) -> bytes:
    value = fields.get(tag)
    if value is None or (size is not None and len(value) != size):
        raise WireError("bad-handshake")
    return value


def _hello(listener: Listener, body: bytes) -> Json:
    fields = _fields(body, 5)
    versions, offered = fields.get(1, b""), fields.get(3, b"")
    try:
        name = fields.get(2, b"").decode()
    except UnicodeDecodeError:
        raise WireError("bad-handshake") from None
    if not versions or len(name.encode()) > 64 or len(fields.get(4, b"")) % 4:
        raise WireError("bad-handshake")
    token = received = None
    if 5 in fields:
        token = fields[5][:20].hex()
        received = _whole_number(fields[5][20:])
    if 1 not in versions:
        raise WireError("bad-version")
    chosen = (ALGORITHMS[name] for name in listener.options.get("compress", "").split(",") if name)
    compression = next((number for number in chosen if number in offered), None)
    return {"event": "hello", "compression": compression, "token": token, "received": received}


def _read_welcome(fields: dict[int, bytes]) -> Json:
    told: Json = {
        "event": "welcome",
        "version": _needed(fields, 1, 1)[0],
        "status": _needed(fields, 2, 1)[0],
        "format": _needed(fields, 3, 1)[0],
        "heartbeat": _whole_number(_needed(fields, 4)),
        "clock": _whole_number(_needed(fields, 5), 64),
        "rate": _number(fields, 6) if 6 in fields else 1_000_000,
        "max_payload": _whole_number(_needed(fields, 7)),
        "compression": None,
        "dictionary": _needed(fields, 9, 4).hex() if 9 in fields else None,
        "token": _needed(fields, 10, 20).hex() if 10 in fields else None,
        "window": _number(fields, 11),
        "received": _number(fields, 12),
        "next": _number(fields, 13),
    }
    if 8 in fields:
        told["compression"] = [_needed(fields, 8)[0], _whole_number(fields[8][1:])] if fields[8] else None
    sound = told["version"] == 1 and told["status"] <= 2 and told["format"] <= 1
    sound &= 8 not in fields or (told["compression"] is not None and 1 <= told["compression"][0] <= 3)
    sound &= told["status"] == 0 or told["received"] is not None
    sound &= told["status"] != 2 or told["next"] is not None
    if not sound:
        raise WireError("bad-handshake")
    return told


def _welcome(listener: Listener, message: Json, compression: int | None) -> bytes:
    options = listener.options
    body = field(1, b"\1") + field(2, bytes([message["status"]]))
    body += field(3, bytes([options.get("format", "msgpack") == "msgpack"]))
    body += field(4, encode_number(int(options.get("heartbeat", "10")) * 1000))
    body += field(5, encode_number(message["clock"]))
    if message.get("rate", 1_000_000) != 1_000_000:
        body += field(6, encode_number(message["rate"]))
    body += field(7, encode_number(listener.max_payload))
    if compression is not None:
        body += field(8, bytes([compression]) + encode_number(int(options.get("threshold", "256"))))
    if message.get("token") is not None:
        body += field(10, bytes.fromhex(message["token"])) + field(11, encode_number(message["window"]))
    for tag, name in ((12, "received"), (13, "next")):
        if message.get(name) is not None:
            body += field(tag, encode_number(message[name]))
    return frame(WELCOME, body)


def field(tag: int, value: bytes) -> bytes:
    return bytes([tag]) + encode_number(len(value)) + value


# What either side writes.


def write(listener: Listener, message: Json) -> bytes:
    payload = bytes.fromhex(message.get("body", ""))
    head = COMPRESSED * message.get("compressed", False) | DROPPABLE * message.get("droppable", False)
    match message["kind"]:
        case "hello":
            return frame(HELLO, _write_hello(message))
        case "welcome":
            body = bytes.fromhex(message.get("hello", "0103010101"))[2:]
            return _welcome(listener, message, _hello(listener, body)["compression"])
        case "refusal":
            return frame(REFUSAL, field(1, message["code"].encode()) + _optional(2, message.get("retry_after")))
        case "wait":
            place = field(1, encode_number(message["place"]))
            return frame(WAIT, place + _optional(2, message.get("estimate")))
        case "route":
            return frame(ROUTE, message["name"].encode())
        case "push" | "notify":
            return frame(MESSAGE | head, encode_number(message["index"]), payload)
        case "request":
            ids = encode_number(message["id"]) + encode_number(message["index"])
            return frame(REQUEST | head & COMPRESSED, ids, payload)
        case "response":
            return frame(REPLY | head & COMPRESSED, encode_number(message["id"]), payload)
        case "error":
            return frame(ERROR | head & COMPRESSED, encode_number(message["id"]), payload)
        case "heartbeat":
            names = ("received", "clock", "echo", "held", "rate")
            return frame(HEARTBEAT, b"".join(encode_number(message[name]) for name in names if name in message))
        case "kick":
            return frame(KICK, payload.decode("utf-8", "replace").encode()[:256].decode("utf-8", "ignore").encode())
        case "redirect":
            return frame(REDIRECT, payload)
        case "leave":
            return frame(LEAVE, b"")
        case kind:
            raise ValueError(f"photinus has no message {kind!r}")


def _write_hello(message: Json) -> bytes:
    body = field(1, bytes(message.get("versions", [1])))
    if "client" in message:
        body += field(2, message["client"].encode())
    if "compression" in message:
        body += field(3, bytes(message["compression"]))
    if "token" in message:
        body += field(5, bytes.fromhex(message["token"]) + encode_number(message["received"]))
    return body


def _optional(tag: int, number: Any) -> bytes:
    return b"" if number is None else field(tag, encode_number(number))


def frame(head: int, *body: bytes) -> bytes:
    whole = b"".join(body)
    if len(whole) > LENGTH_LIMIT:
        raise WireError("too-long")
    return bytes([head]) + encode_number(len(whole)) + whole

"""The client protocols of docs/protocol.md once more, written apart from the Rust codecs and in another manner.

A reader is a generator: it yields how many bytes it wants next and is sent exactly those, so a split of the input
cannot show. Both sides are here: what a server reads (from clients) and what a client reads (from servers).

Run as a program it answers one JSON object a line, for tests in other languages:
    {"do": "decode", "listener": {...}, "side": "server", "hex": "..."}
        -> {"events": [...], "reply": "hex", "error": null | reason, "left": bytes}
    {"do": "encode", "listener": {...}, "message": {...}} -> {"hex": "..."} | {"error": reason}
A listener is {"protocol": name, "options": {name: value}, "max_payload": bytes}; the side is that which decodes.
Events and messages are written as in the golden vectors (README.md).
"""

import json
import struct
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn, cast

if __name__ == "__main__":
    # As a program it stands alone: the codecs beside it are found from the repository's root.
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.wire import reference_photinus
from tests.wire.reading import Json, Listener, Outcome, Reader, Side, WireError, packet

__all__ = ["Json", "Listener", "Outcome", "WireError", "answer", "decode", "encode"]

HANDSHAKE, ACK, HEARTBEAT, DATA, KICK = 1, 2, 3, 4, 5
COMPRESSED = 0b1_0000
"""Pitaya's: the payload is a zlib stream. Here it stays one, since codecs hand it on as it is."""


def decode(listener: Listener, side: Side, chunks: Iterable[bytes]) -> Outcome:
    outcome = Outcome()
    reader = _READERS[listener.protocol](listener, side, outcome)
    waiting = bytearray()
    events = 0
    frame = 0  # bytes the reader has had since it last finished a frame
    try:
        wanted = next(reader)
        for chunk in chunks:
            waiting += chunk
            while len(waiting) >= wanted:
                given = bytes(waiting[:wanted])
                del waiting[:wanted]
                frame += wanted
                wanted = reader.send(given)
                if len(outcome.events) > events:
                    events = len(outcome.events)
                    frame = 0
        outcome.left = frame + len(waiting)
    except WireError as error:
        outcome.error = error.reason
    return outcome


def encode(listener: Listener, message: Json) -> bytes:
    return _WRITERS[listener.protocol](listener, message)


# length: section 2


@dataclass(frozen=True)
class _Length:
    size: int
    order: Literal["big", "little"]
    counts_itself: bool

    @staticmethod
    def of(listener: Listener) -> "_Length":
        if listener.protocol != "length":
            return _Length(int(listener.protocol.removeprefix("length")), "big", False)
        options = listener.options
        return _Length(
            int(options.get("size", "4")),
            "little" if options.get("order", "big") == "little" else "big",
            options.get("counts_itself", "0") == "1",
        )


def _read_length(listener: Listener, side: Side, outcome: Outcome) -> Reader:
    form = _Length.of(listener)
    while True:
        length = int.from_bytes((yield form.size), form.order)
        if form.counts_itself:
            length -= form.size
        if length < 0:
            raise WireError("bad-frame")
        if side == "server" and length > listener.max_payload:
            raise WireError("too-long")
        outcome.events.append(packet("message", None, (yield length)))


def _write_length(listener: Listener, message: Json) -> bytes:
    if message["kind"] in ("kick", "error"):
        return b""
    form = _Length.of(listener)
    body = bytes.fromhex(message["body"])
    try:
        return (len(body) + form.size * form.counts_itself).to_bytes(form.size, form.order) + body
    except OverflowError:
        raise WireError("too-long") from None


# firefly: section 3


def _firefly_prefix(listener: Listener) -> bytes:
    magic = bytes.fromhex(listener.options.get("magic", "0000000000"))
    return magic + struct.pack("!I", int(listener.options.get("version", "0")))


def _read_firefly(listener: Listener, side: Side, outcome: Outcome) -> Reader:
    prefix = _firefly_prefix(listener)
    while True:
        for place, expected in enumerate(prefix):
            if (yield 1)[0] != expected:
                raise WireError("bad-magic" if place < 5 else "bad-version")
        length, command = struct.unpack("!II", (yield 8))
        if length < 4:
            raise WireError("bad-frame")
        if side == "server" and length - 4 > listener.max_payload:
            raise WireError("too-long")
        outcome.events.append(packet("message", command, (yield length - 4)))


def _write_firefly(listener: Listener, message: Json) -> bytes:
    if message["kind"] in ("kick", "error"):
        return b""
    body = bytes.fromhex(message["body"])
    return _firefly_prefix(listener) + struct.pack("!II", len(body) + 4, message["number"]) + body


# pomelo: section 4


def _read_pomelo(listener: Listener, side: Side, outcome: Outcome) -> Reader:
    return _pomelo_server(listener, outcome) if side == "server" else _pomelo_client(outcome)


def _pomelo_server(listener: Listener, outcome: Outcome) -> Reader:
    # What may come, and how long it may be, before the handshake, before its acknowledgement, and after.
    stages: list[dict[int, int]] = [
        {HANDSHAKE: 8192},
        {ACK: 64, HEARTBEAT: 64},
        {DATA: listener.max_payload + 261, HEARTBEAT: 64},
    ]
    refusals = [_package(HANDSHAKE, b'{"code":500,"sys":{}}'), b"", b""]
    stage = 0
    while True:
        kind = (yield 1)[0]
        if kind not in stages[stage]:
            outcome.reply += refusals[stage]
            raise WireError("bad-handshake" if 1 <= kind <= 4 else "bad-frame")
        length = int.from_bytes((yield 3), "big")
        if length > stages[stage][kind]:
            outcome.reply += refusals[stage]
            raise WireError("too-long")
        body = yield length
        if kind == HANDSHAKE:
            if not _is_json_object(body):
                outcome.reply += refusals[stage]
                raise WireError("bad-handshake")
            outcome.reply += _package(HANDSHAKE, _welcome(listener))
            outcome.events.append({"event": "control"})
            stage = 1
        elif kind == ACK:
            outcome.events.append({"event": "opened"})
            stage = 2
        elif kind == HEARTBEAT:
            outcome.events.append({"event": "control"})
        else:
            outcome.events.append(_pomelo_message(body, listener))


def _welcome(listener: Listener) -> bytes:
    seconds = int(listener.options.get("heartbeat", "30"))
    told: Json = {"heartbeat": seconds} if seconds else {}
    told["serializer"] = listener.options.get("format", "json")
    return json.dumps({"code": 200, "sys": told}, separators=(",", ":")).encode()


def _pomelo_message(body: bytes, listener: Listener) -> Json:
    try:
        flag, rest = body[0], body[1:]
        compressed = bool(flag & COMPRESSED)
        if compressed and "compress" not in listener.options:
            raise WireError("compression-unsupported")
        flag &= ~COMPRESSED
        if flag not in (0b000_0, 0b001_0):
            raise WireError("bad-frame")
        number = 0
        if flag == 0b000_0:
            number, rest = _pop_id(rest)
        length, rest = rest[0], rest[1:]
        if len(rest) < length:
            raise WireError("bad-frame")
        route, payload = rest[:length].decode("utf-8"), rest[length:]
    except (IndexError, UnicodeDecodeError):
        raise WireError("bad-frame") from None
    if len(payload) > listener.max_payload:
        raise WireError("too-long")
    said = packet("notify" if flag else "request", route, payload, number)
    return said | ({"compressed": True, "droppable": False} if compressed else {})


def _pop_id(data: bytes) -> tuple[int, bytes]:
    size = next((at + 1 for at, byte in enumerate(data[:4]) if byte < 128), None)
    if size is None:
        raise WireError("bad-frame")
    number = sum((byte & 127) * 128**at for at, byte in enumerate(data[:size]))
    # With zeros to spare, how many bytes there were is a part of it: the answer has the same ones.
    spare = size > 1 and data[size - 1] == 0
    return number + 2**28 * size * spare, data[size:]


def _pomelo_client(outcome: Outcome) -> Reader:
    while True:
        head = yield 4
        body = yield int.from_bytes(head[1:], "big")
        outcome.events.append(_pomelo_answer(head[0], body))


def _pomelo_answer(kind: int, body: bytes) -> Json:
    if kind == HANDSHAKE:
        return {"event": "handshake", "value": json.loads(body)}
    if kind == HEARTBEAT and not body:
        return {"event": "heartbeat"}
    if kind == KICK:
        return {"event": "kick", "value": json.loads(body)}
    if kind != DATA or not body:
        raise WireError("bad-frame")
    flag, rest = body[0] & ~COMPRESSED, body[1:]
    marks = {"compressed": True} if body[0] & COMPRESSED else {}
    if flag in (0b00_010_0, 0b10_010_0):
        number, payload = _pop_id(rest)
        return {"event": "error" if flag & 0b10_000_0 else "response", "id": number, "body": payload.hex()} | marks
    if flag == 0b00_011_0:
        length = rest[0]
        return {"event": "push", "route": rest[1 : 1 + length].decode(), "body": rest[1 + length :].hex()} | marks
    raise WireError("bad-frame")


def _write_pomelo(_listener: Listener, message: Json) -> bytes:
    kind = message["kind"]
    payload = bytes.fromhex(message.get("body", ""))
    mark = COMPRESSED if message.get("compressed") else 0
    match kind:
        case "handshake":
            return _package(HANDSHAKE, payload)
        case "ack":
            return _package(ACK, b"")
        case "heartbeat":
            return _package(HEARTBEAT, b"")
        case "kick":
            reason = json.dumps({"reason": payload.decode()}, separators=(",", ":"), ensure_ascii=False)
            return _package(KICK, _short_escapes_spelt_out(reason).encode())
        case "request":
            return _package(DATA, bytes([0x00 | mark]) + _id(message["id"]) + _route(message["name"]) + payload)
        case "notify":
            return _package(DATA, bytes([0x02 | mark]) + _route(message["name"]) + payload)
        case "response":
            return _package(DATA, bytes([0x04 | mark]) + _id(message["id"]) + payload)
        case "error":
            return _package(DATA, bytes([0x24 | mark]) + _id(message["id"]) + payload)
        case "push":
            return _package(DATA, bytes([0x06 | mark]) + _route(message["name"]) + payload)
        case _:
            raise ValueError(f"pomelo has no message {kind!r}")


def _package(kind: int, body: bytes) -> bytes:
    try:
        return bytes([kind]) + len(body).to_bytes(3, "big") + body
    except OverflowError:
        raise WireError("too-long") from None


def _id(number: int) -> bytes:
    size, number = divmod(number, 2**28)
    digits = [number & 127]
    while (number := number >> 7) or len(digits) < size:
        digits[-1] |= 128
        digits.append(number & 127)
    return bytes(digits)


def _route(name: str) -> bytes:
    encoded = name.encode()
    if len(encoded) > 255:
        raise WireError("route-too-long")
    return bytes([len(encoded)]) + encoded


def _short_escapes_spelt_out(text: str) -> str:
    """4.8 has one escape for control characters, where Python's json has a short one for some."""
    pieces = text.split("\\\\")
    for short, code in zip("bfnrt", (8, 12, 10, 13, 9), strict=True):
        pieces = [piece.replace(f"\\{short}", f"\\u{code:04x}") for piece in pieces]
    return "\\\\".join(pieces)


def _is_json_object(body: bytes) -> bool:
    """Python's parser knows NaN and Infinity, and does not bound the depth: both are added here."""

    def no_constant(name: str) -> NoReturn:
        raise ValueError(name)

    try:
        text = body.decode("utf-8")
        # Numbers stay text: Python refuses to convert very long ones.
        value: object = json.loads(text, parse_constant=no_constant, parse_int=str, parse_float=str)
        return text.strip(" \t\r\n").startswith("{") and _depth(value) <= 64
    except (ValueError, RecursionError):
        return False


def _depth(value: object) -> int:
    if isinstance(value, dict):
        inner = list(cast("dict[str, object]", value).values())
    elif isinstance(value, list):
        inner = cast("list[object]", value)
    else:
        return 0
    return 1 + max(map(_depth, inner), default=0)


_READERS: dict[str, Callable[[Listener, Side, Outcome], Reader]] = {
    "length": _read_length,
    "length2": _read_length,
    "length4": _read_length,
    "firefly": _read_firefly,
    "pomelo": _read_pomelo,
    "photinus": reference_photinus.read,
}
_WRITERS: dict[str, Callable[[Listener, Json], bytes]] = {
    "length": _write_length,
    "length2": _write_length,
    "length4": _write_length,
    "firefly": _write_firefly,
    "pomelo": _write_pomelo,
    "photinus": reference_photinus.write,
}


def answer(question: Json) -> Json:
    listener = Listener.of(question["listener"])
    if question["do"] == "decode":
        outcome = decode(listener, question["side"], [bytes.fromhex(question["hex"])])
        return {
            "events": outcome.events,
            "reply": outcome.reply.hex(),
            "error": outcome.error,
            "left": outcome.left,
        }
    try:
        return {"hex": encode(listener, question["message"]).hex()}
    except WireError as error:
        return {"error": error.reason}


def main() -> None:
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

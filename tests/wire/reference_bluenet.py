"""What nodes say to each other (docs/bluenet.md) once more, written apart from the Rust code and in another manner.

Headers are numbers that are shifted, frames are read by a generator as the client protocols are (reading.py), and a
hello is a function from what both sides know to the messages between them.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.wire.reading import Json, Outcome, Reader, WireError

KINDS = ("session", "sessions", "group", "space", "service", "app", "node", "control")
PRIORITIES = ("bulk", "usual", "high", "control")
FLAGS = ("compressed", "droppable", "traced", "request", "secret")
ROLES = ("proxy", "world")
OWN = ("ack", "ping", "pong")
REASONS = (
    "version",
    "cluster",
    "secret",
    "generation",
    "same-node",
    "unknown-link",
    "role",
    "other-node",
    "full",
)
HELLO, ANSWER, PROOF, WELCOME, REFUSED = 1, 2, 3, 4, 5
VERSION = 1


# 1: headers


def encode_header(header: Json) -> bytes:
    first = (
        KINDS.index(header["kind"]) * 32
        + header["hops"] * 8
        + PRIORITIES.index(header["priority"]) * 2
        + int(header["ext"])
    )
    flags = sum(2 ** FLAGS.index(flag) for flag in header["flags"])
    return struct.pack(">BBII", first, flags, header["destination"], header["source"])


def decode_header(data: bytes) -> Json:
    if len(data) < 10:
        raise WireError("bad-frame")
    first, flags, destination, source = struct.unpack(">BBII", data[:10])
    if flags >= 2 ** len(FLAGS):
        raise WireError("bad-frame")
    return {
        "kind": KINDS[first // 32],
        "hops": first // 8 % 4,
        "priority": PRIORITIES[first // 2 % 4],
        "ext": first % 2 == 1,
        "flags": [name for bit, name in enumerate(FLAGS) if flags & 2**bit],
        "destination": destination,
        "source": source,
    }


def _is_own(header: Json) -> bool:
    return (header["kind"], header["destination"], header["source"]) == ("control", 0, 0)


# 2: frames


def encode(event: Json) -> bytes:
    """A frame, or what a link says for itself: {"event": "frame", "header": …, "payload": hex}, or {"event": "ack",
    "received": [4 counts]}, or "ping" or "pong" with a "stamp" too."""
    if event["event"] == "frame":
        return _frame(encode_header(event["header"]) + bytes.fromhex(event["payload"]))
    payload = struct.pack(">B4I", 1 + OWN.index(event["event"]), *event["received"])
    if event["event"] != "ack":
        payload += struct.pack(">Q", event["stamp"])
    return _frame(b"\xe6" + bytes(9) + payload)


def _frame(content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + content


def decode(max_frame: int, sent: list[int], chunks: Iterable[bytes]) -> Outcome:
    """What an end makes of what comes, which has sent so many frames of each lane itself."""
    outcome = Outcome()
    reader = _frames(max_frame, sent, outcome)
    waiting = bytearray()
    frame = 0  # bytes the reader has had since it last finished a frame
    try:
        wanted = next(reader)
        for chunk in chunks:
            waiting += chunk
            while len(waiting) >= wanted:
                events = len(outcome.events)
                given = bytes(waiting[:wanted])
                del waiting[:wanted]
                frame += wanted
                wanted = reader.send(given)
                if len(outcome.events) > events:
                    frame = 0
        outcome.left = frame + len(waiting)
    except WireError as error:
        outcome.error = error.reason
    return outcome


def _frames(max_frame: int, sent: list[int], outcome: Outcome) -> Reader:
    acknowledged = [0, 0, 0, 0]
    received = [0, 0, 0, 0]
    stamp: int | None = None
    while True:
        if stamp is not None:  # what is answered when all has been read
            outcome.reply[:] = encode({"event": "pong", "received": received, "stamp": stamp})
        length = int.from_bytes((yield 3), "big")
        if length < 10:
            raise WireError("bad-frame")
        if length > max_frame:
            raise WireError("too-long")
        start = yield 10
        header = decode_header(start)
        payload = b"" if length == 10 else (yield length - 10)
        if not _is_own(header):
            received[PRIORITIES.index(header["priority"])] += 1
            outcome.events.append({"event": "frame", "header": header, "payload": payload.hex()})
            continue
        event = _own(start, payload)
        for lane, count in enumerate(event["received"]):
            if not acknowledged[lane] <= count <= sent[lane]:
                raise WireError("bad-frame")
            acknowledged[lane] = count
        if event["event"] == "ping":
            stamp = event["stamp"]
        outcome.events.append(event)


def _own(header: bytes, payload: bytes) -> Json:
    if header != b"\xe6" + bytes(9) or not payload or not 1 <= payload[0] <= len(OWN):
        raise WireError("bad-frame")
    name = OWN[payload[0] - 1]
    if len(payload) != (17 if name == "ack" else 25):
        raise WireError("bad-frame")
    event: Json = {"event": name, "received": list(struct.unpack(">4I", payload[1:17]))}
    if name != "ack":
        (event["stamp"],) = struct.unpack(">Q", payload[17:])
    return event


# 3: hellos


def _message(tag: int, fields: bytes) -> bytes:
    return struct.pack(">HB", 1 + len(fields), tag) + fields


def greeting(node: Json, link: int) -> bytes:
    """The fields of a HELLO: {"cluster", "node", "generation", "roles": [names], "schema", "nonce": hex}."""
    names = b""
    for key in ("cluster", "node"):
        name = node[key].encode()
        names += bytes([len(name)]) + name
    roles = sum(2 ** ROLES.index(role) for role in node["roles"])
    numbers = struct.pack(">QBQQ", node["generation"], roles, node["schema"], link)
    return b"PHLK" + struct.pack(">H", VERSION) + names + numbers + bytes.fromhex(node["nonce"])


def _prove(secret: bytes, label: bytes, said: bytes) -> bytes:
    return hmac.digest(secret, label + said, "sha256")


def hello(node: Json, link: int) -> bytes:
    return _message(HELLO, greeting(node, link))


def refused(reason: str) -> bytes:
    return _message(REFUSED, bytes([1 + REASONS.index(reason)]))


def converse(about: Json) -> Iterator[bytes]:
    """The messages of a hello that ends in a welcome, dialler and acceptor in turn: {"secret": hex, "link",
    "dialler", "acceptor", "resumes", "resumed", "received": {"dialler", "acceptor"}}."""
    secret = bytes.fromhex(about["secret"])
    said = hello(about["dialler"], about["link"])
    yield said
    fields = greeting(about["acceptor"], about["link"])
    answer = struct.pack(">HB", 1 + len(fields) + 32, ANSWER) + fields
    answer += _prove(secret, b"photinus-link-accept", said + answer)
    said += answer
    yield answer
    counts = struct.pack(">4I", *about["received"]["dialler"])
    proof = struct.pack(">HBB", 1 + 1 + 16 + 32, PROOF, about["resumes"]) + counts
    yield proof + _prove(secret, b"photinus-link-dial", said + proof)
    yield _message(WELCOME, struct.pack(">4I?", *about["received"]["acceptor"], about["resumed"]))


@dataclass
class Judged:
    """What an acceptor makes of the first bytes that it hears."""

    reply: bytes = b""
    refused: str | None = None
    error: str | None = None


def judge(acceptor: Json, secret: bytes, data: bytes) -> Judged:
    try:
        link = _greeted(acceptor, data)
    except WireError as error:
        return Judged(error=error.reason)
    except _RefusedError as refusal:
        # Who is told that he is refused has nothing to say to it.
        reply = b"" if data[2] == REFUSED else refused(refusal.reason)
        return Judged(reply, refusal.reason)
    if link is None:
        return Judged()
    fields = greeting(acceptor, link)
    answer = struct.pack(">HB", 1 + len(fields) + 32, ANSWER) + fields
    return Judged(reply=answer + _prove(secret, b"photinus-link-accept", data + answer))


class _RefusedError(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _greeted(acceptor: Json, data: bytes) -> int | None:
    """The link's number; None: the message is not whole."""
    if len(data) < 2:
        return None
    length = int.from_bytes(data[:2], "big")
    if length == 0:
        raise WireError("bad-handshake")
    if length > 512:
        raise WireError("too-long")
    if len(data) == 2:
        return None
    if data[2] not in (HELLO, REFUSED):
        raise WireError("bad-handshake")
    if len(data) < 2 + length:
        return None
    rest = data[3 : 2 + length]
    if data[2] == REFUSED:
        if len(rest) != 1 or not 1 <= rest[0] <= len(REASONS):
            raise WireError("bad-handshake")
        raise _RefusedError(REASONS[rest[0] - 1])
    if len(rest) < 4:
        raise WireError("bad-handshake")
    if rest[:4] != b"PHLK":
        raise WireError("bad-magic")
    if len(rest) < 6:
        raise WireError("bad-handshake")
    if rest[4:6] != struct.pack(">H", VERSION):
        raise _RefusedError("version")
    rest = rest[6:]
    names: list[str] = []
    for _ in range(2):
        if not rest or len(rest) < 1 + rest[0]:
            raise WireError("bad-handshake")
        try:
            name = rest[1 : 1 + rest[0]].decode()
        except UnicodeDecodeError:
            raise WireError("bad-handshake") from None
        if not 1 <= rest[0] <= 64 or any(ord(of) < 32 or 127 <= ord(of) < 160 for of in name):
            raise WireError("bad-handshake")
        names.append(name)
        rest = rest[1 + rest[0] :]
    if len(rest) != 8 + 1 + 8 + 8 + 16 or rest[8] not in (1, 2, 3):
        raise WireError("bad-handshake")
    if names[0] != acceptor["cluster"]:
        raise _RefusedError("cluster")
    link: int = struct.unpack(">Q", rest[17:25])[0]
    return link

"""The client protocols as a raw client writes and reads them, each under the name of its listener."""

from __future__ import annotations

import itertools
from typing import NamedTuple, Protocol

import msgspec

HANDSHAKE, ACK, HEARTBEAT, DATA, KICK = 1, 2, 3, 4, 5
COMPRESSED = 0x10
"""Among the flags of pomelo and of photinus."""
HELLO = b'{"sys":{"type":"raw","version":"0"},"user":{}}'


class Said(NamedTuple):
    """One thing that the server said."""

    kind: str
    """message, response, error, push, kick, heartbeat or handshake"""
    body: bytes
    number: int = 0
    """The id of what is answered, or Firefly's command."""
    route: str = ""
    compressed: bool = False
    """The body is as it came."""


class Codec(Protocol):
    """One per client: it counts the ids of requests."""

    has_errors: bool
    """Requests are answered, if need be with an error; and a kick says why."""
    serializer: str

    def packet(self, body: bytes, route: str = "go") -> bytes:
        """Something that the handler of `go` answers: where there are no names, any packet."""
        ...

    def take(self, data: bytearray) -> Said | None:
        """Removes the first frame from `data`, if it is whole."""
        ...


class Length:
    has_errors = False
    serializer = "msgpack"

    def __init__(self, size: int) -> None:
        self.size = size

    def packet(self, body: bytes, route: str = "go") -> bytes:
        return len(body).to_bytes(self.size, "big") + body

    def take(self, data: bytearray) -> Said | None:
        end = self.size + int.from_bytes(data[: self.size], "big")
        if len(data) < max(self.size, end):
            return None
        return Said("message", _cut(data, end)[self.size :])


class Plain:
    """A message of a WebSocket is a packet."""

    has_errors = False
    serializer = "msgpack"

    def packet(self, body: bytes, route: str = "go") -> bytes:
        return body

    def take(self, data: bytearray) -> Said | None:
        return Said("message", _cut(data, len(data))) if data else None


class Firefly:
    has_errors = False
    serializer = "msgpack"

    def packet(self, body: bytes, route: str = "go", *, command: int = 1) -> bytes:
        return bytes(9) + (len(body) + 4).to_bytes(4, "big") + command.to_bytes(4, "big") + body

    def take(self, data: bytearray) -> Said | None:
        end = 13 + int.from_bytes(data[9:13], "big")
        if len(data) < max(17, end):
            return None
        assert data[:9] == bytes(9)
        frame = _cut(data, end)
        return Said("message", frame[17:], int.from_bytes(frame[13:17], "big"))


class Pomelo:
    has_errors = True
    serializer = "json"

    def __init__(self) -> None:
        self._ids = itertools.count(1)

    def packet(self, body: bytes, route: str = "go", *, flags: int = 0) -> bytes:
        return self.request(next(self._ids), body, route, flags=flags)

    def request(self, number: int, body: bytes, route: str = "go", *, flags: int = 0) -> bytes:
        return package(DATA, bytes([flags]) + leb128(number) + name(route) + body)

    def notify(self, body: bytes, route: str = "go", *, flags: int = 0) -> bytes:
        return package(DATA, bytes([2 | flags]) + name(route) + body)

    def take(self, data: bytearray) -> Said | None:
        end = 4 + int.from_bytes(data[1:4], "big")
        if len(data) < max(4, end):
            return None
        frame = _cut(data, end)
        kind, body = frame[0], frame[4:]
        if kind == DATA:
            return _message(body)
        return Said({HANDSHAKE: "handshake", HEARTBEAT: "heartbeat", KICK: "kick"}[kind], body)


class Photinus:
    has_errors = True
    serializer = "msgpack"

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._named: list[str] = []
        self._pushes: list[str] = []

    def packet(self, body: bytes, route: str = "go", *, flags: int = 0) -> bytes:
        naming, number = self.route(route)
        return naming + frame(7 | flags, leb128(next(self._ids)) + number + body)

    def notify(self, body: bytes, route: str = "go", *, flags: int = 0) -> bytes:
        naming, number = self.route(route)
        return naming + frame(6 | flags, number + body)

    def route(self, route: str) -> tuple[bytes, bytes]:
        """The frame that names it, unless it has been named; and its number."""
        if route in self._named:
            return b"", leb128(self._named.index(route))
        self._named.append(route)
        return frame(5, route.encode()), leb128(len(self._named) - 1)

    def take(self, data: bytearray) -> Said | None:
        whole = _whole(data)
        if whole is None:
            return None
        head, body = whole
        kind, compressed = head & 15, bool(head & COMPRESSED)
        if kind == 5:
            self._pushes.append(body.decode())
            return self.take(data)
        if kind == 6:
            number, payload = _number(body)
            return Said("push", payload, route=self._pushes[number], compressed=compressed)
        if kind in (8, 9):
            number, payload = _number(body)
            return Said("response" if kind == 8 else "error", payload, number, compressed=compressed)
        return Said({2: "handshake", 3: "handshake", 10: "heartbeat", 11: "kick"}[kind], body)


def codec_of(protocol: str) -> Codec:
    codecs: dict[str, Codec] = {
        "length2": Length(2),
        "length4": Length(4),
        "firefly": Firefly(),
        "plain": Plain(),
        "pomelo": Pomelo(),
        "photinus": Photinus(),
    }
    return codecs[protocol]


ALL = ("length2", "length4", "firefly", "pomelo", "photinus")


def package(kind: int, body: bytes = b"") -> bytes:
    """One of pomelo's."""
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def frame(head: int, body: bytes = b"") -> bytes:
    """One of photinus'."""
    return bytes([head]) + leb128(len(body)) + body


def name(route: str) -> bytes:
    return bytes([len(route.encode())]) + route.encode()


def leb128(number: int) -> bytes:
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def reason_of(kick: Said) -> str:
    assert kick.kind == "kick"
    if not kick.body.startswith(b"{"):
        return kick.body.decode()
    return str(msgspec.json.decode(kick.body)["reason"])


def _message(body: bytes) -> Said:
    flag, rest = body[0] & ~COMPRESSED, body[1:]
    compressed = bool(body[0] & COMPRESSED)
    if flag == 0x06:
        end = 1 + rest[0]
        return Said("push", rest[end:], route=rest[1:end].decode(), compressed=compressed)
    number = size = 0
    while True:
        number |= (rest[size] & 127) << 7 * size
        size += 1
        if rest[size - 1] < 128:
            return Said({0x04: "response", 0x24: "error"}[flag], rest[size:], number, compressed=compressed)


def _whole(data: bytearray) -> tuple[int, bytes] | None:
    """Head and body of the first frame, removed from `data`."""
    size = next((at + 1 for at, byte in enumerate(data[1:]) if byte < 128), 0)
    if not size:
        return None
    length, _ = _number(bytes(data[1 : 1 + size]))
    end = 1 + size + length
    if len(data) < end:
        return None
    head = data[0]
    return head, _cut(data, end)[1 + size :]


def _number(data: bytes) -> tuple[int, bytes]:
    number = 0
    for at, byte in enumerate(data):
        number |= (byte & 127) << 7 * at
        if byte < 128:
            return number, data[at + 1 :]
    raise AssertionError("half a number")


def _cut(data: bytearray, end: int) -> bytes:
    frame = bytes(data[:end])
    del data[:end]
    return frame

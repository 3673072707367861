"""The client protocols as a raw client writes and reads them, each under the name of its listener."""

from __future__ import annotations

import itertools
from typing import NamedTuple, Protocol

import msgspec

HANDSHAKE, ACK, HEARTBEAT, DATA, KICK = 1, 2, 3, 4, 5
HELLO = b'{"sys":{"type":"raw","version":"0"},"user":{}}'


class Said(NamedTuple):
    """One thing that the server said."""

    kind: str
    """message, response, error, push, kick, heartbeat or handshake"""
    body: bytes
    number: int = 0
    """The id of what is answered, or Firefly's command."""
    route: str = ""


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

    def packet(self, body: bytes, route: str = "go") -> bytes:
        return self.request(next(self._ids), body, route)

    def request(self, number: int, body: bytes, route: str = "go") -> bytes:
        return package(DATA, b"\x00" + leb128(number) + name(route) + body)

    def notify(self, body: bytes, route: str = "go") -> bytes:
        return package(DATA, b"\x02" + name(route) + body)

    def take(self, data: bytearray) -> Said | None:
        end = 4 + int.from_bytes(data[1:4], "big")
        if len(data) < max(4, end):
            return None
        frame = _cut(data, end)
        kind, body = frame[0], frame[4:]
        if kind == DATA:
            return _message(body)
        return Said({HANDSHAKE: "handshake", HEARTBEAT: "heartbeat", KICK: "kick"}[kind], body)


def codec_of(protocol: str) -> Codec:
    codecs: dict[str, Codec] = {
        "length2": Length(2),
        "length4": Length(4),
        "firefly": Firefly(),
        "pomelo": Pomelo(),
    }
    return codecs[protocol]


ALL = ("length2", "length4", "firefly", "pomelo")


def package(kind: int, body: bytes = b"") -> bytes:
    """One of pomelo's."""
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


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
    return str(msgspec.json.decode(kick.body)["reason"])


def _message(body: bytes) -> Said:
    flag, rest = body[0], body[1:]
    if flag == 0x06:
        end = 1 + rest[0]
        return Said("push", rest[end:], route=rest[1:end].decode())
    number = size = 0
    while True:
        number |= (rest[size] & 127) << 7 * size
        size += 1
        if rest[size - 1] < 128:
            return Said({0x04: "response", 0x24: "error"}[flag], rest[size:], number)


def _cut(data: bytearray, end: int) -> bytes:
    frame = bytes(data[:end])
    del data[:end]
    return frame

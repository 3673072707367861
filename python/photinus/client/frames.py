"""The frames of the photinus protocol as bytes: docs/protocol.md, 5.1 to 5.3.

A frame is u8 head (type, flags) | length of the body | body; lengths and numbers are LEB128 in its shortest form.
What is malformed raises ProtocolError with the reason of section 1.5.
"""

from __future__ import annotations

from enum import IntEnum

from .events import ProtocolError

COMPRESSED, DROPPABLE = 0x10, 0x20
# A length field has four bytes of seven bits.
LENGTH_BITS = 28
MAX_BODY_BYTES = 2**LENGTH_BITS - 1


class Type(IntEnum):
    HELLO = 1
    WELCOME = 2
    REFUSAL = 3
    WAIT = 4
    ROUTE = 5
    MESSAGE = 6
    REQUEST = 7
    REPLY = 8
    ERROR = 9
    HEARTBEAT = 10
    KICK = 11
    REDIRECT = 12
    LEAVE = 13


class Fault(ProtocolError):
    """A frame of the server's breaks the protocol; `reason` is the word for it."""

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(f"{what} ({reason})")
        self.reason = reason


def put_frame(head: int, out: bytearray, *parts: bytes | bytearray) -> None:
    """Appends a frame. ValueError if its length field cannot count it."""
    length = sum(map(len, parts))
    if length > MAX_BODY_BYTES:
        raise ValueError(f"a frame has at most {MAX_BODY_BYTES} bytes, not {length}")
    out.append(head)
    put_number(length, out)
    for part in parts:
        out += part


def put_number(number: int, out: bytearray) -> None:
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def numbers(*values: int) -> bytes:
    out = bytearray()
    for value in values:
        put_number(value, out)
    return bytes(out)


def take_number(data: bytes | bytearray, at: int, bits: int = 32) -> tuple[int, int]:
    """The number that begins there, and where it ends; -1 as its end if it is not whole."""
    value = shift = 0
    for index in range(at, len(data)):
        byte = data[index]
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if value >> bits or (byte == 0 and shift > 7):
                raise Fault("bad-frame", "a number that is too long")
            return value, index + 1
        if shift >= bits:
            break
    if shift >= bits:
        raise Fault("bad-frame", "a number that is too long")
    return 0, -1


def whole_number(data: bytes, at: int, bits: int = 32) -> tuple[int, int]:
    """The same where nothing more will come."""
    value, end = take_number(data, at, bits)
    if end < 0:
        raise Fault("bad-frame", "half a number")
    return value, end


def put_field(tag: int, value: bytes, out: bytearray) -> None:
    out.append(tag)
    put_number(len(value), out)
    out += value


class Fields:
    """The fields of a body (5.3); everything that is wrong with one is `bad-handshake`."""

    def __init__(self, body: bytes, known: int) -> None:
        """Tags from 1 to `known` stand at most once; others are skipped."""
        self._values: dict[int, bytes] = {}
        at = 0
        while at < len(body):
            tag = body[at]
            length, at = self._number(body, at + 1, 14)
            if at + length > len(body) or tag in self._values:
                raise _bad(f"field {tag}")
            if 1 <= tag <= known:
                self._values[tag] = body[at : at + length]
            at += length

    def __contains__(self, tag: int) -> bool:
        return tag in self._values

    def value(self, tag: int, size: int | None = None) -> bytes:
        value = self._values.get(tag)
        if value is None or (size is not None and len(value) != size):
            raise _bad(f"field {tag}")
        return value

    def text(self, tag: int) -> str:
        return self.value(tag).decode("utf-8", errors="replace")

    def number(self, tag: int, bits: int = 32, *, at: int = 0) -> int:
        """The number that is the value, from this byte on."""
        value = self.value(tag)
        number, end = self._number(value, at, bits)
        if end != len(value):
            raise _bad(f"field {tag}")
        return number

    def _number(self, data: bytes, at: int, bits: int) -> tuple[int, int]:
        try:
            return whole_number(data, at, bits)
        except Fault:
            raise _bad("a number in a field") from None


def _bad(what: str) -> Fault:
    return Fault("bad-handshake", f"{what} of the handshake is malformed")

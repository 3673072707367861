"""What is in the frames of calls, behind their headers.

    call:    varint number | varint milliseconds left | varint length, target | msgpack of the arguments, an array
    answer:  varint number | status, one byte | what belongs to the status

The target is the method's name, a blank and the address: `transfer Bank/7`. A call with the number 0 wants no
answer. Each other has exactly one, and until that has come its number, which is its caller's own, is
not used again: so an answer that comes late is never taken for another's.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import Any, Final, cast

import msgspec

from ..errors import CallFailed, CallMismatch, CallTimeout, RemoteError, Unreachable
from ..message import UNDECODABLE, refusal

# The most bytes of a call's arguments, or of its result. A link's frame holds 1 MiB, of which this leaves 1 KiB to the
# headers, the number, the deadline and the target. What is larger is data to be stored, not a call's.
MAX_CALL_BYTES = 2**20 - 1024
# The most bytes of a target. What it names is looked up in memory and stands in logs.
MAX_TARGET_BYTES = 255
# Characters that are told of a foreign exception's text: for a person, not for a program.
MAX_ERROR_TEXT = 1000
# Deadlines are told in milliseconds up to a day, which bounds the number on the wire.
MAX_MILLISECONDS = 24 * 3600 * 1000


class Status(IntEnum):
    RESULT = 0
    """msgpack of the result."""
    REFUSED = 1
    """msgpack of the error answer of docs/protocol.md, 1.6."""
    RAISED = 2
    """msgpack of [type, text]."""
    MISMATCH = 3
    """msgpack of [code, text]."""
    TIMEOUT = 4
    """Nothing: it was cancelled at its deadline."""
    UNREACHABLE = 5
    """msgpack of [sent, text]."""
    CANCELLED = 6
    """Nothing: its caller had it cancelled."""
    CANCEL = 7
    """No answer but a caller's wish: this call of mine is to be cancelled."""


# The same as bare numbers, for the two that every call meets.
RESULT: Final = 0
CANCEL: Final = 7


class Malformed(Exception):
    """The bytes of a frame are not those of a call or an answer."""


@lru_cache(maxsize=16384)
def varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_varint(body: bytes, at: int) -> tuple[int, int]:
    """A number of up to 32 bits, and where it ends."""
    value = 0
    for shift in range(0, 35, 7):
        if at >= len(body):
            break
        byte = body[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise Malformed("a number that has no end")


def target_of(method: str, address: str) -> bytes:
    """The target with its length before it."""
    target = f"{method} {address}".encode()
    return varint(len(target)) + target


def parse_target(target: bytes) -> tuple[str, str]:
    """Method and address."""
    try:
        method, _, address = target.decode().partition(" ")
    except UnicodeDecodeError:
        raise Malformed("a target that is no text") from None
    return method, address


def raised(error: BaseException) -> bytes:
    text = str(error)
    return msgspec.msgpack.encode([type(error).__qualname__, text[:MAX_ERROR_TEXT]])


def mismatch(code: str, text: str) -> bytes:
    return msgspec.msgpack.encode([code, text[:MAX_ERROR_TEXT]])


def unreachable(text: str, *, sent: bool) -> bytes:
    return msgspec.msgpack.encode([sent, text[:MAX_ERROR_TEXT]])


def failure(status: int, body: bytes, what: str, node: str) -> Exception:
    """The exception that an answer with this status is for the caller of `what`."""
    try:
        if status == Status.REFUSED:
            return refusal(body, "msgpack")
        if status == Status.TIMEOUT:
            return CallTimeout(f"{what} was not done by its deadline")
        if status == Status.CANCELLED:
            return Unreachable(f"{what} was cancelled on {node}", sent=True)
        first, text = msgspec.msgpack.decode(body, type=tuple[Any, str])
    except UNDECODABLE:
        return _unreadable(what, node)
    if status == Status.RAISED:
        return RemoteError(str(first), text)
    if status == Status.MISMATCH:
        return CallMismatch(str(first), text)
    if status == Status.UNREACHABLE:
        return Unreachable(text, sent=cast(object, first) is not False)
    return _unreadable(what, node)


def _unreadable(what: str, node: str) -> CallFailed:
    return Unreachable(f"{what}: the answer of {node} cannot be read", sent=True)

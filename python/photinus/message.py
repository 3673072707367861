"""Messages and their serialisers: typed structs to bytes and back, and the body of error answers.

A session's protocol says which format it speaks: JSON or MessagePack. Encoders and decoders are
made once and handed to the engine, which calls them without Python between; what is `bytes` is
never touched.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Struct

from .errors import Refused

T = TypeVar("T", bound=Struct | bytes)

ENCODERS: dict[str, Callable[[Any], bytes]] = {
    "json": msgspec.json.Encoder().encode,
    "msgpack": msgspec.msgpack.Encoder().encode,
}

# What decoding raises where the bytes are at fault. Text that is no UTF-8 has an exception of Python's own.
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError)

# The same into a buffer, which takes on the length of what is written.
ENCODERS_INTO: dict[str, Callable[[Any, bytearray], None]] = {
    "json": msgspec.json.Encoder().encode_into,
    "msgpack": msgspec.msgpack.Encoder().encode_into,
}


@cache
def decoders(kind: type[Struct]) -> dict[str, Callable[[bytes], Any]]:
    """One decoder a format. Kept for good, as the types themselves are."""
    return {"json": msgspec.json.Decoder(kind).decode, "msgpack": msgspec.msgpack.Decoder(kind).decode}


def encode(message: object, serializer: str) -> bytes:
    return message if isinstance(message, bytes) else ENCODERS[serializer](message)


def decode(body: bytes, kind: type[T], serializer: str) -> T:
    """The body as this type; msgspec.ValidationError names the field that does not fit."""
    if issubclass(kind, bytes):
        return cast(T, body)
    return cast(T, decoders(kind)[serializer](body))


def error_body(error: BaseException, serializer: str) -> bytes:
    """What the peer is told of an exception: `{"code", "msg", fields…}`, and never more than that.

    TypeError if a Refused carries a field that cannot be encoded.
    """
    body: dict[str, object]
    if isinstance(error, Refused):
        body = {"code": error.code, "msg": error.code, **error.fields}
    elif is_bad_message(error):
        # msgspec's text names the field and what was expected of it, and nothing of the server.
        body = {"code": "bad-message", "msg": str(error)}
    else:
        body = {"code": "internal", "msg": "internal error"}
    try:
        return ENCODERS[serializer](body)
    except Exception as problem:  # noqa: BLE001 - an unknown type, too large a number, too deep: it is one mistake
        what = f"Refused({body['code']!r}) cannot be told: one of its fields ({', '.join(body)}) cannot be encoded"
        raise TypeError(f"{what}: {problem}") from error


def is_bad_message(error: BaseException) -> bool:
    """Whether the engine's decoding of the peer's bytes raised this, and not the handler's code.

    A decoder that the engine calls has no Python frame under it, so its error has no traceback;
    the same error out of a handler, which decoded something of its own, has the handler's.
    """
    return isinstance(error, UNDECODABLE) and error.__traceback__ is None


def refusal(body: bytes, serializer: str) -> Refused:
    """The error answer with this body, as the client's exception."""
    decoder = msgspec.json.decode if serializer == "json" else msgspec.msgpack.decode
    try:
        fields = decoder(body)
    except UNDECODABLE:
        fields = None
    if not isinstance(fields, dict):
        return Refused("unreadable", msg="the error answer of the server could not be read")
    named = {str(name): value for name, value in cast(dict[object, object], fields).items()}
    code = str(named.pop("code", "")) or "unknown"
    if named.get("msg") == code:
        del named["msg"]
    return Refused(code, **named)

"""The client's side of the pomelo protocol, without IO: bytes in, events and bytes out.

Order of calls: `handshake` once; `handle_data` whenever bytes have come, then `poll_event` until
it returns None; `request` and `notify` once Opened has been seen. What is to be sent is appended to
the `out` that a call is given. After a ProtocolError every later `handle_data` raises it again.

A package is u8 type | u24 length, big-endian | body. The body of a data package is a flag byte
(bits 1-3 its type, bit 0 a numbered route, bit 4 compressed, bit 5 an error answer: the last two
are Pitaya's), a LEB128 id (requests and responses), the route (all but responses), the payload.
The protocol is specified in docs/protocol.md.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

import msgspec
from msgspec import Struct

from ..message import UNDECODABLE
from .events import Event, Kick, Opened, ProtocolError, Push, Response

HANDSHAKE, HANDSHAKE_ACK, HEARTBEAT, DATA, KICK = 1, 2, 3, 4, 5
REQUEST, NOTIFY, RESPONSE, PUSH = 0, 1, 2, 3
NUMBERED, COMPRESSED, ERROR = 0x01, 0x10, 0x20

HEADER_BYTES = 4
# The length field has three bytes, and a client trusts its server with what that allows.
MAX_BODY_BYTES = 2**24 - 1
# A request's id is a u32 on the server.
MAX_ID = 2**32 - 1


class Pomelo:
    """One connection's protocol state. Its sessions end with their connection."""

    format: Literal["json", "msgpack"] = "json"
    resumable = False
    room = True
    window = 0.0

    def __init__(self, *, name: str = "photinus-python", version: str = "1") -> None:
        self._state: Literal["new", "shaking", "open"] = "new"
        self._client = {"type": name, "version": version}
        self._input = bytearray()
        self._events: deque[Event] = deque()
        self._error: ProtocolError | None = None
        self._id = 0

    @property
    def opened(self) -> bool:
        return self._state == "open"

    def handshake(self, out: bytearray, now: float = 0.0) -> None:  # noqa: ARG002 - it knows no time
        self._state = "shaking"
        _package(HANDSHAKE, msgspec.json.encode({"sys": self._client, "user": {}}), out)

    def handle_data(self, data: bytes, out: bytearray, now: float = 0.0) -> None:  # noqa: ARG002
        """Takes what the server sent, in whatever pieces; answers handshake and heartbeats."""
        if self._error is not None:
            raise self._error
        self._input += data
        try:
            self._handle_packages(out)
        except ProtocolError as error:
            self._error = error
            raise

    def poll_event(self) -> Event | None:
        return self._events.popleft() if self._events else None

    def request(self, route: str, body: bytes, out: bytearray, *, secret: bool = False) -> int:  # noqa: ARG002
        """Appends a request; its answer will carry the id that is returned. Nothing is compressed, secret or not."""
        # 0 is what servers take for "no id".
        self._id = self._id % MAX_ID + 1
        _message(REQUEST, self._id, route, body, out)
        return self._id

    def notify(
        self,
        route: str,
        body: bytes,
        out: bytearray,
        *,
        droppable: bool = False,  # noqa: ARG002 - the protocol has no mark for it
        secret: bool = False,  # noqa: ARG002
    ) -> None:
        _message(NOTIFY, None, route, body, out)

    def leave(self, out: bytearray) -> None:
        """The protocol has no farewell; the connection is closed."""

    def cut(self) -> None:
        self.forget()

    def forget(self) -> None:
        """For the next connection, which is another session."""
        self._state = "new"
        self._input.clear()
        self._events.clear()
        self._error = None

    def _handle_packages(self, out: bytearray) -> None:
        while len(self._input) >= HEADER_BYTES:
            end = HEADER_BYTES + int.from_bytes(self._input[1:HEADER_BYTES], "big")
            if len(self._input) < end:
                return
            kind, body = self._input[0], bytes(self._input[HEADER_BYTES:end])
            del self._input[:end]
            self._handle_package(kind, body, out)

    def _handle_package(self, kind: int, body: bytes, out: bytearray) -> None:
        if kind == HEARTBEAT:
            # The server sends the first one, and takes any answer as a sign of life.
            _package(HEARTBEAT, b"", out)
        elif kind == HANDSHAKE and self._state == "shaking":
            self._handle_handshake(body)
            _package(HANDSHAKE_ACK, b"", out)
        elif kind == DATA and self._state == "open":
            self._handle_message(body)
        elif kind == KICK:
            self._events.append(Kick(_kick_reason(body)))
        else:
            raise ProtocolError(f"unexpected package of type {kind}")

    def _handle_handshake(self, body: bytes) -> None:
        try:
            answer = msgspec.json.decode(body, type=_Handshake)
        except UNDECODABLE as error:
            raise ProtocolError(f"unreadable handshake: {error}") from error
        if answer.code != 200:
            raise ProtocolError(f"the server refused the handshake with code {answer.code}")
        self._state = "open"
        self._events.append(Opened(answer.sys.heartbeat))

    def _handle_message(self, body: bytes) -> None:
        if not body:
            raise ProtocolError("empty message")
        flag = body[0]
        kind = flag >> 1 & 0x07
        if flag & COMPRESSED:
            raise ProtocolError("compressed message, which was not agreed on")
        if kind == RESPONSE:
            number, start = _leb128(body, 1)
            self._events.append(Response(number, body[start:], bool(flag & ERROR)))
        elif kind == PUSH and not flag & NUMBERED:
            end = 2 + body[1] if len(body) > 1 else 2
            if len(body) < end:
                raise ProtocolError("push with half a route")
            route = body[2:end].decode("utf-8", errors="replace")
            self._events.append(Push(route, body[end:]))
        else:
            raise ProtocolError(f"message with flag {flag:#04x}, which was not agreed on")


class _HandshakeSystem(Struct):
    heartbeat: float = 0.0


class _Handshake(Struct):
    code: int = 0
    sys: _HandshakeSystem = msgspec.field(default_factory=_HandshakeSystem)


class _KickBody(Struct):
    reason: str = "kicked"


def _kick_reason(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_KickBody).reason if body else "kicked"
    except UNDECODABLE:
        # A reason that cannot be read is no reason to be kicked in another way.
        return "kicked"


def _message(kind: int, number: int | None, route: str, body: bytes, out: bytearray) -> None:
    name = route.encode()
    if len(name) > 255:
        raise ValueError(f"a route's name has at most 255 bytes, not {len(name)}")
    message = bytearray((kind << 1,))
    if number is not None:
        while number > 0x7F:
            message.append(number & 0x7F | 0x80)
            number >>= 7
        message.append(number)
    message.append(len(name))
    message += name
    message += body
    _package(DATA, message, out)


def _package(kind: int, body: bytes | bytearray, out: bytearray) -> None:
    if len(body) > MAX_BODY_BYTES:
        raise ValueError(f"a package has at most {MAX_BODY_BYTES} bytes, not {len(body)}")
    out.append(kind)
    out += len(body).to_bytes(3, "big")
    out += body


def _leb128(data: bytes, start: int) -> tuple[int, int]:
    """The number that begins at `start`, and where it ends."""
    value = 0
    for index, byte in enumerate(data[start : start + 5]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, start + index + 1
    raise ProtocolError("response with a broken id")

"""The client's side of the photinus protocol, without IO: bytes in, events and bytes out.

It is one session, which outlives its connections. Order of calls: `handshake` when a connection has been made;
`handle_data` whenever bytes have come, then `poll_event` until it returns None; `cut` when the connection is gone, and
`handshake` again with the next, which resumes the session if `resumable`, or after `forget` begins another.
`request` and `notify` once Opened has been seen, while there is `room`, also between two connections. What is to be
sent is appended to the `out` that a call is given; `now` is in seconds, of any clock that does not go back. After a
ProtocolError every later `handle_data` raises it again, until the next connection.

Counted frames (messages that are not droppable, requests and their answers) have numbers that are never sent. What
the server is not known to have received is kept, and sent again. The protocol is specified in docs/protocol.md, 5.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Literal

from msgspec import Struct

from .clock import ServerClock, microseconds
from .compression import Algorithm, available
from .events import Elsewhere, Event, InLine, Kick, Opened, ProtocolError, Push, Response, Turned
from .frames import COMPRESSED, DROPPABLE, Fault, Fields, Type, numbers, put_field, put_frame, take_number, whole_number

VERSION = 1
TOKEN_BYTES = 20
# A client trusts its server with what it trusts pomelo's.
MAX_PAYLOAD_BYTES = 2**24 - 1
# An id, or a route's number.
NUMBER_BYTES = 5
# What a server says in a handshake is in short fields; 5.2 gives a client's as much.
MAX_HANDSHAKE_BYTES = 1024
MAX_HEARTBEAT_BYTES = 50
MAX_ROUTE_BYTES = 255
MAX_REASON_BYTES = 256
MAX_URL_BYTES = 1024
MAX_ROUTES = 1024
# A server answers so many, or so many bytes of them, with a heartbeat at the latest (5.8), and takes four times as long
# if it has nothing to say: what is kept of a client that is read stays far below the bounds.
COUNTED_FRAMES, COUNTED_BYTES = 64, 16 * 1024
KEPT_FRAMES, KEPT_BYTES = 4096, 1024 * 1024
# Beside its body.
KEPT_COST = 64
MODULUS = 2**32

FLAGS: dict[int, int] = {
    Type.MESSAGE: COMPRESSED | DROPPABLE,
    Type.REPLY: COMPRESSED,
    Type.ERROR: COMPRESSED,
}
BEFORE_THE_WELCOME: dict[int, int] = dict.fromkeys((Type.WELCOME, Type.REFUSAL, Type.WAIT), MAX_HANDSHAKE_BYTES)
AFTER_IT: dict[int, int] = {
    **dict.fromkeys((Type.MESSAGE, Type.REPLY, Type.ERROR), MAX_PAYLOAD_BYTES + NUMBER_BYTES),
    Type.ROUTE: MAX_ROUTE_BYTES,
    Type.HEARTBEAT: MAX_HEARTBEAT_BYTES,
    Type.KICK: MAX_REASON_BYTES,
    Type.REDIRECT: MAX_URL_BYTES,
}


class Photinus:
    """One session's protocol state."""

    def __init__(self, *, name: str = "photinus-python", algorithms: dict[int, Algorithm] | None = None) -> None:
        self.format: Literal["json", "msgpack"] = "msgpack"
        self.clock = ServerClock()
        self.window = 0.0
        """Seconds for which the session can be resumed after a cut."""
        self._name = name
        self._algorithms = available() if algorithms is None else algorithms
        self._events: deque[Event] = deque()
        self._begin_session()
        self._begin_connection("new")

    def _begin_session(self) -> None:
        self._token: bytes | None = None
        self._sent = 0
        self._kept: deque[_Kept] = deque()
        self._kept_bytes = 0
        self._received = 0
        self._asked: dict[int, int] = {}
        self._free_ids: list[int] = []
        self._next_id = 0

    def _begin_connection(self, state: Literal["new", "shaking", "open", "cut"]) -> None:
        self._state = state
        self._input = bytearray()
        self._error: ProtocolError | None = None
        self._named: dict[str, int] = {}
        self._routes: list[str] = []
        self._frames = self._bytes = 0
        self._algorithm: Algorithm | None = None
        self._threshold = 0
        self._max_payload = MAX_PAYLOAD_BYTES
        self._shook_at: float | None = None
        self.clock.begin()

    @property
    def opened(self) -> bool:
        return self._state == "open"

    @property
    def resumable(self) -> bool:
        """There is a session, and a token of it."""
        return self._token is not None

    @property
    def room(self) -> bool:
        """Whether another request or counted message can be kept until the server has it."""
        return len(self._kept) < KEPT_FRAMES and self._kept_bytes < KEPT_BYTES

    def handshake(self, out: bytearray, now: float = 0.0) -> None:
        self._begin_connection("shaking")
        self._shook_at = now
        body = bytearray()
        put_field(1, bytes([VERSION]), body)
        put_field(2, self._name.encode(), body)
        put_field(3, bytes(self._algorithms), body)
        if self._token is not None:
            put_field(5, self._token + numbers(self._received), body)
        put_frame(Type.HELLO, out, body)

    def handle_data(self, data: bytes, out: bytearray, now: float = 0.0) -> None:
        """Takes what the server sent, in whatever pieces; answers welcomes and heartbeats."""
        if self._error is not None:
            raise self._error
        self._input += data
        at = 0
        try:
            while (end := self._handle_frame(at, out, now)) > 0:
                at = end
        except ProtocolError as error:
            self._error = error
            raise
        finally:
            del self._input[:at]
        if self._frames >= COUNTED_FRAMES or self._bytes >= COUNTED_BYTES:
            self._beat(out, now)

    def poll_event(self) -> Event | None:
        return self._events.popleft() if self._events else None

    def request(self, route: str, body: bytes, out: bytearray, *, secret: bool = False) -> int:
        """Appends a request; its answer will carry the id that is returned."""
        self._check(route, body)
        number = heapq.heappop(self._free_ids) if self._free_ids else self._next_id
        self._next_id = max(self._next_id, number + 1)
        self._asked[number] = self._sent
        self._count(_Kept(route, body, number, secret), out)
        return number

    def notify(self, route: str, body: bytes, out: bytearray, *, droppable: bool = False, secret: bool = False) -> None:
        """Appends a message; between two connections a droppable one is dropped."""
        self._check(route, body)
        message = _Kept(route, body, None, secret)
        if not droppable:
            self._count(message, out)
        elif self.opened:
            self._write(message, out, DROPPABLE)

    def leave(self, out: bytearray) -> None:
        """Appends the farewell: the session ends with its connection."""
        if self.opened:
            put_frame(Type.LEAVE, out)

    def cut(self) -> None:
        self._begin_connection("cut")

    def forget(self) -> None:
        """Gives the session up: what is kept will not be sent, and nothing answered."""
        self._begin_session()
        self.clock.forget()

    def _check(self, route: str, body: bytes) -> None:
        size = len(route.encode())
        if not 1 <= size <= MAX_ROUTE_BYTES:
            raise ValueError(f"a route's name has 1 to {MAX_ROUTE_BYTES} bytes, not {size}")
        if route not in self._named and len(self._named) == MAX_ROUTES:
            raise ValueError(f"a client calls at most {MAX_ROUTES} routes")
        if len(body) > self._max_payload:
            raise ValueError(f"a payload for this server has at most {self._max_payload} bytes, not {len(body)}")

    def _count(self, message: _Kept, out: bytearray) -> None:
        self._sent = (self._sent + 1) % MODULUS
        if self.resumable:
            self._kept.append(message)
            self._kept_bytes += len(message.body) + KEPT_COST
        if self.opened:
            self._write(message, out, 0)

    def _write(self, message: _Kept, out: bytearray, flags: int) -> None:
        number = self._named.get(message.route)
        if number is None:
            number = self._named[message.route] = len(self._named)
            put_frame(Type.ROUTE, out, message.route.encode())
        body = message.body
        if self._algorithm is not None and not message.secret and len(body) >= self._threshold:
            packed = self._algorithm.compress(body)
            if len(packed) < len(body):
                flags, body = flags | COMPRESSED, packed
        if message.id is None:
            put_frame(Type.MESSAGE | flags, out, numbers(number), body)
        else:
            put_frame(Type.REQUEST | flags, out, numbers(message.id, number), body)

    def _beat(self, out: bytearray, now: float) -> None:
        self._frames = self._bytes = 0
        echo, held = self.clock.echo(now)
        put_frame(Type.HEARTBEAT, out, numbers(self._received, microseconds(now) + 1, echo, held))

    def _handle_frame(self, at: int, out: bytearray, now: float) -> int:
        """Where the frame that begins there ends; 0 if it is not whole."""
        data = self._input
        if at == len(data):
            return 0
        head = data[at]
        limit = self._limit_of(head)
        length, start = take_number(data, at + 1, 28)
        if start < 0:
            return 0
        if length > limit:
            raise Fault("too-long", f"a frame of {length} bytes")
        end = start + length
        if len(data) < end:
            return 0
        self._handle_body(head, bytes(data[start:end]), out, now)
        return end

    def _limit_of(self, head: int) -> int:
        """How long a frame with this head may be, if it may come at all."""
        kind = head & 0x0F
        limits = AFTER_IT if self.opened else BEFORE_THE_WELCOME
        if head & 0xF0 & ~FLAGS.get(kind, 0):
            raise Fault("bad-frame", f"a frame with head {head:#04x}")
        if head & COMPRESSED and self._algorithm is None:
            raise Fault("compression-unsupported", "a compressed message, which was not agreed on")
        limit = limits.get(kind)
        if limit is None:
            raise Fault("bad-frame" if self.opened else "bad-handshake", f"unexpected frame of type {kind}")
        return limit

    def _handle_body(self, head: int, body: bytes, out: bytearray, now: float) -> None:
        match head & 0x0F:
            case Type.MESSAGE:
                self._handle_message(head, body)
            case Type.REPLY | Type.ERROR as kind:
                self._handle_answer(kind == Type.ERROR, head, body)
            case Type.ROUTE:
                self._routes.append(_text(body))
                if not body:
                    raise Fault("bad-frame", "a route without a name")
            case Type.HEARTBEAT:
                self._handle_heartbeat(body, now)
                self._beat(out, now)
            case Type.KICK:
                self._events.append(Kick(_text(body) or "kicked"))
            case Type.REDIRECT:
                self._events.append(Elsewhere(_text(body)))
            case Type.WELCOME:
                self._handle_welcome(Fields(body, known=13), out, now)
            case Type.REFUSAL:
                fields = Fields(body, known=2)
                code, after = fields.text(1), fields.number(2) / 1000 if 2 in fields else None
                self._events.append(Turned(code, after))
            case _:
                fields = Fields(body, known=2)
                self._shook_at = None
                place, estimate = fields.number(1), fields.number(2) / 1000 if 2 in fields else None
                self._events.append(InLine(place, estimate))

    def _handle_message(self, head: int, body: bytes) -> None:
        route, at = whole_number(body, 0)
        if route >= len(self._routes):
            raise Fault("bad-frame", f"a push of route {route}, which has no name")
        if not head & DROPPABLE:
            self._receive(body)
        self._events.append(Push(self._routes[route], self._payload(head, body[at:])))

    def _handle_answer(self, error: bool, head: int, body: bytes) -> None:
        number, at = whole_number(body, 0)
        self._receive(body)
        if self._asked.pop(number, None) is not None:
            heapq.heappush(self._free_ids, number)
        self._events.append(Response(number, self._payload(head, body[at:]), error))

    def _receive(self, body: bytes) -> None:
        self._received = (self._received + 1) % MODULUS
        self._frames += 1
        self._bytes += len(body)

    def _payload(self, head: int, body: bytes) -> bytes:
        if head & COMPRESSED and self._algorithm is not None:
            return self._algorithm.inflate(body, MAX_PAYLOAD_BYTES)
        return body

    def _handle_heartbeat(self, body: bytes, now: float) -> None:
        received, at = whole_number(body, 0)
        clock, at = whole_number(body, at, 64)
        echo, at = whole_number(body, at, 64)
        held, at = whole_number(body, at, 64)
        rate, at = whole_number(body, at)
        if at != len(body):
            raise Fault("bad-frame", "a heartbeat with something behind it")
        way = microseconds(now) + 1 - echo - held
        # An echo of what was never said tells nothing.
        self.clock.heard(clock, rate, now, way / 1e6 if echo and way >= 0 else None)
        self._acknowledge(received)

    def _acknowledge(self, received: int) -> None:
        """The server has so many of what was counted."""
        lacks = (self._sent - received) % MODULUS
        if lacks > len(self._kept) and (self.resumable or lacks >= MODULUS // 2):
            raise Fault("bad-frame", f"the server counts {received} frames of {self._sent}")
        while len(self._kept) > lacks:
            self._kept_bytes -= len(self._kept.popleft().body) + KEPT_COST

    def _handle_welcome(self, fields: Fields, out: bytearray, now: float) -> None:
        told = _Welcome(fields)
        if (told.status == 0) == self.resumable:
            raise Fault("bad-handshake", f"a welcome of status {told.status}")
        if told.algorithm is not None:
            if told.algorithm not in self._algorithms:
                raise Fault("bad-handshake", f"compression {told.algorithm}, which was not offered")
            self._algorithm, self._threshold = self._algorithms[told.algorithm], told.threshold
        self.format, self._max_payload = told.format, told.max_payload
        lost: tuple[int, ...] = ()
        if told.status:
            self._acknowledge(told.received)
        if told.status == 2:
            self._received = told.next
            lost = tuple(
                number for number, sent in self._asked.items() if 0 < (told.received - sent) % MODULUS < MODULUS // 2
            )
        self._token, self.window = told.token, told.window
        way = None if self._shook_at is None or self.clock.round_trip is not None else now - self._shook_at
        self.clock.heard(told.clock, told.rate, now, way)
        self._state = "open"
        self._beat(out, now)
        for message in self._kept:
            self._write(message, out, 0)
        if not self.resumable:
            self._kept.clear()
            self._kept_bytes = 0
        statuses: tuple[Literal["new", "resumed", "gap"], ...] = ("new", "resumed", "gap")
        self._events.append(Opened(told.heartbeat, statuses[told.status], lost))


class _Kept(Struct, frozen=True):
    """A counted frame, as it was before any connection."""

    route: str
    body: bytes
    id: int | None
    """Of a request."""
    secret: bool


class _Welcome:
    """What a welcome says (5.4); seconds."""

    def __init__(self, fields: Fields) -> None:
        version, self.status, form = (fields.value(tag, 1)[0] for tag in (1, 2, 3))
        if version != VERSION or self.status > 2 or form > 1:
            raise Fault("bad-handshake", f"a welcome of version {version}, status {self.status}, format {form}")
        self.format: Literal["json", "msgpack"] = "msgpack" if form else "json"
        self.heartbeat = fields.number(4) / 1000
        self.clock = fields.number(5, 64)
        self.rate = fields.number(6) if 6 in fields else 1_000_000
        self.max_payload = fields.number(7)
        # A number of another byte is no number, and said to be malformed.
        self.threshold = fields.number(8, at=1) if 8 in fields else 0
        self.algorithm = fields.value(8)[0] if 8 in fields else None
        if 9 in fields:
            raise Fault("bad-handshake", "a dictionary, which this client does not have")
        self.token = fields.value(10, TOKEN_BYTES) if 10 in fields else None
        self.window = fields.number(11) / 1000 if 11 in fields else 0.0
        self.received = fields.number(12) if self.status else 0
        self.next = fields.number(13) if self.status == 2 else 0


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Fault("bad-frame", "text that is no UTF-8") from None

"""Clients of a node in memory. They speak the protocols' real bytes; their waits are in virtual time."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from msgspec import Struct

from ..client.events import Elsewhere, Event, InLine, Kick, Opened, Push, Response, Turned
from ..client.photinus import Photinus
from ..client.pomelo import Pomelo
from ..client.speaker import Speaker
from ..engine import MemoryConnection
from ..errors import ConnectionFailed, ConnectionLost, HandshakeRefused, Kicked, RequestTimeout, UsageError
from ..message import decode, encode, refusal
from .framing import Framing, Packet

M = TypeVar("M", bound=Struct | bytes)
C = TypeVar("C")

# Virtual seconds that a wait takes at most, if the test says nothing else.
TIMEOUT = 1.0


class _Client(ABC, Generic[C]):
    """What both kinds share: a connection, and what came over it that nobody has taken yet."""

    def __init__(self, connection: MemoryConnection) -> None:
        self._connection: MemoryConnection | None = connection
        self._loop = asyncio.get_running_loop()
        self._out = bytearray()
        self._came: deque[C] = deque()
        self._changed: list[asyncio.Future[None]] = []
        self._failure: ConnectionFailed | None = None

    @property
    def connected(self) -> bool:
        return self._failure is None

    async def closed(self, *, timeout: float = TIMEOUT) -> str:
        """Waits until the server has closed the connection, and gives the reason the client saw."""
        await self._wait(lambda: self._failure, timeout, "the connection is still open")
        return str(self._failure)

    def close(self) -> None:
        """Closes the connection, as a client does that leaves."""
        if self._connection is not None:
            self._write(self._connection)
            self._connection.close()
        self._fail(ConnectionLost("closed by this client"))

    def turn(self) -> bool:
        """Moves bytes both ways; the cluster calls it. True if any moved."""
        connection = self._connection
        if self._failure is not None or connection is None:
            return False
        moved = False
        try:
            while data := connection.read():
                moved = True
                self._handle_data(data)
            if data is None:
                raise ConnectionLost("closed by the server")
        except ConnectionFailed as error:
            self._fail(error)
            return True
        moved |= self._write(connection)
        if moved:
            self._wake()
        return moved

    @abstractmethod
    def _handle_data(self, data: bytes) -> None:
        """What has come from the server."""

    def _write(self, connection: MemoryConnection) -> bool:
        if not self._out:
            return False
        try:
            taken = connection.write(bytes(self._out))
        except BrokenPipeError:
            # What the server said last may still be there to read; then comes the end.
            return False
        del self._out[:taken]
        return taken > 0

    def _fail(self, failure: ConnectionFailed) -> None:
        if self._failure is None:
            self._failure = failure
            self._wake()

    def _wake(self) -> None:
        for future in self._changed:
            if not future.done():
                future.set_result(None)
        self._changed.clear()

    async def _wait(self, ready: Any, timeout: float, problem: str) -> Any:
        """The first true value of `ready()`. Raises the connection's end, or RequestTimeout with the problem."""
        loop = self._loop
        deadline = loop.time() + timeout
        while not (value := ready()):
            if self._failure is not None:
                raise self._failure
            future = loop.create_future()
            self._changed.append(future)
            await asyncio.wait([future], timeout=deadline - loop.time())
            if not future.done():
                raise RequestTimeout(f"{problem} after {timeout:g} s{self._what_came()}")
        return value

    def _what_came(self) -> str:
        return f"; what did come: {', '.join(map(str, self._came))}" if self._came else "; nothing came"


class Player(_Client[Push]):
    """A client with routes, as games have them: what `PhotinusClient` and `PomeloClient` share."""

    def __init__(self, connection: MemoryConnection, protocol: Speaker) -> None:
        super().__init__(connection)
        self._protocol = protocol
        self._answers: dict[int, Response | None] = {}
        self._lost: set[int] = set()
        self.place = 0
        """Where it stands in line, if the server is full; 1 is the next."""
        self._protocol.handshake(self._out, self._loop.time())

    async def opened(self, *, timeout: float = TIMEOUT) -> None:
        await self._wait(lambda: self._protocol.opened, timeout, "no handshake")

    @overload
    async def request(self, route: str, message: Struct | bytes, *, timeout: float = TIMEOUT) -> bytes: ...
    @overload
    async def request(self, route: str, message: Struct | bytes, reply: type[M], *, timeout: float = TIMEOUT) -> M: ...
    async def request(
        self, route: str, message: Struct | bytes, reply: type[Any] = bytes, *, timeout: float = TIMEOUT
    ) -> Any:
        """The answer, as a `reply` or as bytes. Refused if it is an error; RequestTimeout if none comes."""
        body = encode(message, self._protocol.format)
        number = self._protocol.request(route, body, self._out, secret=False)
        self._answers[number] = None
        try:
            answer: Response = await self._wait(lambda: self._answer(number), timeout, f"no answer to {route!r}")
        finally:
            del self._answers[number]
            self._lost.discard(number)
        if answer.error:
            raise refusal(answer.body, self._protocol.format)
        return decode(answer.body, reply, self._protocol.format)

    async def notify(self, route: str, message: Struct | bytes, *, droppable: bool = False) -> None:
        """Sends a message that is not answered. It is handled when the test next waits for something."""
        body = encode(message, self._protocol.format)
        self._protocol.notify(route, body, self._out, droppable=droppable, secret=False)

    @overload
    async def receive(self, route: str, *, timeout: float = TIMEOUT) -> bytes: ...
    @overload
    async def receive(self, route: str, message: type[M], *, timeout: float = TIMEOUT) -> M: ...
    async def receive(self, route: str, message: type[Any] = bytes, *, timeout: float = TIMEOUT) -> Any:
        """The next push of this route, which is taken; those of others stay. RequestTimeout if none comes."""
        push: Push = await self._wait(lambda: self._take(route), timeout, f"no push {route!r}")
        return decode(push.body, message, self._protocol.format)

    def received(self, route: str) -> int:
        """How many pushes of this route have come and are not yet taken."""
        return sum(push.route == route for push in self._came)

    def close(self) -> None:
        """Leaves: the session ends."""
        self._protocol.leave(self._out)
        super().close()

    def _answer(self, number: int) -> Response | None:
        if number in self._lost:
            raise ConnectionLost("the answer is lost: the server did not keep it for so long")
        return self._answers[number]

    def _take(self, route: str) -> Push | None:
        for push in self._came:
            if push.route == route:
                self._came.remove(push)
                return push
        return None

    def _handle_data(self, data: bytes) -> None:
        self._protocol.handle_data(data, self._out, self._loop.time())
        while (event := self._protocol.poll_event()) is not None:
            self._handle_event(event)

    def _handle_event(self, event: Event) -> None:
        match event:
            case Response():
                # Who asked may have given up; the answer then has no place.
                if event.id in self._answers:
                    self._answers[event.id] = event
            case Push():
                self._came.append(event)
            case Kick():
                raise Kicked(event.reason)
            case Opened():
                self._lost.update(number for number in event.lost if number in self._answers)
                self.place = 0
                self._handle_opened(event)
            case InLine():
                self.place = event.place
            case Turned():
                raise HandshakeRefused(event.code, event.retry_after)
            case Elsewhere():
                raise ConnectionLost(f"sent to {event.url}")

    def _handle_opened(self, event: Opened) -> None:
        """Its session has opened, or goes on."""


class PomeloClient(Player):
    """Speaks the pomelo protocol."""

    def __init__(self, connection: MemoryConnection) -> None:
        super().__init__(connection, Pomelo(name="photinus-test"))


class PhotinusClient(Player):
    """Speaks the photinus protocol, so its connection may be cut and its session resumed."""

    def __init__(self, dial: Callable[[], MemoryConnection]) -> None:
        self._dial = dial
        self._photinus = Photinus(name="photinus-test")
        self._status: Opened | None = None
        super().__init__(dial(), self._photinus)

    @property
    def server_time(self) -> float | None:
        """Seconds on the server's clock, as this client knows it; None before it is welcome."""
        return self._photinus.clock.time(self._loop.time())

    def cut(self, *, resume_after: float | None = None) -> None:
        """The connection is gone without a word, as when a phone changes its network.

        Requests and messages are kept meanwhile. The session is resumed by `resume`, or by itself after so many virtual
        seconds.
        """
        if self._connection is None or self._failure is not None:
            raise UsageError("this client has no connection to be cut")
        self._connection.close()
        self._connection = None
        self._photinus.cut()
        self._out.clear()
        if resume_after is not None:
            self._loop.call_later(resume_after, self._redial)

    async def resume(self, *, timeout: float = TIMEOUT) -> bool:
        """Connects again and resumes the session; True if there is a gap, and something that was sent to it is lost.

        HandshakeRefused, with its code, if the session is no more.
        """
        self._redial()
        opened: Opened = await self._wait(lambda: self._status, timeout, "the session was not resumed")
        return opened.status == "gap"

    def _redial(self) -> None:
        if self._connection is not None or self._failure is not None:
            return
        self._status = None
        self._out.clear()
        self._connection = self._dial()
        self._photinus.handshake(self._out, self._loop.time())

    def _handle_opened(self, event: Opened) -> None:
        self._status = event


class PlainClient(_Client[Packet]):
    """A client of a protocol that has packets and no routes: `length4`, `firefly`."""

    def __init__(self, connection: MemoryConnection, framing: Framing) -> None:
        super().__init__(connection)
        self._framing = framing
        self._input = bytearray()

    async def request(self, body: bytes, *, command: int = 0, timeout: float = TIMEOUT) -> bytes:
        """Sends a packet and takes the next one that comes, whatever made it come."""
        await self.send(body, command=command)
        return (await self.receive(timeout=timeout)).body

    async def send(self, body: bytes, *, command: int = 0) -> None:
        """Sends a packet. It is handled when the test next waits for something."""
        self._out += self._framing.frame(Packet(body, command))

    async def receive(self, *, timeout: float = TIMEOUT) -> Packet:
        """The next packet. RequestTimeout if none comes."""
        packet: Packet = await self._wait(lambda: self._came[0] if self._came else None, timeout, "no packet")
        self._came.popleft()
        return packet

    def write(self, data: bytes) -> None:
        """Sends bytes as they are, for frames that no proper client sends."""
        self._out += data

    def _handle_data(self, data: bytes) -> None:
        self._input += data
        while (packet := self._framing.take(self._input)) is not None:
            self._came.append(packet)

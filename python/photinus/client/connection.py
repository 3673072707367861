"""A client: requests and their answers, pushes and who subscribed to them, over one connection after the other."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from msgspec import Struct

from ..errors import ConnectionFailed, ConnectionLost, RequestTimeout, SessionLost, UsageError
from ..message import decode, encode, refusal
from .changes import Change
from .events import Push, Response
from .life import Life
from .photinus import Photinus
from .pomelo import Pomelo
from .speaker import Speaker
from .subscription import Subscription
from .transports import Address, check

M = TypeVar("M", bound=Struct | bytes)
S = TypeVar("S", bound=Subscription[Any])

# Pushes that wait for a slow subscriber; a few seconds of a busy scene.
SUBSCRIPTION_ITEMS = 1024

# Who makes a new session what the old one was goes through the gate at which all others wait.
_entering: ContextVar[Client | None] = ContextVar("entering", default=None)


def connect(
    url: str,
    *,
    timeout: float = 5.0,
    ssl: ssl.SSLContext | None = None,
    enter: Callable[[Client], Awaitable[object]] | None = None,
    changed: Callable[[Change], object] | None = None,
    reconnect: float = 60.0,
) -> Client:
    """A client of the server at `tcp://`, `tls://`, `ws://` or `wss://host:port`: `async with connect(url) as client`.

    Entering it connects and shakes hands within `timeout` seconds (longer only while it stands in line, see Waiting),
    or raises ConnectionLost; HandshakeRefused is the server's own word. The same number is the default time-out of its
    requests. `ssl` is for tls and wss; without it the server's certificate is verified by the system's authorities.

    A connection that is cut is replaced, for at most `reconnect` seconds; 0: never. The session goes on over the next
    one, if the server keeps it for so long. If not, a new session takes its place, and `enter` is awaited with this
    client to make it what the old one was (to log in), as it is for the first; everybody else's requests wait for it.
    Without `enter` the client ends with SessionLost. `changed` is called with each Change, and `client.changes()`
    iterates over them.

    `?protocol=pomelo` speaks that instead of photinus. ConfigError if the URL is not one.
    """
    return Client(url, timeout=timeout, ssl=ssl, enter=enter, changed=changed, reconnect=reconnect)


class Client:
    """A player's side of a session. All methods belong to the loop that it was entered on."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        ssl: ssl.SSLContext | None,
        enter: Callable[[Client], Awaitable[object]] | None,
        changed: Callable[[Change], object] | None,
        reconnect: float,
    ) -> None:
        address = Address.parse(url)
        check(address)
        self._timeout = timeout
        self._enter = enter
        self._changed = changed
        self._protocol: Speaker = Photinus() if address.protocol == "photinus" else Pomelo()
        self._connections = Life(self, self._protocol, address, timeout=timeout, context=ssl, reconnect=reconnect)
        self._requests: dict[int, asyncio.Future[Response]] = {}
        self._subscriptions: dict[str, list[Subscription[Any]]] = {}
        self._watching: list[Subscription[Change]] = []
        self._failure: ConnectionFailed | None = None
        self._entered: asyncio.Future[None] | None = None
        self._living: asyncio.Task[None] | None = None
        self._entry: asyncio.Task[None] | None = None
        self._open_to_all = False
        self._moved = asyncio.Event()

    async def __aenter__(self) -> Self:
        if self._entered is not None:
            raise UsageError("a client is entered once: connect(url) gives another")
        self._entered = asyncio.get_running_loop().create_future()
        self._living = asyncio.create_task(self._live())
        try:
            await self._entered
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        """Whether there is a connection just now."""
        return self._failure is None and self._protocol.opened

    @property
    def round_trip(self) -> float | None:
        """Seconds from here to the server and back; None if it is not known."""
        return self._protocol.clock.round_trip if isinstance(self._protocol, Photinus) else None

    def server_time(self) -> float:
        """The server's clock, in seconds: an estimate that never goes back, and goes on as fast as the server's world.

        Clients of one server see the same clock, but for half of the difference between their ways there and back.
        ConnectionLost if it is not known: before the first connection, and in the pomelo protocol.
        """
        if isinstance(self._protocol, Photinus):
            time = self._protocol.clock.time(asyncio.get_running_loop().time())
            if time is not None:
                return time
        raise ConnectionLost("the server's clock is not known")

    @overload
    async def request(
        self, route: str, message: Struct | bytes, *, timeout: float | None = None, secret: bool = False
    ) -> bytes: ...
    @overload
    async def request(
        self, route: str, message: Struct | bytes, reply: type[M], *, timeout: float | None = None, secret: bool = False
    ) -> M: ...
    async def request(
        self,
        route: str,
        message: Struct | bytes,
        reply: type[Any] = bytes,
        *,
        timeout: float | None = None,
        secret: bool = False,
    ) -> Any:
        """The answer to this message, as a `reply` or else as its bytes. A cut that is mended only makes it late.

        Refused is the server's refusal, with its code and fields; RequestTimeout, that none came
        within `timeout` seconds; Kicked and ConnectionLost, that none will, whether it was handled or not. A `secret`
        is never compressed.
        """
        timeout = self._timeout if timeout is None else timeout
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        number = -1
        try:
            async with asyncio.timeout(timeout):
                await self._room()
                body = encode(message, self._protocol.format)
                number = self._protocol.request(route, body, self._connections.out, secret=secret)
                self._requests[number] = future
                self._connections.flush()
                response = await future
        except TimeoutError:
            raise RequestTimeout(f"no answer to {route!r} within {timeout:g} s") from None
        finally:
            # The id may be another request's by now.
            if self._requests.get(number) is future:
                del self._requests[number]
        if response.error:
            raise refusal(response.body, self._protocol.format)
        return decode(response.body, reply, self._protocol.format)

    async def notify(
        self, route: str, message: Struct | bytes, *, droppable: bool = False, secret: bool = False
    ) -> None:
        """Sends a message that is not answered; waits while the server does not read.

        One that is `droppable` is about the present, as a position is: it is not sent again after a cut, and a server
        that has too much to do drops it. A `secret` is never compressed.
        """
        if not droppable:
            await self._room()
        else:
            self._check_open()
        body = encode(message, self._protocol.format)
        self._protocol.notify(route, body, self._connections.out, droppable=droppable, secret=secret)
        self._connections.flush()
        try:
            await self._connections.drain()
        except OSError as error:
            # What is kept will be sent again.
            if not self._protocol.resumable:
                raise self._failure or ConnectionLost(str(error)) from error

    @overload
    def subscribe(self, route: str, *, limit: int = SUBSCRIPTION_ITEMS) -> Subscription[bytes]: ...
    @overload
    def subscribe(self, route: str, message: type[M], *, limit: int = SUBSCRIPTION_ITEMS) -> Subscription[M]: ...
    def subscribe(
        self, route: str, message: type[Any] = bytes, *, limit: int = SUBSCRIPTION_ITEMS
    ) -> Subscription[Any]:
        """What the server pushes under this route from now on.

        At most `limit` pushes wait; when more come the oldest are dropped, and counted.
        """
        return self._watch(_Pushes(route, message, limit), self._subscriptions.setdefault(route, []))

    def changes(self, *, limit: int = SUBSCRIPTION_ITEMS) -> Subscription[Change]:
        """What happens to the connection and the session from now on: cuts, resumptions, gaps, new sessions."""
        return self._watch(Subscription(limit), self._watching)

    async def close(self) -> None:
        """Leaves: the session ends. Requests that wait get ConnectionLost, subscriptions end."""
        if self._failure is None and self._protocol.opened:
            self._protocol.leave(self._connections.out)
            self._connections.flush()
        self._fail(ConnectionLost("closed by this client"), expected=True)
        if self._living is not None:
            await asyncio.wait([self._living])

    async def _live(self) -> None:
        try:
            await self._connections.run()
        except ConnectionFailed as failure:
            self._fail(failure)
        except Exception as error:  # noqa: BLE001 - the application's callbacks raise what they like
            self._fail(_caused(ConnectionLost(f"this client failed: {error!r}"), error))
        finally:
            await self._connections.close()

    # What `Life` tells.

    def handle(self, event: Response | Push) -> None:
        if isinstance(event, Push):
            for subscription in self._subscriptions.get(event.route, ()):
                subscription.put((event.body, self._protocol.format))
            return
        future = self._requests.pop(event.id, None)
        if future is not None and not future.done():
            future.set_result(event)

    def tell(self, change: Change) -> None:
        for subscription in self._watching:
            subscription.put(change)
        if self._changed is not None:
            self._changed(change)

    def moved(self) -> None:
        """There may be room, or a connection."""
        self._moved.set()

    def begun(self) -> None:
        """A new session has opened."""
        if self._enter is None:
            self._let_in()
        else:
            self._entry = asyncio.create_task(self._run_enter(self._enter))

    def lost(self, numbers: Iterable[int] | None, why: str) -> None:
        """These requests will not be answered, or none will: the session is given up."""
        if numbers is None:
            self._open_to_all = False
            self._end_entry()
        for number in list(self._requests) if numbers is None else numbers:
            future = self._requests.pop(number, None)
            if future is not None and not future.done():
                future.set_exception(ConnectionLost(why))
                # Nobody may be waiting any more, and that is no mistake.
                future.exception()

    @property
    def renews(self) -> bool:
        """Whether a new session can take the place of one that is lost."""
        return self._enter is not None

    async def _run_enter(self, enter: Callable[[Client], Awaitable[object]]) -> None:
        _entering.set(self)
        try:
            await enter(self)
        except Exception as error:  # noqa: BLE001 - it is the application's, and ends this client
            if self._entered is not None and not self._entered.done():
                self._entered.set_exception(error)
            self._fail(_caused(SessionLost(f"the new session was not entered: {error!r}"), error))
        else:
            self._let_in()

    def _let_in(self) -> None:
        self._open_to_all = True
        self._moved.set()
        if self._entered is not None and not self._entered.done():
            self._entered.set_result(None)

    def _end_entry(self) -> None:
        if self._entry is not None and self._entry is not asyncio.current_task():
            self._entry.cancel()
        self._entry = None

    async def _room(self) -> None:
        """Until something can be said."""
        self._check_open()
        while not self._may_speak():
            self._moved.clear()
            await self._moved.wait()
            self._check_open()

    def _may_speak(self) -> bool:
        let_in = self._open_to_all or _entering.get() is self
        return let_in and (self._protocol.opened or self._protocol.resumable) and self._protocol.room

    def _check_open(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._entered is None:
            raise ConnectionLost("not connected: use `async with connect(url) as client`")

    def _fail(self, failure: ConnectionFailed, *, expected: bool = False) -> None:
        if self._failure is not None:
            return
        self._failure = failure
        self._end_entry()
        waiting: list[asyncio.Future[Any]] = [*self._requests.values()]
        if self._entered is not None:
            waiting.append(self._entered)
        for future in waiting:
            if not future.done():
                future.set_exception(failure)
                # Nobody may be waiting any more, and that is no mistake.
                future.exception()
        for subscription in [*self._watching, *(one for each in self._subscriptions.values() for one in each)]:
            subscription.end(None if expected else failure)
        self._moved.set()
        if self._living is not None and self._living is not asyncio.current_task():
            self._living.cancel()

    def _watch(self, subscription: S, among: list[S]) -> S:
        among.append(subscription)
        subscription.closing = lambda: among.remove(subscription)
        if self._failure is not None:
            subscription.end(self._failure)
        return subscription


class _Pushes(Subscription[M]):
    def __init__(self, route: str, message: type[M], limit: int) -> None:
        super().__init__(limit)
        self.route = route
        self._message = message

    def read(self, item: Any) -> M:
        body, serializer = item
        return decode(body, self._message, serializer)


def _caused(failure: ConnectionFailed, error: Exception) -> ConnectionFailed:
    failure.__cause__ = error
    return failure

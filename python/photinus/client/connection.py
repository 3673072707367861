"""A client's connection over TCP: requests and their answers, pushes and who subscribed to them."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct

from ..errors import ConfigError, ConnectionFailed, ConnectionLost, Kicked, RequestTimeout
from ..message import decode, encode, refusal
from .pomelo import Event, Kick, Opened, Pomelo, Push, Response

M = TypeVar("M", bound=Struct | bytes)

READ_BYTES = 64 * 1024
# A server may be late by one heartbeat before it is taken for dead, as in the protocol's clients.
HEARTBEATS_MISSED = 2
# Pushes that wait for a slow subscriber; a few seconds of a busy scene.
SUBSCRIPTION_ITEMS = 1024


def connect(url: str, *, timeout: float = 5.0) -> Client:
    """A client of the server at `tcp://host:port`: `async with connect(url) as client`.

    Entering it connects and shakes hands within `timeout` seconds, or raises ConnectionLost; the
    same number is the default time-out of its requests. ConfigError if the URL is not one.
    """
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{url}: {error}") from error
    if parts.scheme != "tcp" or not host or not port:
        raise ConfigError(f"{url}: expected tcp://host:port")
    if options.pop("protocol", "pomelo") != "pomelo":
        raise ConfigError(f"{url}: expected protocol=pomelo, the one that this client speaks")
    return Client(host, port, timeout=timeout)


class Client:
    """A connection to a server. All methods belong to the loop that it was entered on."""

    def __init__(self, host: str, port: int, *, timeout: float) -> None:
        self._host = host
        self._port = port
        self._timeout = timeout
        self._protocol = Pomelo()
        self._out = bytearray()
        self._requests: dict[int, asyncio.Future[Response]] = {}
        self._subscriptions: dict[str, list[Subscription[Any]]] = {}
        self._failure: ConnectionFailed | None = None
        self._opened: asyncio.Future[None] | None = None
        self._reader_task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._silence: float | None = None

    async def __aenter__(self) -> Self:
        self._opened = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._timeout):
                reader, self._writer = await asyncio.open_connection(self._host, self._port)
                self._reader_task = asyncio.create_task(self._read(reader))
                self._protocol.handshake(self._out)
                self._flush()
                await self._opened
        except TimeoutError:
            await self.close()
            raise ConnectionLost(f"no handshake within {self._timeout:g} s") from None
        except OSError as error:
            await self.close()
            if isinstance(error, ConnectionLost):
                raise
            raise ConnectionLost(str(error)) from error
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

    @overload
    async def request(self, route: str, message: Struct | bytes, *, timeout: float | None = None) -> bytes: ...
    @overload
    async def request(
        self, route: str, message: Struct | bytes, reply: type[M], *, timeout: float | None = None
    ) -> M: ...
    async def request(
        self,
        route: str,
        message: Struct | bytes,
        reply: type[Any] = bytes,
        *,
        timeout: float | None = None,
    ) -> Any:
        """The answer to this message, as a `reply` or else as its bytes.

        Refused is the server's refusal, with its code and fields; RequestTimeout, that none came
        within `timeout` seconds; Kicked and ConnectionLost, that none will.
        """
        timeout = self._timeout if timeout is None else timeout
        self._check_open()
        number = self._protocol.request(route, encode(message, "json"), self._out)
        self._flush()
        future = asyncio.get_running_loop().create_future()
        self._requests[number] = future
        try:
            async with asyncio.timeout(timeout):
                response = await future
        except TimeoutError:
            raise RequestTimeout(f"no answer to {route!r} within {timeout:g} s") from None
        finally:
            self._requests.pop(number, None)
        if response.error:
            raise refusal(response.body, "json")
        return decode(response.body, reply, "json")

    async def notify(self, route: str, message: Struct | bytes) -> None:
        """Sends a message that is not answered; waits only while the server does not read."""
        self._check_open()
        self._protocol.notify(route, encode(message, "json"), self._out)
        self._flush()
        if self._writer is not None:
            try:
                await self._writer.drain()
            except OSError as error:
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
        subscription = Subscription(self, route, message, limit)
        self._subscriptions.setdefault(route, []).append(subscription)
        if self._failure is not None:
            subscription.end(self._failure)
        return subscription

    async def close(self) -> None:
        """Ends the connection; requests that wait get ConnectionLost, subscriptions end."""
        self._fail(ConnectionLost("closed by this client"), expected=True)
        if self._reader_task is not None:
            self._reader_task.cancel()
            await asyncio.wait([self._reader_task])
        if self._writer is not None:
            self._writer.close()
            # It is gone either way.
            with suppress(OSError):
                await self._writer.wait_closed()

    def unsubscribe(self, subscription: Subscription[Any]) -> None:
        self._subscriptions[subscription.route].remove(subscription)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                async with asyncio.timeout(self._silence):
                    data = await reader.read(READ_BYTES)
                if not data:
                    raise ConnectionLost("closed by the server")
                self._protocol.handle_data(data, self._out)
                while (event := self._protocol.poll_event()) is not None:
                    self._handle_event(event)
                self._flush()
        except TimeoutError:
            self._fail(ConnectionLost("the server has fallen silent"))
        except ConnectionFailed as error:
            self._fail(error)
        except OSError as error:
            self._fail(ConnectionLost(str(error)))
        if self._writer is not None:
            self._writer.close()

    def _handle_event(self, event: Event) -> None:
        match event:
            case Response():
                future = self._requests.pop(event.id, None)
                if future is not None and not future.done():
                    future.set_result(event)
            case Push():
                for subscription in self._subscriptions.get(event.route, ()):
                    subscription.put(event.body)
            case Opened():
                if event.heartbeat > 0:
                    self._silence = HEARTBEATS_MISSED * event.heartbeat
                if self._opened is not None and not self._opened.done():
                    self._opened.set_result(None)
            case Kick():
                raise Kicked(event.reason)

    def _fail(self, failure: ConnectionFailed, *, expected: bool = False) -> None:
        if self._failure is not None:
            return
        self._failure = failure
        waiting = [*self._requests.values()]
        if self._opened is not None:
            waiting.append(self._opened)  # type: ignore[arg-type]
        for future in waiting:
            if not future.done():
                future.set_exception(failure)
                # Nobody may be waiting any more, and that is no mistake.
                future.exception()
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.end(None if expected else failure)

    def _check_open(self) -> None:
        if self._failure is not None:
            raise self._failure
        if not self._protocol.opened:
            raise ConnectionLost("not connected: use `async with connect(url) as client`")

    def _flush(self) -> None:
        if self._writer is not None and self._out:
            self._writer.write(bytes(self._out))
            self._out.clear()


class Subscription(Generic[M]):
    """The pushes of one route, to be iterated over by one task.

    Iteration ends when this client closes, and raises Kicked or ConnectionLost when the server or
    the network ended it, after what came before.
    """

    def __init__(self, client: Client, route: str, message: type[M], limit: int) -> None:
        self.route = route
        self.dropped = 0
        """Pushes that came while as many as the limit were waiting."""
        self._client = client
        self._message = message
        self._waiting: deque[bytes] = deque(maxlen=limit)
        self._wake = asyncio.Event()
        self._ended = False
        self._failure: ConnectionFailed | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> M:
        while not self._waiting:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return decode(self._waiting.popleft(), self._message, "json")

    def close(self) -> None:
        """Takes no more pushes; iteration ends after those that wait."""
        if not self._ended:
            self._client.unsubscribe(self)
            self.end(None)

    def put(self, body: bytes) -> None:
        if len(self._waiting) == self._waiting.maxlen:
            self.dropped += 1
        self._waiting.append(body)
        self._wake.set()

    def end(self, failure: ConnectionFailed | None) -> None:
        self._ended = True
        self._failure = failure
        self._wake.set()

"""The connections of one client, one after the other, and the session that goes on over them.

new -> open -> (cut -> open)* -> end. A cut connection is replaced while its session can be resumed; then, if the
client can enter a new session, by one of those. The server's kick, what it must not send, and the end of the client's
patience are the end.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from random import Random
from typing import Protocol

from ..errors import ConfigError, ConnectionLost, HandshakeRefused, Kicked, SessionLost
from .changes import Change, Cut, Gap, Redirected, Renewed, Resumed, Waiting
from .events import Elsewhere, Event, InLine, Kick, Opened, ProtocolError, Push, Response, Turned
from .reconnecting import pauses
from .speaker import Speaker
from .transports import Address, Transport, open_transport

# A server may be late by one heartbeat before it is taken for dead, as in the protocols' clients.
HEARTBEATS_MISSED = 2
# A cluster sends a client on once, or twice while it is being drained; two servers may send it to each other for ever.
REDIRECTS = 5
# After so many seconds at one place the count begins anew.
SETTLED_SECONDS = 10.0
# Refusals that trying again will not change.
FINAL = ("version", "bad-handshake")


class Owner(Protocol):
    """Who is told: `Client`."""

    def handle(self, event: Response | Push) -> None: ...
    def tell(self, change: Change) -> None: ...
    def moved(self) -> None: ...
    def begun(self) -> None: ...
    def lost(self, numbers: Iterable[int] | None, why: str) -> None: ...
    @property
    def renews(self) -> bool: ...


class Life:
    def __init__(
        self,
        owner: Owner,
        protocol: Speaker,
        address: Address,
        *,
        timeout: float,
        context: ssl.SSLContext | None,
        reconnect: float,
    ) -> None:
        self.out = bytearray()
        self._owner = owner
        self._protocol = protocol
        self._address = address
        self._timeout = timeout
        self._context = context
        self._patience = reconnect
        self._transport: Transport | None = None
        self._limit: asyncio.Timeout | None = None
        self._silence: float | None = None
        self._redirects = 0
        self._opened_at: float | None = None
        self._given_up: str | None = None
        self._random = Random()  # noqa: S311 - pauses, not secrets

    async def run(self) -> None:
        """Raises what ended it: Kicked, or a ConnectionLost."""
        try:
            await self._open()
        except _Sent as sent:
            await self._come_back(sent, sent.url)
        while True:
            try:
                await self._read()
            except _Sent as sent:
                await self._come_back(sent, sent.url)
            except (ProtocolError, Kicked):
                raise
            except ConnectionLost as error:
                await self._come_back(error)

    async def close(self) -> None:
        """Ends the connection when what was written has gone."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.close()

    def flush(self) -> None:
        if self._transport is not None and self.out:
            self._transport.write(bytes(self.out))
        self.out.clear()

    async def drain(self) -> None:
        if self._transport is not None:
            await self._transport.drain()

    async def _open(self) -> None:
        """Connects and shakes hands. ConnectionLost, or what the server said instead of a welcome."""
        transport: Transport | None = None
        try:
            async with asyncio.timeout(self._timeout) as self._limit:
                transport = await open_transport(self._address, self._context)
                self.out.clear()
                self._protocol.handshake(self.out, self._now())
                transport.write(bytes(self.out))
                self.out.clear()
                while not self._protocol.opened:
                    await self._take(transport)
                self._transport = transport
                self.flush()
        except TimeoutError:
            raise ConnectionLost(f"no handshake within {self._timeout:g} s") from None
        except OSError as error:
            if isinstance(error, ConnectionLost):
                raise
            raise ConnectionLost(str(error)) from error
        finally:
            self._limit = None
            if transport is not None and self._transport is not transport:
                transport.abort()

    async def _read(self) -> None:
        """Until the connection ends. ConnectionLost, Kicked, _Sent."""
        try:
            while self._transport is not None:
                async with asyncio.timeout(self._silence):
                    await self._take(self._transport)
                self.flush()
        except TimeoutError:
            raise ConnectionLost("the server has fallen silent") from None
        except OSError as error:
            if isinstance(error, ConnectionLost):
                raise
            raise ConnectionLost(str(error)) from error

    async def _take(self, transport: Transport) -> None:
        data = await transport.read()
        if not data:
            raise ConnectionLost("closed by the server")
        try:
            self._protocol.handle_data(data, self.out, self._now())
        finally:
            # What came before a fault counts.
            while (event := self._protocol.poll_event()) is not None:
                self._handle(event)
            self._owner.moved()

    def _handle(self, event: Event) -> None:
        match event:
            case Response() | Push():
                self._owner.handle(event)
            case Opened():
                self._welcomed(event)
            case InLine():
                # It takes as long as it takes.
                if self._limit is not None:
                    self._limit.reschedule(None)
                self._owner.tell(Waiting(event.place, event.estimate))
            case Turned():
                raise HandshakeRefused(event.code, event.retry_after)
            case Kick():
                raise Kicked(event.reason)
            case Elsewhere():
                raise _Sent(event.url)

    def _welcomed(self, event: Opened) -> None:
        self._silence = HEARTBEATS_MISSED * event.heartbeat if event.heartbeat > 0 else None
        self._opened_at = self._now()
        if event.status == "resumed":
            self._owner.tell(Resumed())
        elif event.status == "gap":
            self._owner.lost(event.lost, "the answer is lost: the server did not keep it for so long")
            self._owner.tell(Gap(len(event.lost)))
        else:
            if self._given_up is not None:
                self._owner.tell(Renewed(self._given_up))
                self._given_up = None
            self._owner.begun()

    async def _come_back(self, lost: ConnectionLost, url: str | None = None) -> None:
        """Another connection in place of the one that is lost; or raises why there can be none."""
        self._hang_up()
        if url is not None:
            self._go_to(url)
        elif self._patience <= 0 or not (self._protocol.resumable or self._owner.renews):
            raise lost
        else:
            self._owner.tell(Cut(str(lost)))
        if self._opened_at is not None and not self._protocol.resumable:
            self._give_up(str(lost))
        now = self._now()
        patience = now + (self._patience if url is None else max(self._patience, self._timeout))
        window = now + self._protocol.window
        wait = 0.0
        for pause in pauses(self._random):
            await asyncio.sleep(wait if url is not None else wait + pause)
            if self._protocol.resumable and self._now() >= window:
                self._give_up(f"no connection within {self._protocol.window:g} s: {lost}")
            if self._now() >= patience:
                raise ConnectionLost(f"no connection within {self._patience:g} s: {lost}") from lost
            url, wait = None, 0.0
            try:
                await self._open()
            except HandshakeRefused as refused:
                if refused.code in FINAL:
                    raise
                if refused.code.startswith("resume-"):
                    self._give_up(refused.code)
                wait = min(refused.retry_after or 0.0, self._patience)
                lost = refused
            except _Sent as sent:
                url = sent.url
                self._go_to(url)
            except ProtocolError:
                raise
            except ConnectionLost as error:
                lost = error
            else:
                return
            self._protocol.cut()

    def _give_up(self, why: str) -> None:
        """The session cannot be resumed."""
        self._given_up = why
        self._protocol.forget()
        self._owner.lost(None, f"the session could not be resumed: {why}")
        if not self._owner.renews:
            raise SessionLost(f"the session could not be resumed: {why}")

    def _go_to(self, url: str) -> None:
        """The server's word for where to go on."""
        if self._opened_at is not None and self._now() - self._opened_at >= SETTLED_SECONDS:
            self._redirects = 0
        self._redirects += 1
        if self._redirects > REDIRECTS:
            raise ConnectionLost(f"sent on {self._redirects} times, at last to {url!r}")
        try:
            address = Address.parse(url)
        except ConfigError as error:
            raise ProtocolError(f"sent to what is no address: {error}") from error
        if address.protocol != self._address.protocol or (self._address.encrypted and not address.encrypted):
            raise ConnectionLost(f"sent to {url!r}, which is another protocol or not encrypted")
        self._address = address
        self._owner.tell(Redirected(url))

    def _hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        self._protocol.cut()
        self.out.clear()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


class _Sent(ConnectionLost):
    """The server has sent this client elsewhere."""

    def __init__(self, url: str) -> None:
        super().__init__(f"sent to {url!r}")
        self.url = url

"""Streams of bytes to a server: over TCP, TLS, and WebSocket over either.

WebSocket is spoken by the `websockets` package, its part without IO: `pip install 'photinus[client]'`.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

from msgspec import Struct

from ..errors import ConfigError, ConnectionLost

if TYPE_CHECKING:
    from websockets.client import ClientProtocol

READ_BYTES = 64 * 1024
# Several of the longest frames; a server that sends more in one message is not one of ours.
MESSAGE_BYTES = 64 * 1024 * 1024
# To say goodbye; whoever does not answer by then is left without.
CLOSE_SECONDS = 1.0


class Address(Struct, frozen=True):
    """A listener's URL, taken apart."""

    scheme: str
    host: str
    port: int
    protocol: str
    target: str
    """Path and query of the request for a WebSocket."""

    @staticmethod
    def parse(url: str) -> Address:
        """ConfigError if it is not one."""
        parts = urlsplit(url)
        expected = "expected tcp://HOST:PORT, tls://HOST:PORT, ws://HOST[:PORT]/PATH or wss://HOST[:PORT]/PATH"
        try:
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ConfigError(f"{url}: {error}") from error
        if port is None:
            port = {"ws": 80, "wss": 443}.get(parts.scheme)
        if parts.scheme not in ("tcp", "tls", "ws", "wss") or not host or not port:
            raise ConfigError(f"{url}: {expected}")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        protocol = options.pop("protocol", "photinus")
        if protocol not in ("photinus", "pomelo"):
            raise ConfigError(f"{url}: expected protocol=photinus or protocol=pomelo, which this client speaks")
        target = (parts.path or "/") + (f"?{urlencode(options)}" if options else "")
        return Address(parts.scheme, host, port, protocol, target)

    @property
    def encrypted(self) -> bool:
        return self.scheme in ("tls", "wss")


class Transport(Protocol):
    async def read(self) -> bytes:
        """What has come, b"" at the end. OSError if the connection broke."""
        ...

    def write(self, data: bytes) -> None: ...
    async def drain(self) -> None:
        """Waits while the other side does not read. OSError if the connection broke."""
        ...

    def abort(self) -> None:
        """Ends it without a word."""
        ...

    async def close(self) -> None:
        """Ends it when what was written has gone."""
        ...


def check(address: Address) -> None:
    """ConfigError if what this address needs is not installed."""
    if address.scheme in ("ws", "wss"):
        _websocket(address)


async def open_transport(address: Address, context: ssl.SSLContext | None) -> Transport:
    """OSError (ConnectionLost, ssl.SSLError) if there is no connection to be had."""
    if address.encrypted and context is None:
        context = ssl.create_default_context()
    client = _websocket(address) if address.scheme in ("ws", "wss") else None
    reader, writer = await asyncio.open_connection(
        address.host, address.port, ssl=context if address.encrypted else None
    )
    stream = _Stream(reader, writer)
    if client is None:
        return stream
    websocket = _WebSocket(stream, client)
    try:
        await websocket.upgrade()
    except BaseException:
        stream.abort()
        raise
    return websocket


class _Stream:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        return await self._reader.read(READ_BYTES)

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()
        # It is gone either way.
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._writer.wait_closed()
        self.abort()

    def abort(self) -> None:
        self._writer.transport.abort()


def _websocket(address: Address) -> ClientProtocol:
    try:
        from websockets.client import ClientProtocol
        from websockets.uri import parse_uri
    except ImportError as error:
        raise ConfigError(
            f"{address.scheme}:// is spoken by the package websockets: pip install 'photinus[client]'"
        ) from error
    host = f"[{address.host}]" if ":" in address.host else address.host
    uri = parse_uri(f"{address.scheme}://{host}:{address.port}{address.target}")
    return ClientProtocol(uri, max_size=MESSAGE_BYTES)


class _WebSocket:
    """The binary messages one after the other; where one ends means nothing here."""

    def __init__(self, stream: _Stream, client: ClientProtocol) -> None:
        self._stream = stream
        self._client = client
        self._ended = False

    async def upgrade(self) -> None:
        request = self._client.connect()
        self._client.send_request(request)
        self._send()
        while self._client.state.name == "CONNECTING":
            if self._client.handshake_exc is not None:
                raise ConnectionLost(f"no WebSocket there: {self._client.handshake_exc}")
            await self._receive()
            if self._ended:
                break
        if self._client.handshake_exc is not None:
            raise ConnectionLost(f"no WebSocket there: {self._client.handshake_exc}")
        # What came behind the answer stays among the events, the answer itself is no frame.

    async def read(self) -> bytes:
        while True:
            data = bytearray()
            for event in self._client.events_received():
                self._take(event, data)
            if data or self._ended:
                return bytes(data)
            await self._receive()

    def write(self, data: bytes) -> None:
        # After a goodbye nothing may be sent; whoever reads sees that it is over.
        if self._client.state.name == "OPEN":
            self._client.send_binary(data)
            self._send()

    async def drain(self) -> None:
        await self._stream.drain()

    def abort(self) -> None:
        self._stream.abort()

    async def close(self) -> None:
        if self._client.state.name == "OPEN":
            self._client.send_close(1000)
            self._send()
        await self._stream.close()

    async def _receive(self) -> None:
        data = await self._stream.read()
        if data:
            self._client.receive_data(data)
        else:
            self._client.receive_eof()
        # Pongs, and the answer to a close.
        self._send()
        self._ended = not data or self._client.close_expected()

    def _take(self, event: Any, data: bytearray) -> None:
        opcode = getattr(event, "opcode", None)
        if opcode is None:
            return
        if opcode.name == "TEXT":
            raise ConnectionLost("the server sent text, where only bytes are spoken")
        if opcode.name in ("BINARY", "CONT"):
            data += event.data

    def _send(self) -> None:
        for data in self._client.data_to_send():
            if data:
                self._stream.write(data)

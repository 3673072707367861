"""A relay between a client and its server that cuts, holds and truncates what goes through it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

CHUNK = 4096


class Relay:
    """`url` is where clients connect. `cut` cuts all connections there are; new ones come through, unless `closed`."""

    def __init__(self, server: str) -> None:
        parts = urlsplit(server)
        assert parts.hostname
        self._server = (parts.hostname, parts.port)
        self._parts = parts
        self._writers: set[asyncio.StreamWriter] = set()
        self._going = asyncio.Event()
        self._going.set()
        self.url = ""
        self.connections = 0
        self.closed = False
        self.to_server: int | None = None
        """Bytes that are still let through to the server, over all connections; then all are cut. None: any number."""
        self.to_client: int | None = None

    def cut(self) -> None:
        """Without a word to either side but a reset."""
        for writer in list(self._writers):
            writer.transport.abort()

    def hold(self) -> None:
        """Nothing goes through any more, and nobody is told."""
        self._going.clear()

    def release(self) -> None:
        self._going.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.closed:
            writer.transport.abort()
            return
        try:
            their_reader, their_writer = await asyncio.open_connection(*self._server)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, their_writer}
        ways = [
            asyncio.create_task(self._pass(reader, their_writer, "to_server")),
            asyncio.create_task(self._pass(their_reader, writer, "to_client")),
        ]
        await asyncio.wait(ways)
        for end in (writer, their_writer):
            end.transport.abort()
        self._writers -= {writer, their_writer}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._going.wait()
                left: int | None = getattr(self, way)
                if left is not None:
                    data = data[:left]
                    setattr(self, way, left - len(data))
                writer.write(data)
                await writer.drain()
                if left is not None and left == len(data):
                    setattr(self, way, None)
                    self.cut()
        with suppress(OSError):
            # What was said last arrives before the end.
            if writer.can_write_eof():
                writer.write_eof()


@asynccontextmanager
async def relaying(server: str) -> AsyncIterator[Relay]:
    relay = Relay(server)
    listening = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    parts = urlsplit(server)
    # Its name is in the server's certificate.
    relay.url = parts._replace(netloc=f"localhost:{port}").geturl()
    try:
        yield relay
    finally:
        listening.close()
        relay.release()
        relay.cut()
        await listening.wait_closed()

"""A proxy on uvloop, as well as one can write it: `uvloop_proxy.py PORT [--zlib] [CERTIFICATE KEY]`.

Clients' frames go over one connection to 127.0.0.1:PORT and back, as forwarder.c says it. What goes to one
connection in one turn is one write; headers are packed and unpacked whole, payloads are cut out once. With the two PEM
files clients speak TLS. With --zlib payloads of at least 256 bytes go to clients as a byte that tells what it is and a
zlib stream, if that is shorter; and those that come with a stream behind that byte are inflated.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
import sys
import zlib
from typing import cast

import uvloop

from bench.servers import busy

# The u24 of length and the header's first byte, as one number; flags, destination, source.
LINK = struct.Struct(">IBII")
LENGTH = struct.Struct(">I")
# Bytes that the length counts of these.
HEADER = LINK.size - 3
TO_LIST, NOTICE = 1, 7
COUNT = struct.Struct(">H")

THRESHOLD = 256
# As Photinus has it.
LEVEL = 1
# zlib's streams begin with it at every level and the usual window (RFC 1950, 2.2); behind the type's byte.
ZLIB = 0x78


class Upstream(asyncio.Protocol):
    """The one connection to what is behind the proxy."""

    transport: asyncio.Transport

    def __init__(self, compress: bool) -> None:
        self.compress = compress
        self.clients: dict[int, Client] = {}
        self.handles = 0
        self.out: list[bytes] = []
        self.begun = b""
        self.touched: list[Client] = []
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        # There is nothing that a proxy is good for by itself.
        sys.exit(f"the upstream is gone: {error}")

    def data_received(self, data: bytes) -> None:
        if self.begun:
            data = self.begun + data
        clients, touched = self.clients, self.touched
        unpack, pack = LINK.unpack_from, LENGTH.pack
        at, end = 0, len(data)
        while end - at >= LINK.size:
            word, _, destination, _ = unpack(data, at)
            stop = at + 3 + (word >> 8)
            if stop > end:
                break
            if word & 0xE0 == 0:
                client = clients.get(destination)
                if client is not None:
                    payload = data[at + LINK.size : stop]
                    if self.compress and len(payload) >= THRESHOLD:
                        payload = _deflated(payload)
                    if not client.out:
                        touched.append(client)
                    client.out += (pack(len(payload)), payload)
            else:
                self._to_list(data, at + LINK.size, stop)
            at = stop
        self.begun = data[at:]
        for client in touched:
            client.transport.write(b"".join(client.out))
            client.out.clear()
        touched.clear()

    def _to_list(self, data: bytes, at: int, stop: int) -> None:
        (count,) = COUNT.unpack_from(data, at)
        listed = struct.unpack_from(f">{count}I", data, at + COUNT.size)
        payload = data[at + COUNT.size + LENGTH.size * count : stop]
        if self.compress and len(payload) >= THRESHOLD:
            payload = _deflated(payload)
        frame = LENGTH.pack(len(payload)) + payload
        for destination in listed:
            client = self.clients.get(destination)
            if client is not None:
                if not client.out:
                    self.touched.append(client)
                client.out.append(frame)

    def send(self, pieces: list[bytes]) -> None:
        """At the end of the turn, with what else goes there."""
        if not self.out:
            self.loop.call_soon(self._flush)
        self.out += pieces

    def _flush(self) -> None:
        self.transport.write(b"".join(self.out))
        self.out.clear()


class Client(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.handle = 0
        self.out: list[bytes] = []
        self.begun = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.upstream.handles += 1
        self.handle = self.upstream.handles
        self.upstream.clients[self.handle] = self
        self._notice(b"O")

    def connection_lost(self, _: Exception | None) -> None:
        del self.upstream.clients[self.handle]
        self._notice(b"C")

    def _notice(self, what: bytes) -> None:
        self.upstream.send([LINK.pack((HEADER + 1) << 8 | NOTICE << 5, 0, 0, self.handle), what])

    def data_received(self, data: bytes) -> None:
        if self.begun:
            data = self.begun + data
        pieces: list[bytes] = []
        handle, pack = self.handle, LINK.pack
        at, end = 0, len(data)
        while end - at >= LENGTH.size:
            start = at + LENGTH.size
            stop = start + int.from_bytes(data[at:start], "big")
            if stop > end:
                break
            payload = data[start:stop]
            if self.upstream.compress and len(payload) > 1 and payload[1] == ZLIB:
                payload = payload[:1] + zlib.decompress(payload[1:])
            pieces += (pack((HEADER + len(payload)) << 8, 0, 0, handle), payload)
            at = stop
        self.begun = data[at:]
        if pieces:
            self.upstream.send(pieces)


def _deflated(payload: bytes) -> bytes:
    """The first byte tells what it is, and stays as it was."""
    packed = payload[:1] + zlib.compress(payload[1:], LEVEL)
    return packed if len(packed) < len(payload) else payload


async def serve(port: int, compress: bool, files: list[str]) -> None:
    loop = asyncio.get_running_loop()
    _, upstream = await loop.create_connection(lambda: Upstream(compress), "127.0.0.1", port)
    context = _context(*files) if files else None
    server = await loop.create_server(lambda: Client(upstream), "127.0.0.1", 0, backlog=4096, ssl=context)
    host, at = server.sockets[0].getsockname()
    print(f"ready {'tls' if files else 'tcp'}://{host}:{at}", flush=True)
    busy.begin()
    await server.serve_forever()


def _context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def main() -> None:
    port, *more = sys.argv[1:]
    compress = more[:1] == ["--zlib"]
    uvloop.run(serve(int(port), compress, more[compress:]))


if __name__ == "__main__":
    main()

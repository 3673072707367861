"""Echo and broadcast servers as one writes them with asyncio alone: `protocols.py KIND [CERTIFICATE KEY]`, with
TLS by the standard library where the two PEM files are given.

asyncio, uvloop: a Protocol that cuts frames and writes each one back. asyncio-joined, uvloop-joined: the frames
of one read go back in one write, joined by hand. uvloop-broadcast: a loop of writes (floor.c says what
the load asks for).
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Iterator
from typing import ClassVar, cast

HEADER = 4


class Frames(asyncio.Protocol):
    """Cuts the stream into frames, header included."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.begun = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def frames(self, data: bytes) -> Iterator[bytes]:
        data = self.begun + data if self.begun else data
        start, end = 0, len(data)
        while end - start >= HEADER:
            stop = start + HEADER + int.from_bytes(data[start : start + HEADER], "big")
            if stop > end:
                break
            yield data[start:stop]
            start = stop
        self.begun = data[start:]


class Echo(Frames):
    def data_received(self, data: bytes) -> None:
        for frame in self.frames(data):
            self.transport.write(frame)


class JoinedEcho(Frames):
    def data_received(self, data: bytes) -> None:
        self.transport.write(b"".join(self.frames(data)))


class Broadcast(Frames):
    members: ClassVar[set[asyncio.Transport]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.members.add(self.transport)

    def connection_lost(self, _: Exception | None) -> None:
        self.members.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        for frame in self.frames(data):
            times = frame[HEADER]
            if times == 0:
                self.transport.write(frame)
            for _ in range(times):
                for member in self.members:
                    if member is not self.transport:
                        member.write(frame)


KINDS: dict[str, type[Frames]] = {
    "asyncio": Echo,
    "asyncio-joined": JoinedEcho,
    "uvloop": Echo,
    "uvloop-joined": JoinedEcho,
    "uvloop-broadcast": Broadcast,
}


async def serve(protocol: type[Frames], files: list[str]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0, backlog=4096, ssl=_context(*files) if files else None)
    host, port = server.sockets[0].getsockname()
    print(f"ready {'tls' if files else 'tcp'}://{host}:{port}", flush=True)
    await server.serve_forever()


def _context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def main() -> None:
    kind, *files = sys.argv[1:]
    if kind.startswith("asyncio"):
        asyncio.run(serve(KINDS[kind], files))
    else:
        import uvloop

        uvloop.run(serve(KINDS[kind], files))


if __name__ == "__main__":
    main()

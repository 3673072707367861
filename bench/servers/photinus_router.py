"""Photinus: a proxy in Python on the engine: each packet is a handler's, who sends it on over one connection to
127.0.0.1:BENCH_UPSTREAM as forwarder.c says, and what comes from there is sent to its session. With BENCH_ZLIB
payloads are compressed here; else the engine does it, if the listener says so.

What goes upstream in one turn of the loop is one write.
"""

from __future__ import annotations

import asyncio
import os
import struct
import zlib
from typing import cast

from bench.servers.reporting import report
from photinus import App, Closed, Routes, Session

# The u24 of length and the header's first byte, as one number; flags, destination, source.
LINK = struct.Struct(">IBII")
# Bytes that the length counts of these.
HEADER = LINK.size - 3
NOTICE = 7
COUNT = struct.Struct(">H")

# In front of each payload: what it is (crates/bots/src/traffic.rs).
MOVE, ASK, ANSWER, SAY, SAID, BUNDLE = (bytes([kind]) for kind in range(1, 7))
PUSHES = {SAID: "said", BUNDLE: "bundle"}

COMPRESSING = bool(os.environ.get("BENCH_ZLIB"))
THRESHOLD = 256
# As Photinus has it.
LEVEL = 1

routes = Routes()


class Upstream(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self) -> None:
        self.sessions: dict[int, Session[int]] = {}
        self.handles = 0
        self.asked: dict[int, list[asyncio.Future[bytes]]] = {}
        self.out: list[bytes] = []
        self.begun = b""
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def send(self, kind: int, session: Session[int], what: bytes, body: bytes = b"") -> None:
        if not self.out:
            self.loop.call_soon(self._flush)
        self.out += (LINK.pack((HEADER + len(what) + len(body)) << 8 | kind << 5, 0, 0, session.data), what, body)

    def _flush(self) -> None:
        self.transport.write(b"".join(self.out))
        self.out.clear()

    def data_received(self, data: bytes) -> None:
        if self.begun:
            data = self.begun + data
        at, end = 0, len(data)
        while end - at >= LINK.size:
            word, _, destination, _ = LINK.unpack_from(data, at)
            stop = at + 3 + (word >> 8)
            if stop > end:
                break
            start = at + LINK.size
            at = stop
            listed: tuple[int, ...] = (destination,)
            if word & 0xE0:
                (count,) = COUNT.unpack_from(data, start)
                listed = struct.unpack_from(f">{count}I", data, start + COUNT.size)
                start += COUNT.size + 4 * count
            self._deliver(listed, data[start : start + 1], data[start + 1 : stop])
        self.begun = data[at:]

    def _deliver(self, listed: tuple[int, ...], what: bytes, body: bytes) -> None:
        if COMPRESSING and len(body) >= THRESHOLD:
            body = zlib.compress(body, LEVEL)
        if what == ANSWER:
            waiting = self.asked.get(listed[0])
            if waiting:
                waiting.pop(0).set_result(body)
            return
        route = PUSHES[what]
        for destination in listed:
            session = self.sessions.get(destination)
            if session is not None:
                session.send(route, body, droppable=what == BUNDLE)


@routes.opened
def came(session: Session[int]) -> None:
    upstream.handles += 1
    session.data = upstream.handles
    upstream.sessions[session.data] = session
    upstream.send(NOTICE, session, b"O")


@routes.closed
def gone(session: Session[int], reason: Closed) -> None:
    del upstream.sessions[session.data]
    for future in upstream.asked.pop(session.data, ()):
        future.cancel()
    upstream.send(NOTICE, session, b"C")


@routes.on("move", public=True)
def move(session: Session[int], body: bytes) -> None:
    upstream.send(0, session, MOVE, _plain(body))


@routes.on("ask", public=True)
async def ask(session: Session[int], body: bytes) -> bytes:
    future: asyncio.Future[bytes] = upstream.loop.create_future()
    upstream.asked.setdefault(session.data, []).append(future)
    upstream.send(0, session, ASK, _plain(body))
    return await future


@routes.on("say", public=True)
def say(session: Session[int], body: bytes) -> None:
    upstream.send(0, session, SAY, _plain(body))


def _plain(body: bytes) -> bytes:
    return zlib.decompress(body) if COMPRESSING and body[:1] == b"\x78" else body


upstream: Upstream
app = App("bench", routes=[routes])


@app.started
async def connect() -> None:
    global upstream
    loop = asyncio.get_running_loop()
    _, upstream = await loop.create_connection(Upstream, "127.0.0.1", int(os.environ["BENCH_UPSTREAM"]))


report(app)

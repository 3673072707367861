"""A node on loopback in a thread of its own, so that a test can be its clients and look at it meanwhile."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import uvloop
from msgspec import Struct

from photinus import App, Closed, Group, Node, Routes, Session
from photinus.config import Config, EngineSection, Limits, TlsSection
from photinus.node import run
from tests.adversity.clients import DEADLINE, Client
from tests.adversity.codecs import ALL
from tests.adversity.doors import certified

T = TypeVar("T")

# Unless the test says for how long.
RESUMES = re.compile("photinus(?!.*resume=)")
LOOPS = ("own", "asyncio", "uvloop")


class World:
    """An application that remembers who came and how they went. Handlers are added by the tests."""

    def __init__(self) -> None:
        self.routes = Routes()
        self.sessions: list[Session] = []
        self.ends: list[tuple[str, str]] = []
        self.heard: list[bytes] = []

        @self.routes.opened
        def opened(session: Session) -> None:
            self.sessions.append(session)

        @self.routes.closed
        def closed(session: Session, reason: Closed) -> None:
            self.ends.append((reason.by, reason.reason))

    @property
    def app(self) -> App:
        return App("world", routes=[self.routes])


def serving(handler: Callable[[Session, Any], Any]) -> World:
    """A world where this handler gets everything: it is `go`, and the default."""
    world = World()
    world.routes.on("go", public=True)(handler)
    world.routes.default(handler)
    return world


def echoing() -> World:
    def echo(session: Session, body: bytes) -> bytes:
        world.heard.append(body)
        return body

    world = serving(echo)
    return world


class Server:
    def __init__(self, app: App, listen: Sequence[str], config: Config, loop: str) -> None:
        self.app = app
        self.listen = listen
        self.config = config
        self.kind = loop
        self.clients: list[Client] = []
        self.node: Node
        self.loop: asyncio.AbstractEventLoop
        self._ready = threading.Event()
        self._stop: asyncio.Event

    def connect(
        self,
        protocol: str = "pomelo",
        *,
        hello: bool = True,
        receive_buffer: int = 0,
        source: str = "",
        preface: bytes = b"",
        context: ssl.SSLContext | None = None,
    ) -> Client:
        client = Client(
            self.address(protocol),
            hello=hello,
            receive_buffer=receive_buffer,
            source=source,
            preface=preface,
            context=context,
        )
        self.clients.append(client)
        return client

    def raw(self, protocol: str = "pomelo", *, source: str = "") -> socket.socket:
        """A connection without a word said, in front of the listener's door."""
        _, _, place = self.address(protocol).partition("://")
        client = Client(f"tcp://{place}", hello=False, source=source)
        self.clients.append(client)
        return client.socket

    def address(self, protocol: str) -> str:
        return next(address for address in self.node.addresses if f"protocol={protocol}" in address)

    def call(self, function: Callable[[], T]) -> T:
        """Calls it in the loop's thread."""

        async def body() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(body(), self.loop).result(DEADLINE)

    def send(self, to: Iterable[Session | Group], bodies: Iterable[bytes]) -> None:
        """Sends all of them to each, in one turn of the loop. Route 1 is one in every protocol."""

        def turn() -> None:
            for body in bodies:
                for receiver in to:
                    receiver.send(1, body)

        self.call(turn)

    def count(self, name: str) -> int:
        """One of the engine's counters."""
        return int(self.node.statistics()["engine"][name])

    def counts(self, *names: str) -> dict[str, int]:
        engine = self.node.statistics()["engine"]
        return {name: engine[name] for name in names}

    def ends(self) -> dict[str, int]:
        """How many connections ended in which way; those in which none did are left out."""
        engine = self.node.statistics()["engine"]
        reasons = {name.removeprefix("closed_"): count for name, count in engine.items() if name.startswith("closed_")}
        return {reason: count for reason, count in reasons.items() if count}

    def wire_errors(self) -> dict[str, int]:
        return dict(self.node.statistics()["wire_errors"])

    def until(self, what: Callable[[], object]) -> None:
        """Waits until it is true."""
        wait_until(what, lambda: f"; counted: {self.node.statistics()}")

    @contextmanager
    def stuck(self) -> Iterator[None]:
        """Keeps the loop's thread busy with nothing, in pure Python, until the block is left."""
        begun, over = threading.Event(), threading.Event()

        def spin() -> None:
            begun.set()
            while not over.is_set():
                pass

        self.loop.call_soon_threadsafe(spin)
        assert begun.wait(DEADLINE)
        try:
            yield
        finally:
            over.set()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)

    def serve(self) -> None:
        try:
            if self.kind == "own":
                run(self.app, self._main, listen=self.listen, config=self.config)
            else:
                factory = uvloop.new_event_loop if self.kind == "uvloop" else asyncio.new_event_loop
                with asyncio.Runner(loop_factory=factory) as runner:
                    runner.run(self._attached())
        finally:
            self._ready.set()

    def wait_until_ready(self) -> None:
        assert self._ready.wait(DEADLINE)

    async def _attached(self) -> None:
        async with Node(self.app, listen=self.listen, config=self.config) as node:
            await self._main(node)

    async def _main(self, node: Node) -> None:
        self.node = node
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._ready.set()
        await self._stop.wait()


@contextmanager
def serve(
    app: App,
    *protocols: str,
    limits: Limits | None = None,
    threads: int = 0,
    loop: str = "own",
    host: str = "127.0.0.1",
    scheme: str = "tcp",
    tls: TlsSection | None = None,
    path: str = "",
) -> Iterator[Server]:
    """Serves these protocols (with their options), or all, through one kind of door; at the end all
    clients leave, and what was opened must have been closed."""
    if tls is None:
        tls = certified() if scheme in ("tls", "wss") else TlsSection()
    config = Config(engine=EngineSection(threads=threads), limits=limits or Limits(), tls=tls)
    # A session that was cut and does not come back ends soon.
    listen = [
        f"{scheme}://{host}:0{path}?protocol={protocol}" + "&resume=1" * (RESUMES.match(protocol) is not None)
        for protocol in protocols or ALL
    ]
    server = Server(app, listen, config, loop)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.serve)
        server.wait_until_ready()
        if running.done():
            running.result()
        try:
            yield server
            for client in server.clients:
                client.close()
            server.until(lambda: running.done() or server.count("connections") == 0)
        finally:
            for client in server.clients:
                client.close()
            if not running.done():
                server.stop()
        running.result(DEADLINE)
    counts = server.counts("sessions_opened", "sessions_closed", "sessions", "connections", "waiting_out_bytes")
    opened = counts["sessions_opened"]
    assert counts == {
        "sessions_opened": opened,
        "sessions_closed": opened,
        "sessions": 0,
        "connections": 0,
        "waiting_out_bytes": 0,
    }


def wait_until(what: Callable[[], object], told: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not what():
        assert time.monotonic() < deadline, f"waited in vain{told()}"
        time.sleep(0.002)


class Point(Struct):
    x: int
    y: int

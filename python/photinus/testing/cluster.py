"""TestCluster: an application on a node without sockets, under virtual time."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from random import Random
from types import TracebackType
from typing import Any, Literal, Self, overload

from ..app import App
from ..config import Config
from ..errors import ConfigError
from ..node import Node, engine_for
from .clients import PhotinusClient, PlainClient, Player, PomeloClient
from .clock import VirtualTime
from .framing import FRAMINGS


class TestCluster:
    """`async with TestCluster(app) as t:` runs the app on one node, in memory, until the block ends.

    Time moves only by `advance`, or when the test waits for something and nothing else is left to do;
    `asyncio.sleep` and every timer of this loop go by it. `seed` is that of `t.random`, for tests that
    draw lots. An exception that a handler, timer or task lets out is put in `t.errors`; one that the
    test has not taken out of there by the end fails it.

    It needs a loop of the standard library; UsageError on any other.
    """

    # Not a test case, whatever pytest thinks of the name.
    __test__ = False

    def __init__(self, app: App, *, seed: int = 0, config: Config | None = None) -> None:
        self.app = app
        self.random = Random(seed)  # noqa: S311 - lots of a test, not secrets
        self.errors: list[BaseException] = []
        config = Config() if config is None else config
        self._engine = engine_for(config, memory=True)
        self.node = Node(app, listen=(), config=config, engine=self._engine, watch=self.errors.append)
        self._listeners: dict[str, str] = {}
        self._clients: list[Player | PlainClient] = []
        self._stack = ExitStack()
        self._time: VirtualTime | None = None

    async def __aenter__(self) -> Self:
        self._time = VirtualTime(asyncio.get_running_loop(), self._turn)
        self._stack.enter_context(self._time)
        try:
            await self.node.start()
        except BaseException:
            self._stack.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.node.stop()
        finally:
            self._stack.close()
        if error is None and self.errors:
            raise BaseExceptionGroup("handlers, timers or tasks failed in this test (see t.errors)", self.errors)

    @property
    def now(self) -> float:
        """Virtual seconds, on the loop's clock."""
        return asyncio.get_running_loop().time()

    @overload
    async def connect(self, protocol: Literal["photinus"] = "photinus", *, options: str = "") -> PhotinusClient: ...
    @overload
    async def connect(self, protocol: Literal["pomelo"], *, options: str = "") -> PomeloClient: ...
    @overload
    async def connect(self, protocol: Literal["length4", "firefly"], *, options: str = "") -> PlainClient: ...
    async def connect(self, protocol: str = "photinus", *, options: str = "") -> Player | PlainClient:
        """A new client, ready to speak. `options` are more of the listener's, such as `heartbeat=3`."""
        if protocol not in ("photinus", "pomelo", *FRAMINGS):
            raise ConfigError(f"protocol {protocol!r}: expected photinus, pomelo, {' or '.join(FRAMINGS)}")
        address = await self._listener(f"protocol={protocol}{options and f'&{options}'}")
        if protocol in FRAMINGS:
            plain = PlainClient(self._engine.connect(address), FRAMINGS[protocol]())
            self._clients.append(plain)
            await self.settle()
            return plain
        client: Player
        if protocol == "photinus":
            client = PhotinusClient(lambda: self._engine.connect(address))
        else:
            client = PomeloClient(self._engine.connect(address))
        self._clients.append(client)
        await client.opened()
        return client

    async def advance(self, seconds: float) -> None:
        """Moves time on, through every timer due until then in its order, and waits until all is quiet."""
        await self._virtual().advance(seconds)

    async def settle(self) -> None:
        """Waits, without moving time, until everything that can happen now has happened."""
        await self._virtual().settle()

    def statistics(self) -> dict[str, Any]:
        return self.node.statistics()

    async def _listener(self, options: str) -> str:
        if options not in self._listeners:
            # Ports are only told apart here; nothing is bound.
            port = 1 + len(self._listeners)
            self._listeners[options] = self._engine.listen(f"tcp://127.0.0.1:{port}?{options}")
            # A reactor serves a listener from its next turn on.
            await self.settle()
        return self._listeners[options]

    def _virtual(self) -> VirtualTime:
        if self._time is None:
            raise RuntimeError("use `async with TestCluster(app) as t`")
        return self._time

    def _turn(self, now: float) -> bool:
        """One round of everything below the loop: clients, engine, handlers."""
        happened = False
        for client in self._clients:
            happened |= client.turn()
        self._engine.flush()
        happened |= self._engine.turn(now)
        happened |= self._engine.drain()
        return happened

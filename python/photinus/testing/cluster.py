"""TestCluster: an application on a node without sockets, under virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from random import Random
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from msgspec.structs import replace

from ..app import App
from ..config import ROLES, Config, Member, Role
from ..engine import MemoryNetwork
from ..errors import ConfigError, UsageError
from ..node import Node, engine_for
from .clients import PhotinusClient, PlainClient, Player, PomeloClient
from .clock import VirtualTime
from .framing import FRAMINGS

T = TypeVar("T")

# The port of the first node's link.
FIRST_LINK = 7800
# Virtual seconds in which all nodes of a test have found each other: a second try is 50 ms after the first.
LINKED_SECONDS = 5.0


class TestCluster:
    """`async with TestCluster(app) as t:` runs the app on one node, in memory, until the block ends.

    With several `nodes` they are linked in memory, and each is called `node-1` and so on and both holds clients
    and runs the app; with `proxies`, those are `proxy-1` and so on and hold the clients, and the nodes are
    `world-1` and so on and run the app.

    Time moves only by `advance`, or when the test waits for something and nothing else is left to do;
    `asyncio.sleep` and every timer of this loop go by it. `seed` is that of `t.random`, for tests that
    draw lots. An exception that a handler, timer or task lets out is put in `t.errors`; one that the
    test has not taken out of there by the end fails it.

    It needs a loop of the standard library; UsageError on any other.
    """

    # Not a test case, whatever pytest thinks of the name.
    __test__ = False

    def __init__(
        self, app: App, *, nodes: int = 1, proxies: int = 0, seed: int = 0, config: Config | None = None
    ) -> None:
        self.app = app
        self.random = Random(seed)  # noqa: S311 - lots of a test, not secrets
        self.errors: list[BaseException] = []
        self._network = MemoryNetwork()
        config = Config() if config is None else config
        self.nodes = self._made(config, *_names(nodes, proxies))
        """By their names, the proxies first."""
        self.node = next(iter(self.nodes.values()))
        """The first of them: clients connect to it if they are not told otherwise."""
        self._started: list[Node] = []
        self._listeners: dict[tuple[str, str], str] = {}
        self._clients: list[Player | PlainClient] = []
        self._stack = ExitStack()
        self._time: VirtualTime | None = None

    async def __aenter__(self) -> Self:
        self._time = VirtualTime(asyncio.get_running_loop(), self._turn)
        self._stack.enter_context(self._time)
        try:
            for node in self.nodes.values():
                await node.start()
                self._started.append(node)
            await self._linked()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop()
        if error is None and self.errors:
            raise BaseExceptionGroup("handlers, timers or tasks failed in this test (see t.errors)", self.errors)

    def task(self, work: Coroutine[Any, Any, T], *, node: str | None = None) -> asyncio.Task[T]:
        """Runs a coroutine as code of a node, the last if none is named: groups and addresses find that one."""
        there = self._node(node) if node is not None else list(self.nodes.values())[-1]
        return asyncio.get_running_loop().create_task(work, context=there.scope.context.copy())

    def cut(self, one: str, other: str) -> None:
        """Breaks every link between two nodes and lets none come about until `heal`. What was on its way is sent
        again then, unless one of them has given the other up: after 3 s."""
        for pair in ((one, other), (other, one)):
            self._network.refuse(*pair, refused=True)
        self._network.cut(one, other)

    def heal(self, one: str, other: str) -> None:
        """The two reach each other again; within a second there is a link."""
        for pair in ((one, other), (other, one)):
            self._network.refuse(*pair, refused=False)

    def delay(self, one: str, other: str, seconds: float) -> None:
        """What either sends to the other takes this long from now on."""
        for pair in ((one, other), (other, one)):
            self._network.delay(*pair, seconds=seconds)

    @property
    def now(self) -> float:
        """Virtual seconds, on the loop's clock."""
        return asyncio.get_running_loop().time()

    @overload
    async def connect(
        self, protocol: Literal["photinus"] = "photinus", *, options: str = "", node: str | None = None
    ) -> PhotinusClient: ...
    @overload
    async def connect(
        self, protocol: Literal["pomelo"], *, options: str = "", node: str | None = None
    ) -> PomeloClient: ...
    @overload
    async def connect(
        self, protocol: Literal["length4", "firefly"], *, options: str = "", node: str | None = None
    ) -> PlainClient: ...
    async def connect(
        self, protocol: str = "photinus", *, options: str = "", node: str | None = None
    ) -> Player | PlainClient:
        """A new client of this node, the first if none is named, ready to speak. `options` are more of the
        listener's, such as `heartbeat=3`."""
        if protocol not in ("photinus", "pomelo", *FRAMINGS):
            raise ConfigError(f"protocol {protocol!r}: expected photinus, pomelo, {' or '.join(FRAMINGS)}")
        there = self.node if node is None else self._node(node)
        engine = there.engine
        address = await self._listener(there, f"protocol={protocol}{options and f'&{options}'}")
        if protocol in FRAMINGS:
            plain = PlainClient(engine.connect(address), FRAMINGS[protocol]())
            self._clients.append(plain)
            await self.settle()
            return plain
        client: Player
        if protocol == "photinus":
            client = PhotinusClient(lambda: engine.connect(address))
        else:
            client = PomeloClient(engine.connect(address))
        self._clients.append(client)
        await client.opened()
        return client

    async def advance(self, seconds: float) -> None:
        """Moves time on, through every timer due until then in its order, and waits until all is quiet."""
        await self._virtual().advance(seconds)

    async def settle(self) -> None:
        """Waits, without moving time, until everything that can happen now has happened."""
        await self._virtual().settle()

    def statistics(self, node: str | None = None) -> dict[str, Any]:
        return (self.node if node is None else self._node(node)).statistics()

    def _made(self, config: Config, names: tuple[str, ...], roles: tuple[tuple[Role, ...], ...]) -> dict[str, Node]:
        if not names:
            engine = engine_for(config, memory=True)
            node = Node(self.app, listen=(), config=config, engine=engine, watch=self.errors.append)
            return {node.name: node}
        # Ports are only told apart here; nothing is bound.
        members = {
            name: Member(f"tcp://127.0.0.1:{FIRST_LINK + number}", own)
            for number, (name, own) in enumerate(zip(names, roles, strict=True))
        }
        cluster = replace(config.cluster, nodes=members)
        nodes: dict[str, Node] = {}
        for name, own in zip(names, roles, strict=True):
            settings = replace(config, node=replace(config.node, name=name), cluster=cluster)
            engine = engine_for(settings, memory=True, network=self._network, name=name)
            # A proxy runs no code of the game's.
            app = self.app if "world" in own else App(self.app.name)
            nodes[name] = Node(app, listen=(), config=settings, engine=engine, watch=self.errors.append)
        return nodes

    async def _linked(self) -> None:
        """All links are there that the table says."""
        deadline = self.now + LINKED_SECONDS
        worlds = [name for name, node in self.nodes.items() if "world" in node.roles]
        while any(not node.reaches(world) for node in self.nodes.values() for world in worlds):
            if self.now > deadline:
                raise TimeoutError(f"the nodes of this test were not linked within {LINKED_SECONDS:g} s")
            await self.advance(0.01)

    async def _stop(self) -> None:
        try:
            while self._started:
                await self._started.pop(0).stop()
        finally:
            self._stack.close()

    def _node(self, name: str) -> Node:
        if name not in self.nodes:
            raise UsageError(f"there is no node {name}: expected one of {', '.join(self.nodes)}")
        return self.nodes[name]

    async def _listener(self, node: Node, options: str) -> str:
        key = node.name, options
        if key not in self._listeners:
            # As with links.
            port = 1 + len(self._listeners)
            self._listeners[key] = node.engine.listen(f"tcp://127.0.0.1:{port}?{options}")
            # A reactor serves a listener from its next turn on.
            await self.settle()
        return self._listeners[key]

    def _virtual(self) -> VirtualTime:
        if self._time is None:
            raise RuntimeError("use `async with TestCluster(app) as t`")
        return self._time

    def _turn(self, now: float) -> bool:
        """One round of everything below the loop: clients, engines, handlers."""
        happened = False
        for client in self._clients:
            happened |= client.turn()
        for node in self.nodes.values():
            node.engine.flush()
            happened |= node.engine.turn(now)
            happened |= node.engine.drain()
        return happened


def _names(nodes: int, proxies: int) -> tuple[tuple[str, ...], tuple[tuple[Role, ...], ...]]:
    """Of the proxies and then the world nodes, with what each does; nothing for a node that is alone."""
    if nodes < 1 or proxies < 0:
        raise UsageError(f"TestCluster: expected one node or more, got nodes={nodes}, proxies={proxies}")
    if nodes == 1 and not proxies:
        return (), ()
    names = [f"proxy-{number + 1}" for number in range(proxies)]
    if not proxies:
        return tuple(f"node-{number + 1}" for number in range(nodes)), (ROLES,) * nodes
    names += [f"world-{number + 1}" for number in range(nodes)]
    proxy: tuple[Role, ...] = ("proxy",)
    world: tuple[Role, ...] = ("world",)
    return tuple(names), (proxy,) * proxies + (world,) * nodes

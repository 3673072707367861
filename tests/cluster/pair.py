"""Two halves of a cluster in one process, joined by a link that the test holds in its hands."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from photinus import App, Service
from photinus.cluster.calls import Calls
from photinus.cluster.instances import Instances
from photinus.cluster.placement import Placement
from photinus.scope import Scope
from photinus.testing import TestCluster

T = TypeVar("T")
LINK = 7


class Half:
    """One node's calls and instances. What it sends waits in `sent` until the pair carries it."""

    def __init__(self, name: str, pair: Pair, classes: Mapping[str, type[Service]], pins: Mapping[str, str]) -> None:
        engine, loop = pair.cluster.node.engine, asyncio.get_running_loop()
        self.name = name
        self.pair = pair
        self.sent: deque[tuple[int, bool, bytes]] = deque()
        self.priorities: list[int] = []
        self.failures: list[tuple[str, BaseException]] = []
        self.scope = Scope(name)
        placement = Placement(["left", "right"], pins)
        self.instances = Instances(
            classes, name, placement, run=engine.run, context=self.scope.context, failed=self._failed
        )
        self.calls = self.scope.add(
            Calls(
                name,
                frozenset({"world"}),
                placement,
                self.instances,
                send=self._send,
                run=engine.run,
                loop=loop,
                context=self.scope.context,
                failed=self._failed,
            )
        )

    def _send(
        self,
        link: int,
        kind: int,
        destination: int,
        source: int,
        body: bytes,
        *,
        priority: int = 1,
        request: bool = False,
    ) -> None:
        self.priorities.append(priority)
        self.pair.send(self, kind, request, body)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Code of this half."""
        return asyncio.get_running_loop().create_task(work, context=self.scope.context.copy())

    def _failed(self, what: str, error: BaseException) -> None:
        self.failures.append((what, error))


class Pair:
    """Both halves. While it is `held` nothing of what they send arrives."""

    def __init__(
        self, cluster: TestCluster, classes: Mapping[str, type[Service]], pins: Mapping[str, str] | None = None
    ) -> None:
        self.cluster = cluster
        self.held = False
        self.carried = 0
        self.left = Half("left", self, classes, pins or {})
        self.right = Half("right", self, classes, pins or {})
        self.join()

    def join(self) -> None:
        self.left.calls.linked(LINK, "right", frozenset({"world"}))
        self.right.calls.linked(LINK, "left", frozenset({"world"}))

    def cut(self) -> None:
        """The link is lost for good, with all that is on it."""
        for half in (self.left, self.right):
            half.sent.clear()
            half.calls.unlinked(LINK, "cut")

    def hold(self) -> None:
        self.held = True

    def let_go(self) -> None:
        self.held = False
        for half in (self.left, self.right):
            for _ in range(len(half.sent)):
                self._carry_soon(half)

    def send(self, half: Half, kind: int, request: bool, body: bytes) -> None:
        half.sent.append((kind, request, body))
        if not self.held:
            self._carry_soon(half)

    async def feed(self, half: Half, request: bool, body: bytes) -> None:
        """These bytes come to that half, whoever sent them."""
        loop = asyncio.get_running_loop()
        loop.call_soon(half.calls.handle_frame, LINK, 4, request, 0, 0, body, context=half.scope.context)
        await self.cluster.settle()

    def _carry_soon(self, half: Half) -> None:
        other = self.right if half is self.left else self.left

        def carry() -> None:
            if half.sent:
                self.carried += 1
                kind, request, body = half.sent.popleft()
                other.calls.handle_frame(LINK, kind, request, 0, 0, body)

        asyncio.get_running_loop().call_soon(carry, context=other.scope.context)


@asynccontextmanager
async def joined(*classes: type[Service], pins: Mapping[str, str] | None = None) -> AsyncIterator[Pair]:
    """A pair with these classes on both sides."""
    async with TestCluster(App("pair")) as cluster:
        pair = Pair(cluster, {each.__name__: each for each in classes}, pins)
        yield pair
        for half in (pair.left, pair.right):
            half.calls.close()


def pair_test(*classes: type[Service], pins: Mapping[str, str] | None = None) -> Callable[[Any], Callable[[], None]]:
    """Makes a test of a coroutine function that takes a pair of these classes."""

    def decorate(scenario: Callable[[Pair], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        def test() -> None:
            async def run() -> None:
                async with joined(*classes, pins=pins) as pair:
                    await scenario(pair)

            asyncio.run(run())

        test.__name__, test.__doc__ = scenario.__name__, scenario.__doc__
        return test

    return decorate

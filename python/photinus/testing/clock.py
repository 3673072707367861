"""Virtual time under a running asyncio loop of the standard library.

While it is in force the loop's clock stands still as long as anything is left to do, and then jumps
to the next timer, so an hour of game takes as long as its work does, and each run goes the same way.

The loop asks its selector to wait exactly when no callback is ready, so that is the one place where
time moves. Nothing waits for real, but for threads that the loop was given work for.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Mapping
from typing import Any, Self, cast

from ..errors import UsageError

# The engine does not say when its next timer is due, so it is shown the time at least this often.
STEP_NS = 50_000_000
# With no timer anywhere the test waits for something outside, or for ever: then real time passes too.
OUTSIDE_SECONDS = 0.001


class VirtualTime:
    """`with VirtualTime(loop, turn): …`, on the loop's own thread.

    `turn(now)` lets everything below the loop run at that time (seconds); True if anything happened.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, turn: Callable[[float], bool]) -> None:
        if not isinstance(loop, asyncio.SelectorEventLoop):
            kind = f"{type(loop).__module__}.{type(loop).__qualname__}"
            raise UsageError(
                f"virtual time needs a loop of the standard library (asyncio.SelectorEventLoop), not {kind}: "
                "run this test with asyncio.run, or without uvloop"
            )
        # Its clock and its selector are what is replaced; asyncio has no public place for either.
        self._loop = cast(Any, loop)
        self._run: Callable[..., Any] = self._loop.run_in_executor
        self._turn = turn
        self._selector = _Selector(self._loop._selector, self._select)  # noqa: SLF001
        self._now_ns = 0
        self._quiet: list[asyncio.Future[None]] = []
        self._threads = 0

    @property
    def now(self) -> float:
        """Seconds on the loop's clock. Kept in nanoseconds, so that ten tenths make one."""
        return self._now_ns / 1e9

    def __enter__(self) -> Self:
        # What was scheduled before keeps its distance.
        self._now_ns = round(self._loop.time() * 1e9)
        self._loop._selector = self._selector  # noqa: SLF001
        self._loop.time = lambda: self.now
        self._loop.run_in_executor = self._run_in_executor
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop._selector = self._selector.real  # noqa: SLF001
        del self._loop.time, self._loop.run_in_executor

    async def settle(self) -> None:
        """Returns when nothing more happens without time moving."""
        future = self._loop.create_future()
        self._quiet.append(future)
        await future

    async def advance(self, seconds: float) -> None:
        """Moves time on, through every timer that is due until then, and settles."""
        # What was just sent is handled at the time it was sent.
        await self.settle()
        await asyncio.sleep(seconds)
        await self.settle()

    def _select(self, timeout: float | None) -> list[Any]:
        real = self._selector.real
        events = real.select(0)
        happened = self._turn(self.now)
        if events or happened or (timeout is not None and timeout <= 0):
            return events
        if self._threads:
            # Whatever they take, it takes no virtual time.
            return real.select(None)
        if self._quiet:
            for future in self._quiet:
                if not future.done():
                    future.set_result(None)
            self._quiet.clear()
            return []
        if timeout is None:
            events = real.select(OUTSIDE_SECONDS)
            self._now_ns += STEP_NS
        else:
            # Up, since a timer must be due when its time has come; the loop forgives a nanosecond.
            self._now_ns += min(round(timeout * 1e9) or 1, STEP_NS)
        return events

    def _run_in_executor(self, executor: Any, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._run(executor, function, *arguments)
        self._threads += 1
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, _: asyncio.Future[Any]) -> None:
        self._threads -= 1


class _Selector(selectors.BaseSelector):
    """The loop's own selector, but for the waiting."""

    def __init__(self, real: selectors.BaseSelector, select: Callable[[float | None], list[Any]]) -> None:
        self.real = real
        self._select = select

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self.real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self.real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self.real.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return self._select(timeout)

    def close(self) -> None:
        self.real.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self.real.get_map()

"""Owned, supervised tasks and timers of one node.

An exception in one is logged with its traceback and counted, and ends nothing else. All of them
are cancelled when the node stops.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from .errors import UsageError
from .scope import Scope

T = TypeVar("T")


class Timer:
    """A function to be called later, once or again and again, by every node that was given it."""

    __slots__ = ("_tasks", "cancelled", "function", "repeats", "seconds")

    def __init__(self, seconds: float, function: Callable[[], object], *, repeats: bool) -> None:
        if not math.isfinite(seconds) or seconds < 0 or (repeats and seconds == 0):
            raise ValueError(f"a timer needs a finite, positive number of seconds, not {seconds!r}")
        if not callable(function):
            raise TypeError(f"a timer needs a function without arguments, not {function!r}")
        self.seconds = seconds
        self.function = function
        self.repeats = repeats
        self.cancelled = False
        self._tasks: set[asyncio.Task[None]] = set()

    def cancel(self) -> None:
        """Calls it no more; a call that is suspended at an `await` is cancelled."""
        self.cancelled = True
        for task in tuple(self._tasks):
            task.cancel()

    def owns(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Tasks:
    """What a node runs beside its handlers. `failed` is told what raised, and the exception."""

    def __init__(
        self,
        scope: Scope,
        loop: asyncio.AbstractEventLoop,
        failed: Callable[[str, BaseException], None],
    ) -> None:
        self._scope = scope
        self._loop = loop
        self._failed = failed
        self._tasks: set[asyncio.Task[Any]] = set()
        self._started = 0
        self._failures = 0
        self._skipped = 0

    def start(self, work: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Runs the coroutine as a task of this node. UsageError on any thread but the node's own."""
        if not self._on_loop():
            work.close()
            raise UsageError(
                "tasks and timers are started on the node's own thread: "
                "from another, use asyncio.run_coroutine_threadsafe or loop.call_soon_threadsafe"
            )
        # Code that did not inherit the node's context (a test's body) still starts work that does.
        context = None if self._scope.entered else self._scope.context.copy()
        task = self._loop.create_task(work, name=name or _name(work), context=context)
        self._started += 1
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def start_timer(self, timer: Timer) -> asyncio.Task[None] | None:
        """The task in which it runs; None if it was cancelled before."""
        if timer.cancelled:
            return None
        work = self._repeat(timer) if timer.repeats else self._once(timer)
        task = self.start(work, name=f"timer {_name(timer.function)}")
        timer.owns(task)
        return task

    async def stop(self, timeout: float) -> None:
        """Cancels everything and waits for it to end, at most this many seconds."""
        await self.end(self._tasks, timeout)

    async def end(self, tasks: Iterable[asyncio.Task[Any]], timeout: float) -> None:
        """The same with these only, all but the one that asks for it."""
        tasks = {task for task in tasks if not task.done()} - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=timeout)
            for task in stuck:
                problem = f"did not end within {timeout:g} s of being cancelled"
                self._report(task.get_name(), TimeoutError(problem))

    def statistics(self) -> dict[str, int]:
        return {
            "running": len(self._tasks),
            "started": self._started,
            "failed": self._failures,
            "beats_skipped": self._skipped,
        }

    def _on_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    async def _once(self, timer: Timer) -> None:
        await asyncio.sleep(timer.seconds)
        await self._call(timer)

    async def _repeat(self, timer: Timer) -> None:
        # Beats are counted from the start, so that lateness never adds up.
        start, beat = self._loop.time(), 0
        while True:
            # The clock may be a little before the beat that just was, hence the maximum.
            passed = math.floor((self._loop.time() - start) / timer.seconds)
            self._skipped += max(0, passed - beat)
            beat = max(beat, passed) + 1
            await asyncio.sleep(start + beat * timer.seconds - self._loop.time())
            await self._call(timer)

    async def _call(self, timer: Timer) -> None:
        try:
            result = timer.function()
            if inspect.isawaitable(result):
                await result
        except Exception as error:  # noqa: BLE001 - it is reported, and the timer goes on
            self._report(f"timer {_name(timer.function)}", error)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            error = task.exception()
            if error is not None:
                self._report(f"task {task.get_name()}", error)

    def _report(self, what: str, error: BaseException) -> None:
        self._failures += 1
        self._failed(what, error)


def _name(work: object) -> str:
    """Of a function or a coroutine, as a traceback shows it."""
    return getattr(work, "__qualname__", None) or repr(work)

"""The application: what a node runs, described once and without any state of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar, overload

from . import scope
from .errors import NoNode
from .routes import Routes, Table, table_of
from .tasks import Tasks, Timer

T = TypeVar("T")


class App:
    """A game: its routes, and the timers and tasks of each node that runs it.

    Any number of nodes, also in one process, can run the same App.
    """

    def __init__(self, name: str, *, routes: Iterable[Routes] = ()) -> None:
        self.name = name
        self.routes = tuple(routes)
        self._timers: list[Timer] = []
        self._works: list[Callable[[], Coroutine[Any, Any, object]]] = []

    def __repr__(self) -> str:
        return f"App({self.name!r})"

    def every(self, seconds: float, function: Callable[[], object]) -> Timer:
        """Calls the function (def or async def) again and again, once every so many seconds.

        Beats are counted from the start and do not drift; those that pass while a call is still
        running, or the loop is late, are skipped. Called before a node runs, each node will do it;
        called in one, that one does.
        """
        return self._timer(Timer(seconds, function, repeats=True))

    def after(self, seconds: float, function: Callable[[], object]) -> Timer:
        """Calls the function (def or async def) once, so many seconds from now, or from when each
        node starts if none runs yet."""
        return self._timer(Timer(seconds, function, repeats=False))

    @overload
    def task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]: ...
    @overload
    def task(self, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T] | None: ...
    def task(self, work: Coroutine[Any, Any, T] | Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T] | None:
        """Runs a coroutine as a task that the node owns: logged if it raises, cancelled at stop.

        Before a node runs it must be an async function, which each node will call; None is
        returned then, and the task otherwise.
        """
        tasks = self._tasks()
        if tasks is not None:
            return tasks.start(work() if callable(work) else work)
        if not callable(work):
            work.close()
            raise NoNode("no node runs this app yet: give app.task the async function itself, not its call")
        self._works.append(work)
        return None

    def table(self) -> Table:
        """All routes; RouteError if two of the Routes declare the same one."""
        return table_of(self.routes)

    def start_in(self, tasks: Tasks) -> None:
        """Starts in a new node what was declared before it ran."""
        for timer in self._timers:
            tasks.start_timer(timer)
        for work in self._works:
            tasks.start(work())

    def _timer(self, timer: Timer) -> Timer:
        tasks = self._tasks()
        if tasks is None:
            self._timers.append(timer)
        else:
            tasks.start_timer(timer)
        return timer

    def _tasks(self) -> Tasks | None:
        """Those of the node that this code runs in, if it runs this app."""
        try:
            here = scope.current()
        except NoNode:
            return None
        return here.part(Tasks) if here.holds(self) else None

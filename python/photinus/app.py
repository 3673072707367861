"""The application: what a node runs, described once and without any state of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar, overload

from msgspec import Struct

from . import scope
from .cluster.service import Service
from .errors import NoNode, RouteError
from .routes import Routes, Table, table_of
from .shape import Shape, hook_shape
from .space.space import Space
from .tasks import Tasks, Timer

T = TypeVar("T")
# A start and a stop want no answer.
N = TypeVar("N", bound=Coroutine[Any, Any, None] | None)


class AppHook(Struct, frozen=True):
    """What was declared with `started` or `stopping`."""

    function: Callable[[], Coroutine[Any, Any, None] | None]
    shape: Shape

    async def __call__(self) -> None:
        waiting = self.function()
        if waiting is not None:
            await waiting


class Reporter(Struct, frozen=True):
    """The part of a node that tells its statistics."""

    statistics: Callable[[], dict[str, Any]]


class App:
    """A game: its routes, services and spaces, and the timers and tasks of each node that runs it.

    Any number of nodes, also in one process, can run the same App. RouteError if two services or spaces
    have the same name, or one of them is none.
    """

    def __init__(
        self,
        name: str,
        *,
        routes: Iterable[Routes] = (),
        services: Iterable[type[Service]] = (),
        spaces: Iterable[type[Space]] = (),
    ) -> None:
        self.name = name
        self.routes = tuple(routes)
        self.callees = _by_name([*_checked("services", Service, services), *_checked("spaces", Space, spaces)])
        """The services and spaces by their names."""
        self._timers: list[Timer] = []
        self._works: list[Callable[[], Coroutine[Any, Any, object]]] = []
        self.starting: list[AppHook] = []
        self.ending: list[AppHook] = []
        self._sealed = False

    def __repr__(self) -> str:
        return f"App({self.name!r})"

    def started(self, hook: Callable[[], N], /) -> Callable[[], N]:
        """Declares what each node that starts calls, in order, before it lets a client in.

        What one raises fails the start. RouteError if it has the wrong shape.
        """
        self.starting.append(self._hook("started", hook))
        return hook

    def stopping(self, hook: Callable[[], N], /) -> Callable[[], N]:
        """Declares what each node that stops calls, in order, while its players are still there to
        be told; a node that did not come to serve calls none.

        One that takes longer than photinus.node.STOPPING_SECONDS is cancelled. That, and what one
        raises, is logged, and the stop goes on.
        """
        self.ending.append(self._hook("stopping", hook))
        return hook

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

    def statistics(self) -> dict[str, Any]:
        """The statistics (docs/statistics.md) of the node that this code runs in, as `Node.statistics`.

        NoNode where no node runs this app.
        """
        here = scope.current()
        if not here.holds(self):
            raise NoNode(f"the node {here.name} runs another app than {self.name}")
        return here.part(Reporter).statistics()

    def table(self) -> Table:
        """All routes; RouteError if two of the Routes declare the same one."""
        return table_of(self.routes)

    def seal(self) -> None:
        """A node runs this: what is declared to run at its start, or later, would be too late."""
        self._sealed = True
        for routes in self.routes:
            routes.seal()

    def start_in(self, tasks: Tasks) -> list[asyncio.Task[Any]]:
        """Starts in a node what was declared before the node ran it, and gives what was started."""
        timers = [tasks.start_timer(timer) for timer in self._timers]
        return [*filter(None, timers), *(tasks.start(work()) for work in self._works)]

    def _hook(self, what: str, hook: Callable[[], N]) -> AppHook:
        # Its annotations name None at most, which is known everywhere.
        shape = hook_shape(what, hook, {})
        if self._sealed:
            raise RouteError(f"{what} at {shape.place}: declared after a node took this app")
        return AppHook(hook, shape)

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


def _checked(what: str, kind: type[Service], given: Iterable[object]) -> list[type[Service]]:
    classes: list[type[Service]] = []
    for each in given:
        if not (isinstance(each, type) and issubclass(each, kind) and each is not kind):
            raise RouteError(f"App({what}=…): expected classes derived from {kind.__name__}, found {each!r}")
        classes.append(each)
    return classes


def _by_name(classes: list[type[Service]]) -> dict[str, type[Service]]:
    """Other nodes know them by their names."""
    named: dict[str, type[Service]] = {}
    for each in classes:
        first = named.setdefault(each.__name__, each)
        if first is not each:
            raise RouteError(f"App: two services or spaces are called {each.__name__}: {first!r} and {each!r}")
    return named

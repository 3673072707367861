"""Routes: which handler serves which message, and the shape that a handler must have.

A handler takes a session and one message, and what it returns is the reply. Its annotations are
read where it is decorated: a wrong shape raises there, and never when a client calls.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol, TypeVar, overload

from msgspec import Struct

from .errors import RouteError
from .session import Closed, Session
from .shape import Shape, closed_shape, handler_shape, opened_shape

D = TypeVar("D")
M = TypeVar("M", bound=Struct | bytes)
R = TypeVar("R", bound=Struct | bytes | Awaitable[Struct | bytes | None] | None)
# The end of a session wants no answer.
N = TypeVar("N", bound=Coroutine[Any, Any, None] | None)

# A route's name travels behind a length of one byte (pomelo), a number in four (Firefly).
MAX_NAME_BYTES = 255
MAX_NUMBER = 2**32 - 1


class Decorator(Protocol):
    """What `on` and `default` return: it gives the handler back as it was."""

    def __call__(self, handler: Callable[[Session[D], M], R], /) -> Callable[[Session[D], M], R]: ...


class Route(Struct, frozen=True):
    """One declared handler."""

    key: str | int | None
    """The route's name, or a Firefly command's number; None for the default handler."""
    handler: Callable[..., Any]
    shape: Shape
    public: bool


class Routes:
    """A set of routes; an App is given one or several of them."""

    def __init__(self) -> None:
        self.declared: dict[str | int, Route] = {}
        self.fallback: Route | None = None
        self.opening: Route | None = None
        self.closing: Route | None = None
        self._sealed = False

    def on(self, route: str | int, *, public: bool = False) -> Decorator:
        """Declares the handler of a route: a name, or the number of a Firefly command.

        Unless it is `public`, it answers logged-in sessions only; others get `login-required`.
        RouteError if the handler has the wrong shape or the route has one already.
        """
        _check_key(route)
        what = f"on({route!r})"

        def decorate(handler: Callable[[Session[D], M], R], /) -> Callable[[Session[D], M], R]:
            shape = handler_shape(what, handler, _locals_of_caller())
            self._check_free(what, self.declared.get(route), shape)
            self.declared[route] = Route(route, handler, shape, public)
            return handler

        return decorate

    @overload
    def default(self, handler: Callable[[Session[D], M], R], /) -> Callable[[Session[D], M], R]: ...
    @overload
    def default(self, /, *, public: bool = True) -> Decorator: ...
    def default(self, handler: Callable[..., Any] | None = None, /, *, public: bool = True) -> Any:
        """Declares the handler of every packet that carries no route, and of every Firefly
        command that has no handler of its own. An unknown route's name never comes here.

        It is public if not told otherwise, as a protocol without routes has no other to log in by.
        """

        def decorate(handler: Callable[..., Any], names: Mapping[str, Any] | None = None, /) -> Callable[..., Any]:
            shape = handler_shape("default", handler, names or _locals_of_caller())
            self._check_free("default", self.fallback, shape)
            self.fallback = Route(None, handler, shape, public)
            return handler

        return decorate if handler is None else decorate(handler, _locals_of_caller())

    def opened(self, handler: Callable[[Session[D]], N], /) -> Callable[[Session[D]], N]:
        """Declares what is called with each new session, before anything it says is handled."""
        shape = opened_shape(handler, _locals_of_caller())
        self._check_free("opened", self.opening, shape)
        self.opening = Route(None, handler, shape, public=True)
        return handler

    def closed(self, handler: Callable[[Session[D], Closed], N], /) -> Callable[[Session[D], Closed], N]:
        """Declares what is called once with each session that has ended, after its last handler."""
        shape = closed_shape(handler, _locals_of_caller())
        self._check_free("closed", self.closing, shape)
        self.closing = Route(None, handler, shape, public=True)
        return handler

    def seal(self) -> None:
        """A node runs these routes: one that is added now would never be called."""
        self._sealed = True

    def _check_free(self, what: str, first: Route | None, second: Shape) -> None:
        if self._sealed:
            raise RouteError(f"{what} at {second.place}: declared after a node took these routes")
        if first is not None:
            raise _twice(what, first.shape, second)


class Table(Struct, frozen=True):
    """All routes of an application."""

    routes: dict[str | int, Route]
    default: Route | None
    opened: tuple[Route, ...]
    closed: tuple[Route, ...]


def table_of(parts: Iterable[Routes]) -> Table:
    """The routes of all parts together; RouteError if two of them declare the same one."""
    parts = tuple(parts)
    routes: dict[str | int, Route] = {}
    default: Route | None = None
    for part in parts:
        for key, route in part.declared.items():
            if key in routes:
                raise _twice(f"on({key!r})", routes[key].shape, route.shape)
            routes[key] = route
        if default is not None and part.fallback is not None:
            raise _twice("default", default.shape, part.fallback.shape)
        default = default or part.fallback
    return Table(
        routes,
        default,
        opened=tuple(part.opening for part in parts if part.opening is not None),
        closed=tuple(part.closing for part in parts if part.closing is not None),
    )


def _twice(what: str, first: Shape, second: Shape) -> RouteError:
    return RouteError(f"{what} at {second.place}: declared twice (first at {first.place})")


def _check_key(route: object) -> None:
    if isinstance(route, str):
        if 1 <= len(route.encode()) <= MAX_NAME_BYTES:
            return
    elif isinstance(route, int) and not isinstance(route, bool) and 0 <= route <= MAX_NUMBER:
        return
    raise RouteError(
        f"a route is a name of 1 to {MAX_NAME_BYTES} bytes or a number from 0 to {MAX_NUMBER}, not {route!r}"
    )


def _locals_of_caller() -> dict[str, Any]:
    """The names around the decorated function: its annotations may name a class defined there."""
    frame = inspect.currentframe()
    # Two up: this function, the decorator, and who applies it.
    caller = frame and frame.f_back and frame.f_back.f_back
    return caller.f_locals if caller else {}

"""Routes: which handler serves which message, and the shape that a handler must have.

A handler takes a session and one message, and what it returns is the reply. Its annotations are
read where it is decorated: a wrong shape raises there, and never when a client calls.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast, overload

from msgspec import Struct

from .errors import RouteError
from .hooks import After, Before, Hook, Hooks
from .session import Closed, Session, role_names
from .shape import Shape, handler_shape, hook_shape

D = TypeVar("D")
M = TypeVar("M", bound=Struct | bytes)
R = TypeVar("R", bound=Struct | bytes | Awaitable[Struct | bytes | None] | None)
# The end of a session wants no answer.
N = TypeVar("N", bound=Coroutine[Any, Any, None] | None)

# A route's name travels behind a length of one byte (pomelo, photinus), a number in four (Firefly).
MAX_NAME_BYTES = 255
MAX_NUMBER = 2**32 - 1
# Tokens of a bucket: what the engine counts them in.
MAX_BURST = 2**32 - 1


class Decorator(Protocol):
    """What `on` and `default` return: it gives the handler back as it was."""

    def __call__(self, handler: Callable[[Session[D], M], R], /) -> Callable[[Session[D], M], R]: ...


class Rate(Struct, frozen=True):
    """How often one session may call a route: `count` times in `per` seconds on average, and at most
    `burst` times at once (the count, if none is given).

    A token bucket: a call takes one of `burst` tokens, and one comes back every `per / count`
    seconds. RouteError if a value is not positive.
    """

    count: float
    per: float = 1.0
    burst: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("count", self.count), ("per", self.per)):
            if not isinstance(cast(object, value), int | float) or not math.isfinite(value) or value <= 0:
                raise RouteError(f"{self!r}: `{name}` is a positive, finite number")
        if not isinstance(cast(object, self.tokens), int) or not 1 <= self.tokens <= MAX_BURST:
            raise RouteError(f"{self!r}: `burst`, or else the count, is a whole number from 1 to {MAX_BURST}")

    @property
    def tokens(self) -> int:
        return math.ceil(self.count) if self.burst is None else self.burst

    @property
    def interval(self) -> float:
        """Seconds after which a token comes back."""
        return self.per / self.count


class Route(Struct, frozen=True):
    """One declared handler."""

    key: str | int | None
    """The route's name, or a Firefly command's number; None for the default handler."""
    handler: Callable[..., Any]
    shape: Shape
    public: bool = True
    roles: frozenset[str] = frozenset()
    """One of them suffices; none: whoever is logged in."""
    rate: Rate | None = None
    hooks: Hooks | None = None
    secret: bool = False
    """Its answers are never compressed."""


class Routes:
    """A set of routes; an App is given one or several of them.

    `before` and `after` are hooks around every handler of these routes, one function or several:

        def before(session: Session, call: Call) -> None
        def after(session: Session, call: Call, outcome: Outcome) -> None

    or `async def`. Before hooks run in order, when the message is decoded and the session may call
    the route; Refused (or anything else) raised by one stops the call. After hooks run in reverse
    order, whatever became of the call, before the answer goes out; one that raises is logged and
    counted, and changes nothing. Both keep the session's order: its next packet waits for them.

    `roles` and `rate` are those of all these routes that have none of their own. RouteError if a
    hook has the wrong shape.
    """

    def __init__(
        self,
        *,
        before: Before | Sequence[Before] = (),
        after: After | Sequence[After] = (),
        roles: str | Collection[str] = (),
        rate: Rate | None = None,
    ) -> None:
        names = _locals_of_caller()
        hooks = Hooks(_hooks("before", before, names), _hooks("after", after, names))
        self._hooks = hooks if hooks.before or hooks.after else None
        self._roles = _roles("Routes", roles)
        self._rate = _rate("Routes", rate)
        self.declared: dict[str | int, Route] = {}
        self.fallback: Route | None = None
        self.opening: Route | None = None
        self.resuming: Route | None = None
        self.telling: Route | None = None
        self.rehoming: Route | None = None
        self.closing: Route | None = None
        self._sealed = False

    def on(
        self,
        route: str | int,
        *,
        public: bool = False,
        roles: str | Collection[str] = (),
        rate: Rate | None = None,
        secret: bool = False,
    ) -> Decorator:
        """Declares the handler of a route: a name, or the number of a Firefly command.

        Unless it is `public`, it answers logged-in sessions only; others get `login-required`. With
        `roles`, one or several, it answers those that logged in with at least one of them; others
        get `forbidden`. A session that calls it more often than its `rate` allows gets `too-fast`,
        with the seconds to wait as `retry_after`, or nothing where nobody waits for an answer.
        All of it is checked before the message is decoded, and in this order. The answers of a
        `secret` route are never compressed: what is compressed together with text that another player
        chose tells of itself by its length.

        RouteError if the handler has the wrong shape or the route has one already.
        """
        _check_key(route)
        what = f"on({route!r})"
        declare = self._declare(what, public, roles, rate, secret)

        def decorate(handler: Callable[[Session[D], M], R], /) -> Callable[[Session[D], M], R]:
            shape = handler_shape(what, handler, _locals_of_caller())
            self._check_free(what, self.declared.get(route), shape)
            self.declared[route] = declare(route, handler, shape)
            return handler

        return decorate

    @overload
    def default(self, handler: Callable[[Session[D], M], R], /) -> Callable[[Session[D], M], R]: ...
    @overload
    def default(
        self, /, *, public: bool | None = None, roles: str | Collection[str] = (), rate: Rate | None = None
    ) -> Decorator: ...
    def default(
        self,
        handler: Callable[..., Any] | None = None,
        /,
        *,
        public: bool | None = None,
        roles: str | Collection[str] = (),
        rate: Rate | None = None,
    ) -> Any:
        """Declares the handler of every packet that carries no route, and of every Firefly
        command that has no handler of its own. An unknown route's name never comes here.

        It is public if not told otherwise, as a protocol without routes has no other to log in by;
        not with `roles`, which are as in `on`, as is `rate`.
        """
        if public is None:
            public = not roles and not self._roles
        declare = self._declare("default", public, roles, rate)

        def decorate(handler: Callable[..., Any], names: Mapping[str, Any] | None = None, /) -> Callable[..., Any]:
            shape = handler_shape("default", handler, names or _locals_of_caller())
            self._check_free("default", self.fallback, shape)
            self.fallback = declare(None, handler, shape)
            return handler

        return decorate if handler is None else decorate(handler, _locals_of_caller())

    def opened(self, handler: Callable[[Session[D]], N], /) -> Callable[[Session[D]], N]:
        """Declares what is called with each new session, before anything it says is handled."""
        shape = hook_shape("opened", handler, _locals_of_caller())
        self._check_free("opened", self.opening, shape)
        self.opening = Route(None, handler, shape)
        return handler

    def resumed(self, handler: Callable[[Session[D], bool], N], /) -> Callable[[Session[D], bool], N]:
        """Declares what is called with each session whose client is back after its connection was cut, before
        anything that it says over the new one is handled.

        The second argument is whether there is a gap: some of what was sent to it is lost, and it wants
        a snapshot. Without one it has got everything, in order, and nothing need be done.
        """
        shape = hook_shape("resumed", handler, _locals_of_caller())
        self._check_free("resumed", self.resuming, shape)
        self.resuming = Route(None, handler, shape)
        return handler

    def told(self, handler: Callable[[Session[D], bytes], N], /) -> Callable[[Session[D], bytes], N]:
        """Declares what is called with what native applications tell of sessions, in order with their packets."""
        shape = hook_shape("told", handler, _locals_of_caller())
        self._check_free("told", self.telling, shape)
        self.telling = Route(None, handler, shape)
        return handler

    def rehomed(self, handler: Callable[[Session[D]], N], /) -> Callable[[Session[D]], N]:
        """Declares what is called with each session that has its home here from now on, since the node where that was
        is lost, before anything that it says is handled.

        It has `session.data` as that was a second before at most, if a handler says its class (`Session[Data]`),
        and is logged in and in groups again when this has seen to it.
        """
        shape = hook_shape("rehomed", handler, _locals_of_caller())
        self._check_free("rehomed", self.rehoming, shape)
        self.rehoming = Route(None, handler, shape)
        return handler

    def closed(self, handler: Callable[[Session[D], Closed], N], /) -> Callable[[Session[D], Closed], N]:
        """Declares what is called once with each session that has ended, after its last handler; where sessions
        can be resumed, after the time in which this one could have been."""
        shape = hook_shape("closed", handler, _locals_of_caller())
        self._check_free("closed", self.closing, shape)
        self.closing = Route(None, handler, shape)
        return handler

    def seal(self) -> None:
        """A node runs these routes: one that is added now would never be called."""
        self._sealed = True

    def _declare(
        self, what: str, public: bool, roles: str | Collection[str], rate: Rate | None, secret: bool = False
    ) -> Callable[[str | int | None, Callable[..., Any], Shape], Route]:
        """What makes the Route of a handler, with what was declared about it and about all of these."""
        named = _roles(what, roles) or self._roles
        if public and named:
            raise RouteError(f"{what}: it is public, and for {', '.join(sorted(named))} only: which of the two?")
        limit = _rate(what, rate) or self._rate

        def declare(key: str | int | None, handler: Callable[..., Any], shape: Shape) -> Route:
            return Route(key, handler, shape, public, named, limit, self._hooks, secret)

        return declare

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
    resumed: tuple[Route, ...]
    rehomed: tuple[Route, ...]
    told: tuple[Route, ...]
    closed: tuple[Route, ...]

    def data(self) -> set[type[Struct]]:
        """The classes of `session.data` that handlers name."""
        several = (self.opened, self.resumed, self.rehomed, self.told, self.closed)
        routes = [*self.routes.values(), *((self.default,) if self.default else ()), *sum(several, ())]
        return {route.shape.data for route in routes if route.shape.data is not None}


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
        resumed=tuple(part.resuming for part in parts if part.resuming is not None),
        rehomed=tuple(part.rehoming for part in parts if part.rehoming is not None),
        told=tuple(part.telling for part in parts if part.telling is not None),
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


def _roles(what: str, roles: str | Collection[str]) -> frozenset[str]:
    try:
        return role_names(roles)
    except ValueError as error:
        raise RouteError(f"{what}: {error}") from None


def _rate(what: str, rate: object) -> Rate | None:
    if rate is None or isinstance(rate, Rate):
        return rate
    raise RouteError(f"{what}: a rate is given as Rate(count, per=seconds, burst=count), not {rate!r}")


def _hooks(what: str, given: object, names: Mapping[str, Any]) -> tuple[Hook, ...]:
    def hook(function: Any) -> Hook:
        shape = hook_shape(what, function, names)
        return Hook(function, shape.asynchronous, shape.place)

    functions = cast("Sequence[object]", given) if isinstance(given, Sequence) else (given,)
    return tuple(hook(function) for function in functions)


def _locals_of_caller() -> dict[str, Any]:
    """The names around the decorated function: its annotations may name a class defined there."""
    frame = inspect.currentframe()
    # Two up: this function, the decorator, and who applies it.
    caller = frame and frame.f_back and frame.f_back.f_back
    return caller.f_locals if caller else {}

"""Services: objects of the application with a key, each on one node, that every node can call.

    class Bank(Service):
        @call
        async def balance(self, player: int) -> int: ...

    await Bank.at("north").balance(7)

An instance is made where its key is placed, when it is called for the first time. `at` gives an
address: what is awaited of its methods travels to that node and back. Only what is @call can be
called so; the annotations say what is encoded and what it is decoded to.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, Protocol, Self, TypeVar, cast, overload

import msgspec
from msgspec import Struct

from ..errors import RouteError, UsageError
from ..scope import here
from ..session import SessionRef
from ..shape import CallShape, Shape, attached_shape, call_shape, guest_hook_state, place_of
from .callee import KIND_NODE, KIND_SERVICE, KIND_SPACE, PRIORITIES, Question
from .calls import Calls
from .payload import MAX_TARGET_BYTES, target_of

if TYPE_CHECKING:
    from .instances import Instances

A = TypeVar("A")
F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Any]])
S = TypeVar("S")
M = TypeVar("M", bound=Struct | bytes)
R = TypeVar("R", bound=Struct | bytes | Awaitable[Struct | bytes | None] | None)

Priority = Literal["bulk", "usual", "high"]

# Seconds that a call waits for its answer, if it is not told otherwise. A player waits no longer for anything.
CALL_SECONDS = 5.0
# Encoded targets that a method remembers; one is made in a microsecond, and a node speaks to some thousands of keys.
REMEMBERED_TARGETS = 4096


class Attached(Protocol):
    """What `on` returns: it gives the handler back as it was."""

    def __call__(self, handler: Callable[[S, SessionRef, M], R], /) -> Callable[[S, SessionRef, M], R]: ...


@overload
def call(method: F, /) -> F: ...
@overload
def call(*, one_way: bool = False, priority: Priority = "usual") -> Callable[[F], F]: ...
def call(method: Callable[..., Any] | None = None, /, *, one_way: bool = False, priority: Priority = "usual") -> Any:
    """Declares a method (an `async def`) that other nodes can call by an address.

    Its arguments and result are of whatever msgspec encodes, and annotated. A `one_way` one returns None,
    and whoever calls it does not wait: it is sent, and what becomes of it is not told.

    On a link that is full, calls with a `high` priority and their answers overtake others, as do usual ones those of
    `bulk`. Order is kept among calls of one priority; messages to sessions are usual.

    RouteError if it has the wrong shape.
    """
    what = "call"

    def declare(method: Callable[..., Any], names: Mapping[str, Any]) -> Callable[..., Any]:
        shape = call_shape(what, method, names)
        if one_way and shape.result is not type(None):
            raise RouteError(f"call at {shape.place}: a one_way method returns None")
        number = PRIORITIES.get(priority)
        if number is None:
            raise RouteError(f"call at {shape.place}: a priority is one of {', '.join(PRIORITIES)}, not {priority!r}")
        vars(method)["__photinus_call__"] = Method(
            shape,
            Question(shape.name, msgspec.msgpack.Decoder(shape.result).decode, one_way, number),
            msgspec.msgpack.Decoder(shape.arguments).decode,
        )
        return method

    if method is not None:
        return declare(method, _locals_of_caller())

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        return declare(method, _locals_of_caller())

    return decorate


def on(route: str | int) -> Attached:
    """Declares the method that handles a route of the sessions that are attached to this service or space.

    It is called with who sent the message and the message, and what it returns is the reply; it is a def
    or an `async def`. RouteError if it has the wrong shape.
    """
    what = f"on({route!r})"

    def decorate(handler: Callable[[S, SessionRef, M], R], /) -> Callable[[S, SessionRef, M], R]:
        shape = attached_shape(what, handler, _locals_of_caller())
        routes = vars(handler).setdefault("__photinus_on__", {})
        routes[route] = shape
        return handler

    return decorate


class Method(Struct, frozen=True):
    """What was declared with @call."""

    shape: CallShape
    question: Question
    decode: Callable[[bytes], tuple[Any, ...]]
    """Of the arguments."""


class Handling(Struct, frozen=True):
    """What was declared with @on."""

    name: str
    shape: Shape


class Declared(Struct, frozen=True):
    """What a class of services has declared."""

    kind: int
    """Of the frames that are addressed to it."""
    calls: dict[str, Method]
    """What is @call, by name."""
    handlers: dict[str | int, Handling]
    """What is @on, by route."""
    addresses: type[At]
    arrive: Hook | None = None
    leave: Hook | None = None
    left: Hook | None = None


class Hook(Struct, frozen=True):
    """A method that is called with a session that comes or goes."""

    call: Callable[..., Any]
    decode: Callable[[bytes], Any]
    """Of the state that one comes with."""


class Service:
    """A base for services. There is one instance a key, on one node, in the whole cluster.

    It is made without arguments, `open` is awaited before anything is called, and `close` ends it. Its
    methods interleave only where one of them awaits.
    """

    # Under names that no subclass will want for its own.
    __photinus__: ClassVar[Declared]
    __photinus_instance__: tuple[str, Instances] | None = None

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        calls: dict[str, Method] = {}
        handlers: dict[str | int, Handling] = {}
        for name in dir(cls):
            marks = getattr(inspect.getattr_static(cls, name), "__dict__", {})
            if isinstance(method := marks.get("__photinus_call__"), Method):
                calls[name] = method
            for route, shape in marks.get("__photinus_on__", {}).items():
                if route in handlers:
                    first = handlers[route].shape.place
                    raise RouteError(f"on({route!r}) at {shape.place}: declared twice (first at {first})")
                handlers[route] = Handling(name, shape)
        for name in ("open", "close"):
            hook = inspect.getattr_static(cls, name)
            if not inspect.iscoroutinefunction(hook):
                raise RouteError(f"{name} at {place_of(hook)}: expected async def (self) -> None")
        if "close" in vars(cls):
            cls.close = _ending(cls.close)  # type: ignore[method-assign, assignment]
        askers = {name: _asker(name, method) for name, method in calls.items()}
        addresses = type(f"{cls.__name__}.at", (At,), {"__slots__": (), "of": cls.__name__, **askers})
        names = _locals_of_caller()
        # Only a space has them: a service may call its own methods so.
        hooks = ("arrive", "leave", "left") if cls.__photinus__.kind == KIND_SPACE else ()
        arrive, leave, left = [_hook(cls, name, names) for name in hooks] or (None, None, None)
        cls.__photinus__ = Declared(cls.__photinus__.kind, calls, handlers, addresses, arrive, leave, left)

    @classmethod
    def at(cls, key: str, *, timeout: float = CALL_SECONDS) -> Self:
        """The address of the instance with this key, wherever that is: a call of one of its methods waits at most
        `timeout` seconds, and no longer than the call that it is made in.

        Calls raise Refused, as the method does; RemoteError where the method raised something else; CallTimeout,
        Unreachable and CallMismatch. AttributeError for what is not @call; ValueError if the key is no text
        or too long.
        """
        address = f"{cls.__name__}/{key}"
        _check_address(cls, address, key)
        return cast(Self, cls.__photinus__.addresses(address, cls.__photinus__.kind, timeout))

    @classmethod
    def at_node(cls, node: str, *, timeout: float = CALL_SECONDS) -> Self:
        """The address of the instance that the node of this name has for itself."""
        address = f"{cls.__name__}@{node}"
        _check_address(cls, address, node)
        return cast(Self, cls.__photinus__.addresses(address, KIND_NODE, timeout))

    @classmethod
    async def at_all(
        cls, ask: Callable[[Self], Awaitable[A]], *, role: str = "world", timeout: float = CALL_SECONDS
    ) -> dict[str, A | Exception]:
        """Calls each node of that role that there is a link to, all at once, as in
        `await Bank.at_all(lambda bank: bank.audit())`.

        Gives by the nodes' names what each returned, or what the call of it raised.
        """

        async def one(node: str) -> A:
            return await ask(cls.at_node(node, timeout=timeout))

        nodes = here(Calls).nodes(role)
        results = await asyncio.gather(*map(one, nodes), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, Exception):
                raise result
        return cast("dict[str, A | Exception]", dict(zip(nodes, results, strict=True)))

    @property
    def key(self) -> str:
        """What this instance was addressed with; of one that a node has for itself, the node's name."""
        return self.address[len(type(self).__name__) + 1 :]

    @property
    def address(self) -> str:
        """`Class/key`."""
        return self.__photinus_made__()[0]

    async def open(self) -> None:
        """Called before anything else. What it raises is raised by the calls that waited for it, and the next call
        makes a new instance."""

    async def close(self) -> None:
        """Ends the instance; the next call makes a new one. Called by the node when it stops, and by whoever wants
        to. To do something at the end, override it."""
        await self.__photinus_end__(_nothing_to_do)

    async def __photinus_end__(self, hook: Callable[[Self], Coroutine[Any, Any, None]]) -> None:
        address, instances = self.__photinus_made__()
        if instances.is_ending(address, self):
            # A subclass's `close`, which calls its base's.
            await hook(self)
        else:
            await instances.end(address, self, hook)

    def __photinus_made__(self) -> tuple[str, Instances]:
        if self.__photinus_instance__ is None:
            name = type(self).__name__
            raise UsageError(f"{name}: services and spaces are made by the node, at the first call of {name}.at(key)")
        return self.__photinus_instance__


class At:
    """An address: what `at` gives. It has those methods only that are @call."""

    __slots__ = ("__photinus_kind__", "__photinus_timeout__", "address")

    of: ClassVar[str]

    def __init__(self, address: str, kind: int, timeout: float) -> None:
        self.address = address
        self.__photinus_kind__ = kind
        self.__photinus_timeout__ = timeout

    def __repr__(self) -> str:
        return f"<{self.address}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, At) and other.address == self.address

    def __hash__(self) -> int:
        return hash(self.address)

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"{self.of}.at(…).{name}: this is an address, and only methods that are @call can be called by it",
            name=name,
            obj=self,
        )


Service.__photinus__ = Declared(KIND_SERVICE, {}, {}, At)


def _hook(cls: type[Service], name: str, names: Mapping[str, Any]) -> Hook | None:
    function = getattr(cls, name, None)
    if function is None:
        return None
    state = guest_hook_state(name, function, {**names, cls.__name__: cls})
    return Hook(function, msgspec.msgpack.Decoder(state).decode)


def _asker(name: str, method: Method) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The method of an address that calls this one."""
    question, signature = method.question, method.shape.signature
    plain, count = method.shape.plain, len(signature.parameters)
    targets: dict[str, bytes] = {}

    async def ask(self: At, *arguments: Any, **named: Any) -> Any:
        if named or not plain or len(arguments) != count:
            bound = signature.bind(*arguments, **named)
            bound.apply_defaults()
            arguments = tuple(bound.arguments.values())
        address = self.address
        target = targets.get(address)
        if target is None:
            if len(targets) >= REMEMBERED_TARGETS:
                targets.clear()
            target = targets[address] = target_of(name, address)
        return await here(Calls).ask(
            self.__photinus_kind__, address, target, question, arguments, self.__photinus_timeout__
        )

    ask.__name__ = name
    ask.__qualname__ = f"{method.shape.name} by its address"
    return ask


def _ending(hook: Callable[[Any], Coroutine[Any, Any, None]]) -> Callable[[Any], Coroutine[Any, Any, None]]:
    """A subclass's `close`, which is to end the instance whoever calls it."""

    @wraps(hook)
    async def close(self: Service) -> None:
        await self.__photinus_end__(hook)

    return close


async def _nothing_to_do(_: Service) -> None:
    """The end of what has no `close` of its own."""


def _check_address(cls: type[Service], address: str, key: object) -> None:
    if cls is Service or not isinstance(key, str) or not key:
        raise ValueError(f"{cls.__name__}.at takes a key, a text such as 'north', not {key!r}")
    longest = max(map(len, cls.__photinus__.calls), default=0)
    if len(address.encode()) + 1 + longest > MAX_TARGET_BYTES:
        raise ValueError(f"{cls.__name__}.at: the key {key[:32]!r}… is longer than an address can be")


def _locals_of_caller() -> dict[str, Any]:
    """The names around the decorated method: its annotations may name a class defined there."""
    # Two up: this function, the decorator, and who applies it: the body of a class. That sees what is around it, too.
    frame = inspect.currentframe()
    body = frame and frame.f_back and frame.f_back.f_back
    around = body and body.f_back
    return {**(around.f_locals if around else {}), **(body.f_locals if body else {})}

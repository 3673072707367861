"""The shape of handlers and hooks, read from their annotations: what they take, and whether they suspend."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeGuard, cast

import msgspec
from msgspec import Struct

from .errors import RouteError
from .hooks import Call, Outcome
from .session import Closed, Session, SessionRef

_CALL = "async def (self, argument: A, …) -> R with A and R of whatever msgspec encodes"
_ATTACHED = "(self, who: SessionRef, message: M) -> R with M a Struct or bytes, and R a Struct, bytes or None"
_HANDLER = "(session: Session, message: M) -> R with M a Struct or bytes, and R a Struct, bytes or None"
# What is called with a fixed shape, by what it is declared as.
_HOOKS: dict[str, tuple[str, tuple[type, ...]]] = {
    "opened": ("(session: Session) -> None", (Session,)),
    "rehomed": ("(session: Session) -> None", (Session,)),
    "told": ("(session: Session, body: bytes) -> None", (Session, bytes)),
    "resumed": ("(session: Session, gap: bool) -> None", (Session, bool)),
    "closed": ("(session: Session, reason: Closed) -> None", (Session, Closed)),
    "before": ("(session: Session, call: Call) -> None", (Session, Call)),
    "after": ("(session: Session, call: Call, outcome: Outcome) -> None", (Session, Call, Outcome)),
    "started": ("() -> None", ()),
    "stopping": ("() -> None", ()),
}


class Shape(Struct, frozen=True):
    """What the engine must know of a handler in order to call it."""

    message: type[Struct | bytes] | None
    """What it is decoded to; None for a hook."""
    asynchronous: bool
    place: str
    """Where the handler is written, as file:line."""
    data: type[Struct] | None = None
    """What its Session holds, as `Session[Data]` says."""


def handler_shape(what: str, handler: object, names: Mapping[str, Any]) -> Shape:
    """The shape of a route's handler; RouteError says what was expected and what was found."""
    reader = _Reader(what, _HANDLER, handler, names)
    session, message = reader.parameters(2)
    reader.check(session, Session)
    kind: object = message.annotation
    if not _is_message(kind):
        raise reader.wrong(f"parameter `{message.name}` is {_show(kind)}")
    reader.check_result(_is_message)
    return reader.shape(kind)


def hook_shape(what: str, hook: object, names: Mapping[str, Any]) -> Shape:
    """The shape of what is declared as `opened`, `before` and so on; RouteError as above."""
    expected, kinds = _HOOKS[what]
    reader = _Reader(what, expected, hook, names)
    for parameter, kind in zip(reader.parameters(len(kinds)), kinds, strict=True):
        reader.check(parameter, kind)
    reader.check_result(lambda _: False)
    return reader.shape(None)


class CallShape(Struct, frozen=True):
    """What both sides must know of a method that is @call."""

    name: str
    signature: inspect.Signature
    """Of the method without `self`, its annotations resolved."""
    arguments: Any
    """The type of all arguments together: a tuple."""
    result: Any
    plain: bool
    """Without defaults and keyword-only parameters: what is called with enough positional arguments is complete."""
    place: str


def call_shape(what: str, method: object, names: Mapping[str, Any]) -> CallShape:
    """The shape of a method that other nodes can call; RouteError as above."""
    reader = _Reader(what, _CALL, method, names)
    if not (reader.is_async_def() or reader.returns(Coroutine)):
        raise reader.wrong("a def, which cannot be awaited")
    parameters = reader.parameters_behind_self()
    result = reader.annotations.get("return", None)
    if "return" not in reader.annotations:
        raise reader.wrong("nothing that says what it returns")
    if reader.returns(Coroutine):
        result = typing.get_args(result)[-1]
    kinds = tuple(parameter.annotation for parameter in parameters)
    arguments = tuple.__class_getitem__(kinds)
    result = type(None) if result is None else result
    for kind in (arguments, result):
        try:
            msgspec.msgpack.Decoder(kind)
        except TypeError as error:
            raise reader.wrong(str(error)) from None
    plain = all(
        parameter.default is parameter.empty and parameter.kind is not parameter.KEYWORD_ONLY
        for parameter in parameters
    )
    signature = inspect.Signature(parameters)
    return CallShape(reader.function.__name__, signature, arguments, result, plain, reader.place)


def attached_shape(what: str, handler: object, names: Mapping[str, Any]) -> Shape:
    """The shape of a space's handler of a route; RouteError as above."""
    reader = _Reader(what, _ATTACHED, handler, names)
    who, message = reader.parameters(2, behind_self=True)
    reader.check(who, SessionRef)
    kind: object = message.annotation
    if not _is_message(kind):
        raise reader.wrong(f"parameter `{message.name}` is {_show(kind)}")
    reader.check_result(_is_message)
    return reader.shape(kind)


_GUESTS = {
    "arrive": "(self, who: SessionRef, state: State | None) -> None with State a Struct",
    "leave": "(self, who: SessionRef) -> State | None with State a Struct",
    "left": "(self, who: SessionRef) -> None",
}


def guest_hook_state(name: str, hook: object, names: Mapping[str, Any]) -> Any:
    """The type of the state that a space's `arrive` takes; RouteError if it, `leave` or `left` has the wrong shape."""
    reader = _Reader(name, _GUESTS[name], hook, names)
    who, *state = reader.parameters(2 if name == "arrive" else 1, behind_self=True)
    reader.check(who, SessionRef)
    reader.check_result(_is_struct if name == "leave" else lambda _: False)
    if not state:
        return None
    kind: object = state[0].annotation
    if not all(part is type(None) or _is_struct(part) for part in _union_parts(kind)):
        raise reader.wrong(f"parameter `{state[0].name}` is {_show(kind)}")
    return kind


class _Reader:
    """Reads one callable, and words what is wrong with it."""

    def __init__(self, what: str, expected: str, handler: object, names: Mapping[str, Any]) -> None:
        self.what = what
        self.expected = expected
        self.handler = handler
        self.place = place_of(handler)
        if not callable(handler) or isinstance(handler, type):
            raise self.wrong(f"{handler!r} is not a function")
        self.function = cast("Callable[..., Any]", handler)
        self.signature = inspect.signature(self.function)
        self.annotations = self._annotations(names)

    def parameters(self, count: int, *, behind_self: bool = False) -> list[inspect.Parameter]:
        """The positional parameters, annotations resolved."""
        found = list(self.signature.parameters.values())[int(behind_self) :]
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        if len(found) != count or any(parameter.kind not in positional for parameter in found):
            raise self.wrong(f"the parameters {self.signature}")
        return self._resolved(found)

    def parameters_behind_self(self) -> list[inspect.Parameter]:
        """However many there are, annotations resolved."""
        found = list(self.signature.parameters.values())
        several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if not found or any(parameter.kind in several for parameter in found):
            raise self.wrong(f"the parameters {self.signature}")
        return self._resolved(found[1:])

    def _resolved(self, found: list[inspect.Parameter]) -> list[inspect.Parameter]:
        for index, parameter in enumerate(found):
            if parameter.name not in self.annotations:
                raise self.wrong(f"parameter `{parameter.name}` has no annotation")
            found[index] = parameter.replace(annotation=self.annotations[parameter.name])
        return found

    def check(self, parameter: inspect.Parameter, kind: type) -> None:
        """RouteError unless the parameter is of this class, or of it with a parameter of its own."""
        found: object = parameter.annotation
        if (typing.get_origin(found) or found) is not kind:
            raise self.wrong(f"parameter `{parameter.name}` is {_show(found)}")

    def check_result(self, allows: Callable[[object], bool]) -> None:
        result = self.annotations.get("return", None)
        if self.returns(Awaitable):
            result = typing.get_args(result)[-1]
        for part in _union_parts(result):
            if part is not type(None) and part is not None and not allows(part):
                raise self.wrong(f"it returns {_show(part)}")

    def shape(self, message: type[Struct | bytes] | None) -> Shape:
        asynchronous = self.is_async_def() or self.returns(Awaitable)
        return Shape(message, asynchronous, self.place, self._data())

    def _data(self) -> type[Struct] | None:
        for annotation in self.annotations.values():
            if typing.get_origin(annotation) is Session:
                (data,) = typing.get_args(annotation)
                return data if _is_struct(data) else None
        return None

    def wrong(self, found: str) -> RouteError:
        return RouteError(f"{self.what} at {self.place}: expected {self.expected}; found: {found}")

    def _annotations(self, names: Mapping[str, Any]) -> dict[str, Any]:
        function = inspect.unwrap(self.function)
        if not hasattr(function, "__annotations__"):
            function = cast(Any, type(function)).__call__
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise self.wrong("a generator")
        try:
            return typing.get_type_hints(function, localns=dict(names))
        except NameError as error:
            raise self.wrong(f"an annotation that cannot be resolved here ({error})") from error

    def is_async_def(self) -> bool:
        function = self.function
        return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(cast(Any, type(function)).__call__)

    def returns(self, kind: type) -> bool:
        """Whether its annotation says that it returns an awaitable of this kind."""
        origin = typing.get_origin(self.annotations.get("return"))
        return isinstance(origin, type) and issubclass(origin, kind)


def place_of(handler: object) -> str:
    """Where a callable is written, as file:line."""
    function = inspect.unwrap(cast(Any, handler)) if callable(handler) else handler
    code = getattr(function, "__code__", None)
    if isinstance(code, types.CodeType):
        return f"{code.co_filename}:{code.co_firstlineno}"
    return repr(handler)


def _union_parts(kind: object) -> tuple[object, ...]:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return typing.get_args(kind)
    return (kind,)


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _is_message(kind: object) -> TypeGuard[type[Struct | bytes]]:
    return kind is bytes or (isinstance(kind, type) and issubclass(kind, Struct))


def _show(kind: object) -> str:
    return kind.__qualname__ if isinstance(kind, type) else str(kind)

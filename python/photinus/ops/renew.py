"""What sessions hold, carried from an application's former classes into those of its edited code."""

from __future__ import annotations

import dataclasses
import enum
import sys
import typing
from collections.abc import Callable, Collection
from typing import Any, cast

import msgspec
from msgspec import Struct

from ..errors import ReloadError

_RESTART = "or start `photinus dev` anew, without the players of now"


class Renewal:
    """Carries values over into the classes that these modules have now.

    Structs, dataclasses and named tuples are made anew by field name: new fields get their
    defaults, fields that are gone are dropped. Members of enums are found by name, instances of
    other classes keep their attributes. All of it reaches into the lists, tuples, sets and dicts in
    between; what is not of these modules' classes is kept as it is.
    """

    def __init__(self, modules: Collection[str]) -> None:
        self._modules = frozenset(modules)

    def __call__(self, values: list[Any]) -> list[Any]:
        """What becomes of these. What was one object in several of them is one again.

        ReloadError names the class and the field that have no place for what is there.
        """
        return [*map(_Pass(self._modules).renewed, values)]


class _Pass:
    def __init__(self, modules: frozenset[str]) -> None:
        self._modules = modules
        # By the old object's id. The old ones are kept too, or their ids might come again.
        self._done: dict[int, tuple[Any, Any]] = {}
        self._begun: set[int] = set()
        self._plans: dict[type[Any], _Plan | None] = {}

    def renewed(self, value: Any) -> Any:
        kind = _class(value)
        if id(value) in self._done:
            return self._done[id(value)][1]
        if kind in (list, tuple, set, frozenset, dict):
            return self._once(value, self._collection)
        if isinstance(value, type):
            return _present(cast(type[Any], value)) if value.__module__ in self._modules else value
        if kind.__module__ not in self._modules:
            return value
        present = _present(kind)
        return value if present is kind else self._once(value, lambda old: self._instance(old, present))

    def _once(self, value: Any, make: Callable[[Any], Any]) -> Any:
        if id(value) in self._begun:
            raise ReloadError(
                f"session.data: a {_name(_class(value))} contains itself, which cannot be carried over; "
                f"let one side hold an id instead, {_RESTART}"
            )
        self._begun.add(id(value))
        new = make(value)
        self._begun.discard(id(value))
        self._done[id(value)] = value, new
        return new

    def _collection(self, old: Any) -> Any:
        kind = _class(old)
        if kind is dict:
            pairs = [(self.renewed(key), self.renewed(value)) for key, value in old.items()]
            kept = all(a is c and b is d for (a, b), (c, d) in zip(pairs, old.items(), strict=True))
            return old if kept else dict(pairs)
        items = [*map(self.renewed, old)]
        kept = all(new is was for new, was in zip(items, old, strict=True))
        return old if kept else kind(items)

    def _instance(self, old: Any, present: type[Any]) -> Any:
        former = _class(old)
        if issubclass(present, enum.Enum) and issubclass(former, enum.Enum):
            if old.name not in present.__members__:
                raise ReloadError(
                    f"session.data: {_name(present)} has no {old.name} any more, but a session has; keep it, {_RESTART}"
                )
            return present[old.name]
        if former not in self._plans:
            self._plans[former] = _plan(former, present)
        plan = self._plans[former]
        if plan is None:
            return self._plain(old, present)
        values = {name: self.renewed(getattr(old, name)) for name in plan.kept}
        for name, declared in plan.declared_anew.items():
            values[name] = _fitting(present, name, values[name], declared)
        try:
            return present(**values)
        except Exception as error:
            raise ReloadError(f"session.data: {_name(present)} does not take what sessions have: {error!r}") from error

    def _plain(self, old: Any, present: type[Any]) -> Any:
        try:
            new: Any = object.__new__(present)
        except TypeError:
            raise _lost(present) from None
        # Before its attributes are looked at: objects of this kind may refer to each other in a circle.
        self._done[id(old)] = old, new
        new.__dict__.update({name: self.renewed(value) for name, value in old.__dict__.items()})
        return new


class _Plan(Struct):
    """How an instance of a class with declared fields becomes one of the present class."""

    kept: list[str]
    declared_anew: dict[str, Any]
    """Of these, those whose declared type is another now. Where it is what it was, so is what the game
    makes of it, whether a value is of that type or not."""


def _plan(former: type[Any], present: type[Any]) -> _Plan | None:
    """None if they are plain classes, whose instances have attributes and nothing that declares them."""
    fields, before = _fields(present), _fields(former)
    if fields is None and before is None and former.__dictoffset__ and present.__dictoffset__:
        return None
    if fields is None or before is None:
        raise _lost(present)
    for name, required in fields.items():
        if required and name not in before:
            raise ReloadError(
                f"session.data: {_name(present)}.{name} is new and has no default, "
                f"and sessions have nothing for it; give it one, {_RESTART}"
            )
    kept = [name for name in fields if name in before]
    was, declared = _types(former), _types(present)
    anew = {name: declared.get(name, Any) for name in kept if repr(was.get(name)) != repr(declared.get(name))}
    return _Plan(kept, anew)


def _lost(kind: type[Any]) -> ReloadError:
    return ReloadError(
        f"session.data: a {_name(kind)} cannot be carried over; make it a Struct of another name, {_RESTART}"
    )


def _class(value: object) -> type[Any]:
    return type(value)


def _present(kind: type[Any]) -> type[Any]:
    """The class that has this one's name now."""
    found: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = getattr(found, name, None)
    if not isinstance(found, type):
        raise ReloadError(
            f"session.data: there is no {_name(kind)} any more, but a session has one; keep the class, {_RESTART}"
        )
    return found


def _fields(kind: type[Any]) -> dict[str, bool] | None:
    """What instances are made from, and whether each must be given; None for a class without declared fields."""
    if issubclass(kind, Struct):
        return {field.name: field.required for field in msgspec.structs.fields(kind)}
    if dataclasses.is_dataclass(kind):
        none = dataclasses.MISSING
        fields = [field for field in dataclasses.fields(kind) if field.init]
        return {field.name: field.default is none and field.default_factory is none for field in fields}
    # A named tuple's.
    defaults = getattr(kind, "_field_defaults", None)
    return None if defaults is None else {name: name not in defaults for name in kind._fields}


def _types(kind: type[Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except NameError:
        # A former class may name what the edited module no longer has.
        return {}


def _fitting(kind: type[Any], name: str, value: Any, declared: Any) -> Any:
    try:
        return msgspec.convert(value, declared)
    except msgspec.ValidationError as error:
        raise ReloadError(
            f"session.data: {_name(kind)}.{name}: {error}; give the field another name and a default, {_RESTART}"
        ) from None
    except TypeError:
        # A type that msgspec has no notion of.
        return value


def _name(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"

"""Which node the running code belongs to, and the parts of that node.

Groups, timers and tasks are named by the application once and live in every node that runs it.
They find their node here: through a context variable, which handlers, timers and tasks inherit,
or, in code that has none (a thread, the body of a test), as the only node of the process.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar
from weakref import WeakSet

from .errors import NoNode

P = TypeVar("P")
R = TypeVar("R")

_inside: ContextVar[Scope] = ContextVar("photinus-node")
_running: list[Scope] = []


def current() -> Scope:
    """The scope of the node that this code runs in; NoNode where there is not exactly one."""
    scope = _inside.get(None)
    if scope is not None:
        return scope
    if len(_running) == 1:
        return _running[0]
    if not _running:
        raise NoNode("no node runs in this process: this works in handlers, tasks and timers only")
    names = ", ".join(sorted(scope.name for scope in _running))
    raise NoNode(f"several nodes run in this process ({names}) and this code belongs to none")


def here(kind: type[P]) -> P:
    """This part of the node that the code runs in; as `current().part(kind)`, but for hot paths."""
    scope = _inside.get(None)
    return (current() if scope is None else scope).parts[kind]  # type: ignore[no-any-return]


class Scope:
    """The parts of one node, found by their type, so that a lower part need not know the others."""

    __slots__ = ("_former", "context", "name", "parts")

    def __init__(self, name: str) -> None:
        self.name = name
        # Each under its own type: what is found under a type is of it.
        self.parts: dict[type[object], Any] = {}
        self._former: WeakSet[object] = WeakSet()
        # What tasks, timers and handlers of this node start from.
        self.context = copy_context()
        self.context.run(_inside.set, self)

    def add(self, part: P) -> P:
        self.parts[type(part)] = part
        return part

    def replace(self, old: P, new: P) -> None:
        """Puts a part in the place of another, which it holds on to for whoever still works with it."""
        del self.parts[type(old)]
        self._former.add(old)
        self.add(new)

    def part(self, kind: type[P]) -> P:
        return self.parts[kind]  # type: ignore[no-any-return]

    def holds(self, part: object) -> bool:
        return self.parts.get(type(part)) is part or part in self._former

    @property
    def entered(self) -> bool:
        """Whether the running code inherited this scope, rather than found it as the only one."""
        return _inside.get(None) is self

    def call(self, function: Callable[[], R]) -> R:
        """Calls the function as code of this node."""
        return self.context.copy().run(function)

    def register(self) -> None:
        """From here on, code without a context may find this node."""
        _running.append(self)

    def unregister(self) -> None:
        if self in _running:
            _running.remove(self)

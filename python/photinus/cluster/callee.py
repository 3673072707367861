"""What can be called, how it is addressed, and what each side of a call knows of the method."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from msgspec import Struct

# Kinds of frames (docs/bluenet.md): what a call is addressed to, and where its answer goes.
KIND_SPACE = 3
KIND_SERVICE = 4
KIND_NODE = 6

# What overtakes what on a link, by the names that `@call` knows; the fourth is for the engine itself.
PRIORITIES: dict[str, int] = {"bulk": 0, "usual": 1, "high": 2}
USUAL = PRIORITIES["usual"]


class Question(Struct, frozen=True):
    """What a caller knows of a method."""

    name: str
    decode: Callable[[bytes], Any]
    """Of the result."""
    one_way: bool
    priority: int = USUAL


class Entry(Struct, frozen=True):
    """A method of one instance, ready to be called."""

    method: Callable[..., Coroutine[Any, Any, Any]]
    decode: Callable[[bytes], tuple[Any, ...]]
    """Of the arguments."""
    encode: Callable[[Any], bytes]
    """Of the result; TypeError if it is not what the annotations say."""
    what: str
    """`Bank/7.transfer`"""
    priority: int = USUAL


class Callees(Protocol):
    """Who has the methods that other nodes call."""

    entries: dict[bytes, Entry]
    """By target: those that can be called at once."""

    def prepare(self, target: bytes, ready: Callable[[Entry | BaseException], None]) -> None:
        """Calls `ready` with the entry when it can be called, or with why it cannot: at once, or later
        from where no task runs."""


class NotHere(Exception):
    """The address is another node's, or this one stops: nothing of the call was executed."""


class NoSuchCall(Exception):
    """There is no such class or no such method that is @call."""

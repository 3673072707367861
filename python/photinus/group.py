"""Groups: sending one message to many sessions, encoded once and fanned out by the engine."""

from __future__ import annotations

from typing import Any

from .engine import Engine
from .scope import here
from .session import Session


class Group:
    """The sessions under this name, on the node that the calling code runs in.

    It holds nothing itself: two groups of the same name are the same group. A session leaves when
    it closes.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Group({self.name!r})"

    def add(self, session: Session[Any]) -> bool:
        """False if the session was a member already, or has closed."""
        return session.engine.group_add(self.name, session)

    def discard(self, session: Session[Any]) -> bool:
        """False if the session was no member."""
        return session.engine.group_remove(self.name, session)

    def send(
        self,
        route: str | int,
        msg: object,
        *,
        but: Session[Any] | None = None,
        droppable: bool = False,
        secret: bool = False,
    ) -> None:
        """Sends to every member except `but`. From any thread.

        A `droppable` message is about the present: for members who do not keep up, the newest of its
        route takes the place of those before it. A `secret` one is never compressed.
        """
        here(Engine).group_send(self.name, route, msg, but, droppable=droppable, secret=secret)

    def __len__(self) -> int:
        return here(Engine).group_len(self.name)

    def __bool__(self) -> bool:
        # Not by length: `if group:` must not need a node, nor be false for an empty group.
        return True

    def __contains__(self, session: Session[Any]) -> bool:
        return session.engine.group_has(self.name, session)

"""A space: a place of the game that sessions are attached to."""

from __future__ import annotations

import msgspec

from ..cluster.callee import KIND_SPACE
from ..cluster.service import Service


class Space(Service):
    """A base for spaces: a service that players are in.

    Of the sessions that are attached to it, it may have these methods, def or `async def`:

        arrive(self, who: SessionRef, state: State | None) -> None    it comes, with what the last space left it
                                                                      with; Refused: it may not
        leave(self, who: SessionRef) -> State | None                  it moves on, and takes this Struct with it
        left(self, who: SessionRef) -> None                           it was detached, has moved on, or has ended
    """


Space.__photinus__ = msgspec.structs.replace(Space.__photinus__, kind=KIND_SPACE)

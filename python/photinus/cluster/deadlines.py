"""Deadlines of many calls with one timer.

Nearly all calls end long before their deadlines, so a call costs a comparison here and no timer of its
own: the timer is set to the earliest deadline that was ever heard of, and when it fires, whoever
has calls looks through those that are left and says which is the next.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

# How late a deadline may be noticed at worst, and so how often the calls that are left are looked through at most.
STEP_SECONDS = 0.01


class Deadlines:
    """Calls `look(now)` when a deadline may have passed; it gives the earliest that is left, infinity if none."""

    __slots__ = ("_look", "_loop", "_timer", "next")

    def __init__(self, loop: asyncio.AbstractEventLoop, look: Callable[[float], float]) -> None:
        self._loop = loop
        self._look = look
        self._timer: asyncio.TimerHandle | None = None
        self.next = math.inf
        """Whoever has an earlier one calls `hear`."""

    def hear(self, deadline: float) -> None:
        if deadline < self.next:
            self._set(deadline)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self.next = None, math.inf

    def _set(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.next = at
        self._timer = self._loop.call_at(at, self._fire)

    def _fire(self) -> None:
        self._timer, self.next = None, math.inf
        now = self._loop.time()
        at = self._look(now)
        if at < self.next:
            self._set(max(at, now + STEP_SECONDS))

"""One link's calls, as they are counted on it: what waits for answers, what waits for its turn, and what runs here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .callee import Entry
from .payload import Status

# Calls over one link that are under way at a time; more wait for their turn, within their deadlines. At 60,000 calls a
# second it is full when answers take 17 ms: more would only wait on the other side.
MOST_CALLS = 1024
# Numbers of calls over one link. More than MOST_CALLS, since a call that was given up keeps its number until its callee
# has let go of it: a node that never does has this many chances, and then gets no more calls.
MOST_NUMBERS = 16 * MOST_CALLS
# Calls over one link that this node executes at a time, with those that their callers gave up and that did not heed
# it. More are refused: what runs here must not grow with what another node forgot.
MOST_RUNNING = 4 * MOST_CALLS

# With the call that has ended, what it raised, and what it returned.
Done = Callable[["Running", BaseException | None, Any], None]

# Who waits for an answer, until when, and what for.
_Pending = tuple[asyncio.Future[bytes], float, str, int]


class Peer:
    """The calls over one link, both ways."""

    __slots__ = ("done", "free", "link", "live", "node", "numbers", "pending", "roles", "running", "waiting")

    def __init__(self, done: Done, link: int | None, node: str, roles: frozenset[str]) -> None:
        # Called with each that runs here, when it is done.
        self.done = done
        # None: the node itself.
        self.link = link
        self.node = node
        self.roles = roles
        # Calls under way, and numbers: those that are free, the last given back first, and how many there are.
        self.live = 0
        self.free: list[int] = []
        self.numbers = 0
        # By number. None: it was given up.
        self.pending: dict[int, _Pending | None] = {}
        # Who waits for a number, until when, and what for.
        self.waiting: dict[asyncio.Future[int], tuple[float, str]] = {}
        # What runs here for the other, by the other's number; one that wants no answer under itself.
        self.running: dict[int | Running, Running] = {}

    def take(self) -> int:
        """A number for one more call; 0 if there is none."""
        if self.live >= MOST_CALLS:
            return 0
        if self.free:
            self.live += 1
            return self.free.pop()
        if self.numbers >= MOST_NUMBERS:
            return 0
        self.live += 1
        self.numbers += 1
        return self.numbers

    def admit(self) -> None:
        """A call has ended: the next that waits has its turn."""
        while self.waiting:
            future = next(iter(self.waiting))
            if future.done():
                del self.waiting[future]
                continue
            number = self.take()
            if not number:
                return
            del self.waiting[future]
            future.set_result(number)


class Running:
    """A call that this node executes; itself what is called when it is done."""

    __slots__ = ("cancelled", "deadline", "entry", "number", "peer", "task")

    def __init__(self, peer: Peer, number: int, deadline: float, entry: Entry | None) -> None:
        self.peer = peer
        self.number = number
        self.deadline = deadline
        """Infinity when it is done: what it started and left behind is not bound by it."""
        self.entry = entry
        """None while its instance is not open yet."""
        self.task: asyncio.Task[Any] | None = None
        self.cancelled: Status | None = None
        """Why, if it was."""

    def __call__(self, error: BaseException | None, value: Any) -> None:
        self.peer.done(self, error, value)

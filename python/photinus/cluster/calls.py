"""Calls between nodes: what this node asks of others, and what it is asked.

The invariants: every call ends, with a result, with what the method raised, or with CallTimeout or
Unreachable; it is executed at most once, since the links below neither lose nor double a frame and a
frame is sent once; its deadline travels with it, and with the calls that are made within it; its
number is used again only when its answer has come (payload.py). A caller that is cancelled, or whose
deadline passes, tells the callee, whose task is cancelled.

Each link is a Peer of its own; where there are several to one node, calls go over the one that came up
first, and answers come back over the link of their calls. A node calls itself as it calls others, but
without a link: arguments and results are encoded all the same, so that what works on one node works
on two.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextvars import Context, ContextVar
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from ..errors import CallMismatch, CallTimeout, Refused, Unreachable
from ..message import UNDECODABLE, error_body
from .callee import KIND_NODE, USUAL, Callees, Entry, NoSuchCall, NotHere, Question
from .deadlines import Deadlines
from .payload import (
    CANCEL,
    MAX_CALL_BYTES,
    MAX_MILLISECONDS,
    RESULT,
    Malformed,
    Status,
    failure,
    mismatch,
    raised,
    read_varint,
    unreachable,
    varint,
)
from .peer import MOST_CALLS, MOST_RUNNING, Peer, Running
from .placement import Placement

_encode = msgspec.msgpack.Encoder().encode

# The call that the running code belongs to.
_running: ContextVar[Running | None] = ContextVar("photinus-call", default=None)


class Transport(Protocol):
    """What sends a frame over a link: Engine.send_frame. To a link that is gone it does nothing."""

    def __call__(
        self,
        link: int,
        kind: int,
        destination: int,
        source: int,
        body: bytes,
        *,
        priority: int = USUAL,
        request: bool = False,
    ) -> object: ...


@lru_cache(maxsize=1024)
def _left(milliseconds: int) -> bytes:
    return varint(min(max(1, milliseconds), MAX_MILLISECONDS))


class Calls:
    """A node's calls. `callees` has what can be called here, `send` sends a frame, `run` runs a coroutine as
    Engine.run does, and `failed` is told of what this node executed and what it raised."""

    def __init__(
        self,
        node: str,
        roles: frozenset[str],
        placement: Placement,
        callees: Callees,
        *,
        send: Transport,
        run: Callable[..., asyncio.Task[Any] | None],
        loop: asyncio.AbstractEventLoop,
        context: Context,
        failed: Callable[[str, BaseException], None],
    ) -> None:
        self.node = node
        self.placement = placement
        self._callees = callees
        self._send = send
        self._run = run
        self._loop = loop
        self._time = loop.time
        self._context = context
        self._failed = failed
        self._deadlines = Deadlines(loop, self._look)
        self._stopping = False
        own = Peer(self._done, None, node, roles)
        # By link, and the one to each node that its calls go over.
        self._links: dict[int | None, Peer] = {None: own}
        self._peers: dict[str, Peer] = {node: own}
        self._made = self._executed = self._timeouts = self._lost = 0
        self._cancelled = self._raised = self._mismatches = self._malformed = self._waited = 0

    async def ask(
        self, kind: int, address: str, target: bytes, question: Question, arguments: tuple[Any, ...], timeout: float
    ) -> Any:
        """Calls a method at an address, on the node where that is placed, at most so many seconds. Raises what
        errors.py has of CallFailed, and Refused."""
        node = self.placement.node_of(address)
        peer = self._peers.get(node)
        if peer is None:
            raise Unreachable(f"{question.name} of {address}: there is no link to {node}", sent=False)
        now = self._time()
        deadline = now + timeout
        within = _running.get()
        if within is not None and within.deadline < deadline:
            deadline = within.deadline
        try:
            body = _encode(arguments)
        except Exception as error:  # noqa: BLE001 - an unknown type, too large a number, too deep: it is one mistake
            raise CallMismatch("bad-arguments", f"{question.name} of {address}: {error}") from None
        if len(body) > MAX_CALL_BYTES:
            raise CallMismatch(
                "too-large", f"{question.name} of {address}: {len(body)} bytes of arguments, {MAX_CALL_BYTES} at most"
            )
        if deadline <= now:
            raise CallTimeout(f"{question.name} of {address}: no time was left for it")
        self._made += 1
        if question.one_way:
            body = b"".join((b"\0", _left(int((deadline - now) * 1000)), target, body))
            self._write(peer, kind, body, question.priority, request=True)
            return None
        number = peer.take()
        if not number:
            number = await self._turn(peer, deadline, f"{question.name} of {address}")
            now = self._time()
        future: asyncio.Future[bytes] = self._loop.create_future()
        peer.pending[number] = (future, deadline, address, question.priority)
        if deadline < self._deadlines.next:
            self._deadlines.hear(deadline)
        body = b"".join((varint(number), _left(int((deadline - now) * 1000)), target, body))
        self._write(peer, kind, body, question.priority, request=True)
        try:
            answer = await future
        except asyncio.CancelledError:
            # Perhaps the answer has come just now, and its number is another call's already.
            pending = peer.pending.get(number)
            if pending is not None and pending[0] is future:
                self._cancelled += 1
                self._give_up(peer, number)
            raise
        try:
            return question.decode(answer)
        except UNDECODABLE as error:
            raise CallMismatch("bad-result", f"{question.name} of {address}: {error}") from None

    def reaches(self, node: str) -> bool:
        """Whether there is a link to that node; itself it always reaches."""
        return node in self._peers

    def nodes(self, role: str) -> list[str]:
        """The nodes of that role, as far as there is a link to them, and this one."""
        return sorted(node for node, peer in self._peers.items() if role in peer.roles)

    def linked(self, link: int, node: str, roles: frozenset[str]) -> None:
        """There is a link to that node."""
        peer = self._links[link] = Peer(self._done, link, node, roles)
        self._peers.setdefault(node, peer)

    def unlinked(self, link: int, reason: str) -> None:
        """The link is lost, with all that was under way over it. What was called from there is cancelled, but for
        what wants no answer."""
        peer = self._links.pop(link, None)
        if peer is None:
            return
        if self._peers.get(peer.node) is peer:
            del self._peers[peer.node]
            for other in self._links.values():
                self._peers.setdefault(other.node, other)
        lost = f"the link to {peer.node} is lost ({reason})"
        for pending in peer.pending.values():
            if pending is not None and not pending[0].done():
                self._lost += 1
                pending[0].set_exception(Unreachable(f"{lost}: a call of {pending[2]} was under way", sent=True))
        peer.pending.clear()
        for future, (_, what) in peer.waiting.items():
            if not future.done():
                self._lost += 1
                future.set_exception(Unreachable(f"{lost}: {what} waited for its turn", sent=False))
        peer.waiting.clear()
        for running in [one for one in peer.running.values() if one.number]:
            self._cancel(running, Status.CANCELLED)

    def handle_frame(
        self,
        link: int | None,
        kind: int,  # noqa: ARG002 - the header is for who forwards it: its target says more
        request: bool,
        destination: int,  # noqa: ARG002
        source: int,  # noqa: ARG002
        body: bytes,
    ) -> None:
        """A frame of a call has come over this link, in what Engine.install calls `frames`: where no task runs."""
        peer = self._links.get(link)
        if peer is None:
            return
        try:
            number = body[0]
            at = 1
            if number > 127:
                number, at = read_varint(body, 0)
            if request:
                self._requested(peer, number, body, at)
            elif body[at] == CANCEL:
                running = peer.running.get(number)
                if running is not None:
                    self._cancel(running, Status.CANCELLED)
            else:
                self._answered(peer, number, body[at], body[at + 1 :])
        except (IndexError, Malformed):
            # It comes from a node of the cluster, so it is our mistake: counted, and its caller's deadline ends it.
            self._malformed += 1

    def _done(self, running: Running, error: BaseException | None, value: Any) -> None:
        """What was executed has come to this: its caller is told."""
        running.deadline = math.inf
        peer, number, entry = running.peer, running.number, running.entry
        if running.task is not None:
            running.task = None
            peer.running.pop(number or running, None)
        if error is None and entry is not None:
            self._executed += 1
            try:
                body = entry.encode(value)
            except Exception as problem:  # noqa: BLE001 - an unknown type, too large a number, too deep: it is one mistake
                problem.__traceback__ = None
                self._mismatched(running, "bad-result", f"{entry.what}: {problem}")
                self._failed(entry.what, problem)
                return
            if not number:
                return
            if len(body) > MAX_CALL_BYTES:
                what = f"{entry.what}: {len(body)} bytes of result, {MAX_CALL_BYTES} at most"
                self._mismatched(running, "too-large", what)
                return
            self._write(peer, KIND_NODE, b"".join((varint(number), b"\0", body)), entry.priority)
            return
        if error is not None:
            self._told(running, error)

    def stop(self) -> list[asyncio.Task[Any]]:
        """Takes no more calls, and cancels what runs: gives those tasks, which may still need their time."""
        self._stopping = True
        tasks: list[asyncio.Task[Any]] = []
        for peer in self._links.values():
            for running in list(peer.running.values()):
                if running.task is not None:
                    tasks.append(running.task)
                self._cancel(running, Status.UNREACHABLE)
        return tasks

    def close(self) -> None:
        """After the end of all: whoever still waits for an answer gets none."""
        self._deadlines.stop()
        for link in [link for link in self._links if link is not None]:
            self.unlinked(link, "this node stops")

    def statistics(self) -> dict[str, int]:
        peers = self._links.values()
        return {
            "made": self._made,
            "pending": sum(peer.live for peer in peers),
            "waiting": sum(len(peer.waiting) for peer in peers),
            "waited": self._waited,
            "timeouts": self._timeouts,
            "lost": self._lost,
            "cancelled": self._cancelled,
            "executed": self._executed,
            "running": sum(len(peer.running) for peer in peers),
            "raised": self._raised,
            "mismatches": self._mismatches,
            "malformed": self._malformed,
        }

    # What was asked here.

    async def _turn(self, peer: Peer, deadline: float, what: str) -> int:
        self._waited += 1
        future: asyncio.Future[int] = self._loop.create_future()
        peer.waiting[future] = deadline, what
        self._deadlines.hear(deadline)
        try:
            return await future
        except asyncio.CancelledError:
            if peer.waiting.pop(future, None) is None and future.done() and not future.cancelled():
                # It had its turn in the same moment.
                peer.live -= 1
                peer.free.append(future.result())
                peer.admit()
            raise

    def _give_up(self, peer: Peer, number: int) -> None:
        """Nobody waits for that answer any more. The number stays taken until it has come."""
        pending, peer.pending[number] = peer.pending[number], None
        # In the lane of the question, which it must not overtake.
        priority = USUAL if pending is None else pending[3]
        self._write(peer, KIND_NODE, varint(number) + bytes((CANCEL,)), priority)
        peer.live -= 1
        if peer.waiting:
            peer.admit()

    def _answered(self, peer: Peer, number: int, status: int, body: bytes) -> None:
        if number not in peer.pending:
            self._malformed += 1
            return
        pending = peer.pending.pop(number)
        peer.free.append(number)
        if pending is not None:
            peer.live -= 1
        if peer.waiting:
            peer.admit()
        if pending is None or pending[0].done():
            return
        if status == RESULT:
            pending[0].set_result(body)
        else:
            pending[0].set_exception(failure(status, body, f"a call of {pending[2]}", peer.node))

    # What this node was asked.

    def _requested(self, peer: Peer, number: int, body: bytes, at: int) -> None:
        left = body[at]
        at += 1
        if left > 127:
            # Two bytes, for less than 16 s, are the usual.
            left = left & 127 | body[at] << 7
            at += 1
            if left > 16383:
                left, at = read_varint(body, at - 2)
        length = body[at]
        at += 1
        if length > 127:
            length, at = read_varint(body, at - 1)
        target = body[at : at + length]
        if len(target) < length:
            raise Malformed("a target that has no end")
        entry = self._callees.entries.get(target)
        running = Running(peer, number, self._time() + left / 1000, entry)
        if len(peer.running) >= MOST_RUNNING or self._stopping:
            why = "it stops" if self._stopping else f"{MOST_RUNNING} calls are running there"
            self._answer(running, Status.UNREACHABLE, unreachable(f"{self.node} takes no call now: {why}", sent=False))
        elif entry is not None:
            self._start(running, entry, body[at + length :])
        else:
            arguments = body[at + length :]
            peer.running[number or running] = running
            self._hear(running.deadline)
            self._callees.prepare(target, lambda found: self._prepared(running, found, arguments))

    def _prepared(self, running: Running, found: Entry | BaseException, arguments: bytes) -> None:
        running.peer.running.pop(running.number or running, None)
        if running.cancelled is not None:
            # It has its answer already.
            return
        if isinstance(found, BaseException):
            self._told(running, found)
            return
        running.entry = found
        self._start(running, found, arguments)

    def _start(self, running: Running, entry: Entry, arguments: bytes) -> None:
        try:
            decoded = entry.decode(arguments)
        except UNDECODABLE as error:
            self._mismatched(running, "bad-arguments", f"{entry.what}: {error}")
            return
        context = self._context.copy()
        context.run(_running.set, running)
        try:
            work = entry.method(*decoded)
        except Exception as error:  # noqa: BLE001 - a decorator's, or the like: it is the caller's to hear
            self._told(running, error)
            return
        task = self._run(work, context, running)
        if task is not None:
            running.task = task
            running.peer.running[running.number or running] = running
            self._hear(running.deadline)

    def _cancel(self, running: Running, why: Status) -> None:
        if running.cancelled is not None:
            return
        running.cancelled = why
        if running.task is not None:
            running.task.cancel()
        else:
            # Its instance is not open yet. It will not be executed.
            running.peer.running.pop(running.number or running, None)
            self._told(running, asyncio.CancelledError())

    def _told(self, running: Running, error: BaseException) -> None:
        """Tells the caller of an exception, and whoever reads the log of one that is this node's fault."""
        what = "a call" if running.entry is None else running.entry.what
        if isinstance(error, asyncio.CancelledError):
            why = Status.UNREACHABLE if running.cancelled is None else running.cancelled
            body = unreachable(f"{what} was cancelled on {self.node}", sent=True) if why == Status.UNREACHABLE else b""
            self._answer(running, why, body)
        elif isinstance(error, NotHere):
            self._answer(running, Status.UNREACHABLE, unreachable(str(error), sent=False))
        elif isinstance(error, NoSuchCall):
            self._mismatched(running, "unknown-call", str(error))
        elif isinstance(error, Refused):
            try:
                body = error_body(error, "msgpack")
            except TypeError as unencodable:
                self._told(running, unencodable)
                return
            self._answer(running, Status.REFUSED, body)
        elif isinstance(error, Exception):
            self._raised += 1
            self._failed(what, error)
            self._answer(running, Status.RAISED, raised(error))
        else:
            # KeyboardInterrupt and SystemExit are for the process.
            self._answer(running, Status.RAISED, raised(error))
            raise error

    def _mismatched(self, running: Running, code: str, text: str) -> None:
        self._mismatches += 1
        self._answer(running, Status.MISMATCH, mismatch(code, text))

    def _answer(self, running: Running, status: Status, body: bytes) -> None:
        running.deadline = math.inf
        if running.number:
            priority = USUAL if running.entry is None else running.entry.priority
            body = b"".join((varint(running.number), bytes((status,)), body))
            self._write(running.peer, KIND_NODE, body, priority)

    # Both.

    def _write(self, peer: Peer, kind: int, body: bytes, priority: int, *, request: bool = False) -> None:
        if peer.link is None:
            # In a turn of its own, as if it came over a link: no task runs there.
            self._loop.call_soon(self.handle_frame, None, kind, request, 0, 0, body, context=self._context)
        else:
            self._send(peer.link, kind, 0, 0, body, priority=priority, request=request)

    def _hear(self, deadline: float) -> None:
        if deadline < self._deadlines.next:
            self._deadlines.hear(deadline)

    def _look(self, now: float) -> float:
        """Ends all whose deadline has passed, and gives the next one."""
        earliest = math.inf
        for peer in self._links.values():
            for number, pending in list(peer.pending.items()):
                if pending is None or pending[0].done():
                    continue
                if pending[1] > now:
                    earliest = min(earliest, pending[1])
                    continue
                self._timeouts += 1
                pending[0].set_exception(CallTimeout(f"a call of {pending[2]} had no answer by its deadline"))
                self._give_up(peer, number)
            for future, (deadline, what) in list(peer.waiting.items()):
                if future.done():
                    continue
                if deadline > now:
                    earliest = min(earliest, deadline)
                    continue
                self._timeouts += 1
                del peer.waiting[future]
                future.set_exception(
                    CallTimeout(f"{what} never had its turn: {MOST_CALLS} calls to {peer.node} are under way")
                )
            for running in list(peer.running.values()):
                if running.deadline > now:
                    earliest = min(earliest, running.deadline)
                elif running.cancelled is None:
                    self._cancel(running, Status.TIMEOUT)
        return earliest

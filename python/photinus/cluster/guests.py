"""Sessions across nodes: what comes to this node as its home or to one of its spaces, what leaves it, and how
a session is named and reached from any node.

The engine moves sessions, in order with their packets (docs/bluenet-moves.md); here is what the application
is told of it, and what it answers. What concerns one space or service, or the home, comes one at a time, in
order with the packets for that.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import secrets
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, cast

import msgspec
from msgspec import Raw, Struct

from ..engine import Engine
from ..errors import CallTimeout, Refused, Unreachable, UsageError
from ..message import UNDECODABLE
from ..session import Session, SessionRef
from .callee import KIND_SERVICE, Question
from .calls import Calls
from .instances import ATTACH, Instances
from .payload import target_of
from .service import Service

# How often the `data` of sessions is looked at, and what has changed of it is given to their proxies: what a player
# loses of it when a node dies.
DATA_SECONDS = 1.0
# What those that visit a node get to leave it when it stops: a round trip to their proxies, and time for `left`.
PART_SECONDS = 1.0
# The most of it, and of what a space leaves to the next; the engine's own bound (MAX_STATE).
MAX_STATE_BYTES = 64 * 1024

_log = logging.getLogger("photinus")
_ask = Question("attach", msgspec.msgpack.Decoder(tuple[int, int]).decode, one_way=False)
_pair = msgspec.msgpack.Decoder(tuple[str, Raw]).decode


class Guest:
    """A session that has come here, or from here is attached to something."""

    __slots__ = ("at_home", "ended", "ref", "session", "slots", "speaks", "targets")

    def __init__(self, session: Session[Any], ref: SessionRef, *, at_home: bool) -> None:
        self.session = session
        self.ref = ref
        self.at_home = at_home
        # It is here no more, as soon as all that it was attached to has been told.
        self.ended = False
        # Of this node's spaces and services, those that it is attached to, each with its tag, and whether what they
        # send goes out.
        self.targets: dict[int, int] = {}
        self.speaks = False
        # As its home knows it: what it is attached to, and in which place.
        self.slots: dict[str, int] = {}


class Link(Struct, frozen=True):
    node: str
    generation: int


class Guests:
    """Those of one node. `failed` is as in Calls, and `rehomed` what is called with a session that has come here."""

    def __init__(
        self,
        name: str,
        generation: int,
        engine: Engine,
        calls: Calls,
        instances: Instances,
        *,
        failed: Callable[[str, BaseException], None],
    ) -> None:
        self._name = name
        self._generation = generation
        self._engine = engine
        self._calls = calls
        self._instances = instances
        self._failed = failed
        self._links: dict[int, Link] = {}
        # Over which link a node's reactor is reached, as far as a session of it has been here.
        self._ways: dict[tuple[str, int, int], int] = {}
        self._guests: dict[int, Guest] = {}
        self._by_ref: dict[SessionRef, Guest] = {}
        # By session and number. What a home has asked for may be answered to its next one, where that number is to mean
        # nothing: those of two nodes begin anywhere.
        self._asked: dict[tuple[int, int], asyncio.Future[tuple[int, str]]] = {}
        self._requests = secrets.randbits(32)
        self._rehomed: Callable[[Session[Any]], Any] | None = None
        self._data: dict[str, Callable[[bytes | Raw], Any]] = {}
        self._kept: dict[int, bytes] = {}
        self._unkept: set[str] = set()
        self._sends_lost = 0
        # When the node stops: done when all who visit it are gone.
        self._parted: asyncio.Future[None] | None = None
        instances.evict = self._evict

    def install(self, data: Iterable[type[Struct]], rehomed: Callable[[Session[Any]], Any] | None) -> None:
        """What the application declares: the classes of `session.data`, and what is called with a session that
        has a new home here."""
        self._data = {kind.__qualname__: msgspec.msgpack.Decoder(kind).decode for kind in data}
        self._rehomed = rehomed

    def linked(self, link: int, node: str, generation: int) -> None:
        self._links[link] = Link(node, generation)

    def unlinked(self, link: int) -> None:
        self._links.pop(link, None)
        for way in [way for way, over in self._ways.items() if over == link]:
            del self._ways[way]

    def ref(self, session: Session[Any]) -> SessionRef:
        """How other nodes name it."""
        link, handle = session.origin
        if not link:
            return SessionRef(self._name, self._generation, session.id, session.format)
        there = self._links.get(link)
        if there is None:
            # Its proxy is lost, and it with it, which is about to be told.
            return SessionRef("", 0, handle, session.format)
        self._ways[there.node, there.generation, reactor_of(handle)] = link
        return SessionRef(there.node, there.generation, handle, session.format)

    def send(self, ref: SessionRef, route: str | int, message: object, *, droppable: bool, secret: bool) -> None:
        """Sends to a session of whatever node; nothing happens if it is gone."""
        guest = self._by_ref.get(ref)
        if guest is not None and guest.speaks:
            guest.session.send(route, message, droppable=droppable, secret=secret)
            return
        if ref.node == self._name:
            session = self._engine.session(ref.handle) if ref.generation == self._generation else None
            if session is None:
                self._sends_lost += 1
            else:
                session.send(route, message, droppable=droppable, secret=secret)
            return
        way = self._ways.get((ref.node, ref.generation, reactor_of(ref.handle)))
        there = Link(ref.node, ref.generation)
        # Only the reactor that holds it knows the handle; the others drop what is not theirs.
        ways = [way] if way is not None else [link for link, end in self._links.items() if end == there]
        if not ways:
            self._sends_lost += 1
        for link in ways:
            self._engine.send_to(link, ref.handle, ref.format, route, message, droppable=droppable, secret=secret)

    async def attach(self, session: Session[Any], address: str, instead_of: str | None, timeout: float) -> None:
        """As Session.attach."""
        guest = self._guest(session, at_home=True)
        if not guest.at_home:
            raise UsageError(f"{address}: only a session's home attaches it")
        old = None
        if instead_of is not None:
            if instead_of not in guest.slots:
                # This node may have become its home since.
                await self.attach(session, instead_of, None, timeout)
            old = guest.slots[instead_of]
        node = self._calls.placement.node_of(address)
        target, number = await self._calls.ask(KIND_SERVICE, address, target_of(ATTACH, address), _ask, (), timeout)
        if not number:
            raise UsageError(f"{address}: it has no handler (@on) that a session's packets could go to")
        verb = "attach" if old is None else "move"
        slot = await self._own(session, verb, node.encode(), timeout, slot=old or 0, target=target, class_number=number)
        if instead_of is not None:
            guest.slots.pop(instead_of, None)
        guest.slots[address] = slot

    async def detach(self, session: Session[Any], address: str, timeout: float) -> None:
        """As Session.detach."""
        guest = self._guest(session, at_home=True)
        slot = guest.slots.pop(address, None)
        if slot is None:
            return
        try:
            await self._own(session, "leave", b"", timeout, slot=slot)
        except Refused as refused:
            # What it was attached to has ended meanwhile.
            if refused.code != "not-attached":
                raise

    def handle_done(self, session: Session[Any], request: int, slot: int, reason: str) -> None:
        """What became of what was asked for as `request`; 0: what was attached there is lost."""
        if not request:
            guest = self._guests.get(session.id)
            lost = [] if guest is None else [address for address, at in guest.slots.items() if at == slot]
            for address in lost:
                cast(Guest, guest).slots.pop(address)
                _log.warning("session %s has lost %s (%s)", session.address, address, reason)
            return
        future = self._asked.pop((session.id, request), None)
        if future is not None and not future.done():
            future.set_result((slot, reason))

    def handle_bound(
        self, session: Session[Any], what: str, target: int, tag: int, flags: int, state: bytes
    ) -> Coroutine[Any, Any, None] | None:
        """Something happened to what the session is bound to here; in order with its packets."""
        if what == "arrived":
            return self._arrived(session, target, tag, state if flags & 4 else b"")
        if what == "fence":
            return self._fenced(session, target, tag)
        if what == "detached":
            return self._detached(session, target)
        self.closed(session)
        return None

    def handler(self, name: str) -> Callable[[Session[Any], Any, int], Any]:
        """What calls this method of the space or service that a packet is for."""

        def handle(session: Session[Any], message: Any, target: int) -> Any:
            service = self._instances.by_target(target)
            guest = self._guests.get(session.id)
            if service is None or guest is None:
                raise Refused("gone")
            return getattr(service, name)(guest.ref, message)

        return handle

    def is_visitor(self, session: Session[Any]) -> bool:
        """Its home is elsewhere: the application's hooks there are called, and not here."""
        guest = self._guests.get(session.id)
        return guest is not None and not guest.at_home

    def closed(self, session: Session[Any]) -> None:
        """The session has ended, or goes on without this node. Each target that it was attached to is told by itself,
        behind what it is busy with for that session."""
        self._kept.pop(session.id, None)
        guest = self._guests.get(session.id)
        if guest is not None:
            guest.ended = True
            self._forget_if_free(session, guest)

    def keep(self) -> None:
        """Gives the proxies what has changed of the data of their sessions."""
        for native in self._engine.sessions():
            session = cast("Session[Any]", native)
            if session.data is None or not session.origin[0] or self.is_visitor(session):
                continue
            kept = self._encoded(session)
            if kept and self._kept.get(session.id) != kept:
                self._kept[session.id] = kept
                self._engine.own(session, "data", kept)

    def statistics(self) -> dict[str, int]:
        return {"known": len(self._guests), "attaching": len(self._asked), "sends_lost": self._sends_lost}

    async def _own(self, session: Session[Any], verb: str, payload: bytes, timeout: float, **numbers: int) -> int:
        self._requests = self._requests % 0xFFFF_FFFF + 1
        request = self._requests
        future: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        asked = session.id, request
        self._asked[asked] = future
        self._engine.own(session, verb, payload, request=request, **numbers)
        try:
            async with asyncio.timeout(timeout):
                slot, reason = await future
        except TimeoutError:
            raise CallTimeout(f"{verb}: the proxy of {session.address} has not answered") from None
        finally:
            self._asked.pop(asked, None)
        if reason == "unreachable":
            raise Unreachable(f"{verb}: the proxy of {session.address} has no link to that node", sent=False)
        if reason:
            raise Refused(reason)
        return slot

    async def _arrived(self, session: Session[Any], target: int, tag: int, state: bytes) -> None:
        if not target:
            await self._come_home(session, tag, state)
            return
        service = self._instances.by_target(target)
        if service is None or self._parted is not None:
            self._engine.own(session, "refused", b"gone", tag=tag)
            return
        guest = self._guest(session, at_home=not session.origin[0])
        try:
            arrive = service.__photinus__.arrive
            if arrive is not None:
                await _done(arrive.call(service, guest.ref, None if not state else arrive.decode(state)))
        except Refused as refused:
            self._engine.own(session, "refused", refused.code.encode(), tag=tag)
            return
        except Exception as error:  # noqa: BLE001 - it is reported, and the session does not come
            self._failed(f"{service.address}.arrive", error)
            self._engine.own(session, "refused", b"failed", tag=tag)
            return
        guest.targets[target] = tag
        guest.speaks = True
        self._engine.own(session, "arrived", b"", tag=tag)

    async def _come_home(self, session: Session[Any], tag: int, state: bytes) -> None:
        guest = self._guest(session, at_home=True)
        guest.at_home = True
        if state:
            try:
                name, data = _pair(state)
                session.data = self._data[name](data)
                self._kept[session.id] = state
            except (*UNDECODABLE, KeyError) as error:
                self._failed("the data of a session that has come here", error)
        # First, since nothing goes out to it before.
        self._engine.own(session, "arrived", b"", tag=tag)
        guest.speaks = True
        if self._rehomed is not None:
            await _done(self._rehomed(session))

    async def _fenced(self, session: Session[Any], target: int, tag: int) -> None:
        guest = self._guest(session, at_home=not session.origin[0])
        state = b""
        if not target:
            guest.at_home = False
            state = self._encoded(session)
        elif (service := self._instances.by_target(target)) is not None:
            try:
                leave = service.__photinus__.leave
                left = None if leave is None else await _done(leave.call(service, guest.ref))
                state = b"" if left is None else msgspec.msgpack.encode(left)
                if len(state) > MAX_STATE_BYTES:
                    raise UsageError(f"{len(state)} bytes of state, {MAX_STATE_BYTES} at most")  # noqa: TRY301
            except Exception as error:  # noqa: BLE001 - it is reported, and the session goes on without a state
                self._failed(f"{service.address}.leave", error)
                state = b""
            await self._left(service, guest.ref)
        # Behind all that was sent to it from here.
        self._engine.own(session, "fenced", state, tag=tag)
        guest.targets.pop(target, None)
        self._forget_if_free(session, guest)

    async def _detached(self, session: Session[Any], target: int) -> None:
        guest = self._guests.get(session.id)
        if guest is None or target not in guest.targets:
            return
        guest.targets.pop(target, None)
        if (service := self._instances.by_target(target)) is not None:
            await self._left(service, guest.ref)
        self._forget_if_free(session, guest)

    async def part(self) -> None:
        """The node stops: sessions that have their homes elsewhere go on without it. Returns when they are gone, or
        PART_SECONDS have passed."""
        self._parted = asyncio.get_running_loop().create_future()
        visitors = [guest for guest in self._guests.values() if not guest.at_home]
        for guest in visitors:
            for target in list(guest.targets):
                await self._let_go(guest, target)
        if any(not guest.at_home for guest in self._guests.values()):
            await asyncio.wait([self._parted], timeout=PART_SECONDS)

    async def _evict(self, _: Service, target: int) -> None:
        """This one ends: whoever is attached to it has left it, and its home finds so when it asks."""
        for guest in [guest for guest in self._guests.values() if target in guest.targets]:
            await self._let_go(guest, target)

    async def _let_go(self, guest: Guest, target: int) -> None:
        tag = guest.targets.pop(target, None)
        if tag is None:
            return
        # The place is above the twelve bits of the epoch, and counted from 1.
        self._engine.own(guest.session, "leave", b"", slot=(tag >> 12) - 1)
        service = self._instances.by_target(target)
        if service is not None:
            await self._left(service, guest.ref)
        self._forget_if_free(guest.session, guest)

    async def _left(self, service: Service, who: SessionRef) -> None:
        left = service.__photinus__.left
        if left is None:
            return
        try:
            await _done(left.call(service, who))
        except Exception as error:  # noqa: BLE001 - it is reported, and the session goes on
            self._failed(f"{service.address}.left", error)

    def _encoded(self, session: Session[Any]) -> bytes:
        """The session's data, with the name of its class; nothing if it is not to be kept."""
        data = session.data
        name = type(data).__qualname__
        if data is None or name not in self._data:
            if data is not None and name not in self._unkept:
                self._unkept.add(name)
                _log.warning("session.data of %s is not kept for another home: no handler says Session[%s]", name, name)
            return b""
        try:
            encoded = msgspec.msgpack.encode((name, data))
        except Exception as error:  # noqa: BLE001 - an unknown type, too large a number: it is reported
            self._failed(f"session.data ({name})", error)
            return b""
        if len(encoded) > MAX_STATE_BYTES:
            self._failed(f"session.data ({name})", UsageError(f"{len(encoded)} bytes, {MAX_STATE_BYTES} at most"))
            return b""
        return encoded

    def _guest(self, session: Session[Any], *, at_home: bool) -> Guest:
        guest = self._guests.get(session.id)
        if guest is None:
            guest = self._guests[session.id] = Guest(session, self.ref(session), at_home=at_home)
            self._by_ref[guest.ref] = guest
        return guest

    def _forget_if_free(self, session: Session[Any], guest: Guest) -> None:
        if guest.ended and not guest.targets:
            self._guests.pop(session.id, None)
            if self._by_ref.get(guest.ref) is guest:
                del self._by_ref[guest.ref]
            parted = self._parted
            if parted is not None and not parted.done() and all(of.at_home for of in self._guests.values()):
                parted.set_result(None)


def reactor_of(handle: int) -> int:
    """Which of its node's reactors a session is of: the handle's upper four bits."""
    return handle >> 28


async def _done(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result

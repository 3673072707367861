"""Sessions: players' presences on this node, and who of them is logged in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, cast

from msgspec import Struct
from typing_extensions import TypeVar

from .engine import Session as NativeSession
from .errors import Refused
from .scope import Scope, here

D = TypeVar("D", default=Any)

# How long a login waits for the older session of its player to be through with its `closed`
# handler. Longer than a write to a slow store, shorter than a player's patience.
REPLACE_SECONDS = 5.0


# How long an attachment may take that was told nothing else: as long as a call.
ATTACH_SECONDS = 5.0
# The places that a proxy has for a session, beside its home.
MOST_ATTACHMENTS = 8


class Closed(Struct, frozen=True):
    """Why a session ended: `by` whom, and the `reason`, a word such as `left`, `kicked`, `slow`."""

    by: Literal["client", "server", "network", "protocol"]
    reason: str


class Address(Protocol):
    """Where a service or space is: what `at` gives, and the service or space itself."""

    @property
    def address(self) -> str:
        """`Class/key`."""
        ...


class SessionRef(Struct, frozen=True, array_like=True):
    """A session, as it can be named on any node: in calls' arguments, in what is kept.

    `node` holds its client, in this `generation` of it, under this `handle`; `format` is how its messages are
    written.
    """

    node: str
    generation: int
    handle: int
    format: str = "msgpack"

    def send(self, route: str | int, msg: object, *, droppable: bool = False, secret: bool = False) -> None:
        """Sends to it as Session.send does, from whatever node the code runs in. To one that has ended, or whose
        proxy has no link here, nothing is sent."""
        here(Abroad).send(self, route, msg, droppable=droppable, secret=secret)


class Abroad(Struct, frozen=True):
    """The part of a node that knows sessions of other nodes, and what is attached where."""

    ref: Callable[[Session[Any]], SessionRef]
    send: Callable[..., None]
    attach: Callable[[Session[Any], str, str | None, float], Awaitable[None]]
    detach: Callable[[Session[Any], str, float], Awaitable[None]]


class Session(NativeSession, Generic[D]):
    """One client's presence, from its first byte to its `closed` handler.

    Made by the engine, never by hand. `data` is the application's own, None until it is set;
    `Session[Hero]` in a handler's signature says what it will be by then.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def data(self) -> D: ...
        @data.setter
        def data(self, value: D) -> None: ...

    async def login(self, player: int | str, *, replace: bool = True, roles: str | Collection[str] = ()) -> None:
        """Makes this the session of that player, and opens the routes that are not public, with those
        of its `roles`. These replace what roles the session had.

        One player has one session on a node. If there is an older one it is kicked first, with
        the reason `replaced`, and this returns after its `closed` handlers are done, so that what
        they clean up is not yet this session's. With replace=False, or if they take longer than
        REPLACE_SECONDS, Refused("already-online") is raised instead; Refused("replaced") if a still
        newer session came meanwhile; Refused("closed") if this one has ended.
        """
        scope = self._scope()
        named = role_names(roles)
        await scope.part(Players).login(self, player, replace=replace)
        self.roles = named

    @property
    def ref(self) -> SessionRef:
        """What names this session on every node."""
        return self._scope().part(Abroad).ref(self)

    async def attach(
        self, address: Address, instead_of: Address | None = None, *, timeout: float = ATTACH_SECONDS
    ) -> None:
        """Attaches the session to a space or service: packets of the routes that has (@on) go straight there from
        now on. Up to MOST_ATTACHMENTS at a time.

        With `instead_of` it moves there from another one, in order: nothing that it sends is lost or comes twice, what
        the old one's `leave` returns is given to the new one's `arrive`, and no message of the new one comes before
        the last of the old.

        Refused as `arrive` says, or with `too-many`; CallTimeout; Unreachable. To be called where its home is, as
        handlers are.
        """
        old = None if instead_of is None else instead_of.address
        await self._scope().part(Abroad).attach(self, address.address, old, timeout)

    async def detach(self, address: Address, *, timeout: float = ATTACH_SECONDS) -> None:
        """Ends an attachment; nothing happens if there is none."""
        await self._scope().part(Abroad).detach(self, address.address, timeout)

    def _scope(self) -> Scope:
        return cast(Scope, self.engine.owner)


def role_names(roles: object) -> frozenset[str]:
    """One role's name or several; ValueError if that is something else."""
    names: object = (roles,) if isinstance(roles, str) else roles
    if isinstance(names, Collection):
        given = cast("Collection[object]", names)
        named = [name for name in given if isinstance(name, str) and name]
        if len(named) == len(given):
            return frozenset(named)
    raise ValueError(f"roles are names, such as 'gm' or ('gm', 'admin'), not {roles!r}")


class Players:
    """Who is logged in on one node. A player is claimed by one session from the moment it asks."""

    def __init__(self) -> None:
        self._holders: dict[int | str, Session] = {}
        self._claims: dict[int, int | str] = {}
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}

    def __len__(self) -> int:
        return len(self._holders)

    async def login(self, session: Session, player: int | str, *, replace: bool) -> None:
        older = self._holders.get(player)
        if older is session:
            return
        if older is not None and not replace and not older.closed:
            raise Refused("already-online")
        self._forget(session)
        self._holders[player] = session
        self._claims[session.id] = player
        try:
            if older is not None:
                older.kick("replaced")
                await self._wait_until_closed(older)
            self._check_holds(session, player)
        except BaseException:
            self._give_back(session, player, older)
            raise
        session.player = player

    def closed(self, session: Session) -> None:
        """The session has ended and its handlers are done."""
        self._forget(session)
        for future in self._waiting.pop(session.id, ()):
            if not future.done():
                future.set_result(None)

    async def _wait_until_closed(self, older: Session) -> None:
        if self._claims.get(older.id) is None:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(older.id, []).append(future)
        try:
            async with asyncio.timeout(REPLACE_SECONDS):
                await future
        except TimeoutError:
            raise Refused("already-online") from None

    def _check_holds(self, session: Session, player: int | str) -> None:
        if session.closed:
            raise Refused("closed")
        if self._holders.get(player) is not session:
            raise Refused("replaced")

    def _give_back(self, session: Session, player: int | str, older: Session | None) -> None:
        held = self._holders.get(player) is session
        self._forget(session)
        if held and older is not None and self._claims.get(older.id) == player:
            self._holders[player] = older

    def _forget(self, session: Session) -> None:
        player = self._claims.pop(session.id, None)
        if player is not None and self._holders.get(player) is session:
            del self._holders[player]

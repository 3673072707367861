"""Sessions: players' presences on this node, and who of them is logged in."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, cast

from msgspec import Struct
from typing_extensions import TypeVar

from .engine import Session as NativeSession
from .errors import Refused
from .scope import Scope

D = TypeVar("D", default=Any)

# How long a login waits for the older session of its player to be through with its `closed`
# handler. Longer than a write to a slow store, shorter than a player's patience.
REPLACE_SECONDS = 5.0


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

    `node` holds its client, in this `generation` of it, under this `handle`.
    """

    node: str
    generation: int
    handle: int


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
        scope = cast(Scope, self.engine.owner)
        named = role_names(roles)
        await scope.part(Players).login(self, player, replace=replace)
        self.roles = named


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

"""What a protocol's client side tells: events of the wire, the same for all protocols."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ..errors import ConnectionLost


class ProtocolError(ConnectionLost):
    """The server sent what the protocol does not allow, or turned the client away."""


class Opened(Struct, frozen=True):
    """The handshake is done. The server speaks every `heartbeat` seconds; 0: it never needs to."""

    heartbeat: float
    status: Literal["new", "resumed", "gap"] = "new"
    """Whether this is the session of before, and whether something that was sent to it is lost."""
    lost: tuple[int, ...] = ()
    """The requests whose answers are among that."""


class InLine(Struct, frozen=True):
    """The server is full; the welcome comes when it is this client's turn. Seconds."""

    place: int
    estimate: float | None


class Turned(Struct, frozen=True):
    """The server does not take this client. Seconds after which it is worth trying again, if ever."""

    code: str
    retry_after: float | None


class Response(Struct, frozen=True):
    """The answer to the request of this id."""

    id: int
    body: bytes
    error: bool


class Push(Struct, frozen=True):
    """A message that nobody asked for."""

    route: str
    body: bytes


class Kick(Struct, frozen=True):
    """The server is about to close the connection."""

    reason: str


class Elsewhere(Struct, frozen=True):
    """The server is about to close the connection, and the client is to go to this address."""

    url: str


Event = Opened | InLine | Turned | Response | Push | Kick | Elsewhere

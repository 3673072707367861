"""What happens to a client's connection and session, as its application is told."""

from __future__ import annotations

from msgspec import Struct


class Waiting(Struct, frozen=True):
    """The server is full, and this client stands in line: `place` 1 is the next. The estimate is in seconds."""

    place: int
    estimate: float | None


class Cut(Struct, frozen=True):
    """The connection is gone; the client is about to connect again."""

    reason: str


class Resumed(Struct, frozen=True):
    """The session goes on over another connection, and nothing is lost."""


class Gap(Struct, frozen=True):
    """The session goes on, and some of what was sent to it is lost: what the game knows wants to be fetched anew.

    `requests` of this client lost their answers; they have raised ConnectionLost.
    """

    requests: int


class Renewed(Struct, frozen=True):
    """The session could not be resumed, and a new one has taken its place: its player has to log in, as `enter` did."""

    reason: str


class Redirected(Struct, frozen=True):
    """The server has sent this client to another address."""

    url: str


Change = Waiting | Cut | Resumed | Gap | Renewed | Redirected

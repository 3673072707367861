"""What the reference codecs of all protocols share: what a reader is, and how it says what it has read."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

Side = Literal["server", "client"]
Json = dict[str, Any]
Reader = Generator[int, bytes, NoReturn]
"""Yields a number of bytes, is sent these; raises WireError and never returns."""


class WireError(Exception):
    """The other side broke the protocol; or, when encoding, the protocol cannot say it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Listener:
    protocol: str
    options: Mapping[str, str]
    max_payload: int

    @staticmethod
    def of(value: Json) -> Listener:
        return Listener(value["protocol"], value["options"], value["max_payload"])


@dataclass
class Outcome:
    events: list[Json] = field(default_factory=list[Json])
    reply: bytearray = field(default_factory=bytearray)
    error: str | None = None
    left: int = 0
    """How many bytes of a frame that is not whole yet have come."""


def packet(kind: str, route: str | int | None, body: bytes, number: int = 0) -> Json:
    return {"event": "packet", "kind": kind, "id": number, "route": route, "body": body.hex()}

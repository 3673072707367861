"""The application that the nodes of these tests run: it numbers what it handles, and writes down what there was.

`photinus run` shows nothing of itself but lines, so each node keeps a file with its statistics and with what the
application has seen, in the folder that GAME_FOLDER names, as new as a few hundredths of a second.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from photinus import App, Closed, Routes, Session
from photinus.scope import current

WRITE_SECONDS = 0.03


class Ask(Struct):
    number: int


class Answer(Struct):
    number: int
    node: str
    handled: int
    """So many of this session's, since it came to this node."""


class Counted(Struct):
    last: int = 0
    """The number that was handled last; below 0: it is not known here."""
    handled: int = 0


class Seen(Struct):
    """What a node tells of itself."""

    process: int = 0
    statistics: dict[str, Any] = {}
    ends: list[tuple[str, str]] = []
    """By whom sessions were ended, and for what reason."""
    faults: list[str] = []
    """Numbers that did not come in their order."""

    def links(self, node: str) -> list[dict[str, Any]]:
        """Its links to and from that node."""
        return [link for link in self.statistics.get("links", []) if link["node"] == node]

    def count(self, name: str) -> int:
        return int(self.statistics["engine"][name])


routes = Routes()
app = App("numbers", routes=[routes])
seen = Seen(process=os.getpid())


@routes.opened
def opened(session: Session[Counted]) -> None:
    session.data = Counted()


@routes.closed
def closed(session: Session, why: Closed) -> None:
    seen.ends.append((why.by, why.reason))


def handle(session: Session[Counted], msg: Ask) -> Answer:
    # Of one that has a new home it is not known what was handled at the old one.
    counted: Counted | None = session.data
    if counted is None:
        counted = session.data = Counted(-1)
    if counted.last >= 0 and msg.number != counted.last + 1:
        seen.faults.append(f"session {session.id}: {msg.number} behind {counted.last}")
    counted.last = msg.number
    counted.handled += 1
    return Answer(msg.number, current().name, counted.handled)


@routes.on("ask", public=True)
def ask(session: Session[Counted], msg: Ask) -> Answer:
    answer = handle(session, msg)
    session.send("asked", answer)
    return answer


@routes.default
def ask_without_a_name(session: Session[Counted], msg: Ask) -> Answer:
    return handle(session, msg)


def write() -> None:
    folder = Path(os.environ["GAME_FOLDER"])
    seen.statistics = app.statistics()
    new = folder / f"{current().name}.new"
    new.write_bytes(msgspec.json.encode(seen))
    # In one step: nobody reads half of it.
    new.replace(folder / f"{current().name}.json")


app.every(WRITE_SECONDS, write)

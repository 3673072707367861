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
TICK_SECONDS = 0.01
UNKNOWN = -1


class Ask(Struct):
    number: int


class Answer(Struct):
    number: int
    node: str
    handled: int
    """So many of this session's, since it came to this node."""


class Tick(Struct):
    """What nobody has asked for."""

    number: int
    node: str


class Counted(Struct):
    last: int = 0
    """The number that was handled last."""
    handled: int = 0
    ticks: int = 0


class Seen(Struct):
    """What a node tells of itself."""

    process: int = 0
    statistics: dict[str, Any] = {}
    ends: list[tuple[str, str]] = []
    """By whom sessions were ended, and for what reason."""
    faults: list[str] = []
    """Numbers that did not come in their order."""
    rehomed: int = 0
    """Sessions that came from a node that was lost."""

    def links(self, node: str) -> list[dict[str, Any]]:
        """Its links to and from that node."""
        return [link for link in self.statistics.get("links", []) if link["node"] == node]

    def count(self, name: str) -> int:
        return int(self.statistics["engine"][name])


routes = Routes()
app = App("numbers", routes=[routes])
seen = Seen(process=os.getpid())
here: set[Session[Counted]] = set()
"""Those whose home this node is."""


@routes.opened
def opened(session: Session[Counted]) -> None:
    session.data = Counted()
    here.add(session)


@routes.rehomed
def rehomed(session: Session[Counted]) -> None:
    seen.rehomed += 1
    # What was handled since the data was kept is not known here.
    session.data = Counted(UNKNOWN)
    here.add(session)


@routes.closed
def closed(session: Session, why: Closed) -> None:
    here.discard(session)
    seen.ends.append((why.by, why.reason))


def handle(session: Session[Counted], msg: Ask) -> Answer:
    counted = session.data
    if counted.last != UNKNOWN and msg.number != counted.last + 1:
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


def tick() -> None:
    for session in here:
        # Who has asked for something listens. There are no names in the other protocol.
        if session.data.handled and session.protocol == "photinus":
            session.data.ticks += 1
            session.send("tick", Tick(session.data.ticks, current().name))


def write() -> None:
    folder = Path(os.environ["GAME_FOLDER"])
    seen.statistics = app.statistics()
    new = folder / f"{current().name}.new"
    new.write_bytes(msgspec.json.encode(seen))
    # In one step: nobody reads half of it.
    new.replace(folder / f"{current().name}.json")


app.every(TICK_SECONDS, tick)
app.every(WRITE_SECONDS, write)

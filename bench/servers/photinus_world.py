"""Photinus: the world of the row `proxy` (crates/bots/src/traffic.rs has what is said): bundles to everybody, answers
to what is asked, and a room of fifty for each line of chat."""

from __future__ import annotations

import os
import struct
import time
from itertools import cycle
from pathlib import Path
from typing import ClassVar

from bench.servers.reporting import report
from photinus import App, Closed, Group, Routes, Session

STAMP = struct.Struct(">QI")
BUNDLE_BYTES = 200
BUNDLE_EVERY = 0.1
# Bundles are spread over so many moments of their interval.
MOMENTS = 20
ROOM = 50

FILL = bytes(at * 37 & 0xFF for at in range(BUNDLE_BYTES - STAMP.size))

answers = cycle(Path(os.environ["BENCH_ANSWERS"]).read_text().splitlines())
routes = Routes()


class User:
    """Who is there: in which room, sent bundles at which moment, and how many."""

    everybody: ClassVar[list[dict[int, User]]] = [{} for _ in range(MOMENTS)]
    rooms: ClassVar[list[list[int]]] = []

    def __init__(self, session: Session[User]) -> None:
        self.session = session
        self.bundles = 0
        self.moment = min(self.everybody, key=len)
        self.moment[session.id] = self
        free = (number for number, room in enumerate(self.rooms) if len(room) < ROOM)
        number = next(free, len(self.rooms))
        if number == len(self.rooms):
            self.rooms.append([])
        self.room = self.rooms[number]
        self.room.append(session.id)
        self.group = Group(f"room-{number}")
        self.group.add(session)


@routes.opened
def came(session: Session[User]) -> None:
    session.data = User(session)


@routes.closed
def gone(session: Session[User], reason: Closed) -> None:
    user = session.data
    del user.moment[session.id]
    user.room.remove(session.id)


@routes.on("move", public=True)
def move(session: Session[User], body: bytes) -> None:
    pass


@routes.on("ask", public=True)
def ask(session: Session[User], body: bytes) -> bytes:
    came_at = time.monotonic_ns()
    _, sequence = STAMP.unpack_from(body)
    answer = next(answers)
    return b'{"seq":%d,"in":%d,"out":%d,"of":%s}' % (sequence, came_at, time.monotonic_ns(), answer.encode())


@routes.on("say", public=True)
def say(session: Session[User], body: bytes) -> None:
    session.data.group.send("said", body)


def bundles() -> None:
    """To those whose moment it is."""
    global _moment  # noqa: PLW0603 - the timer has no other place for it
    now, pack = time.monotonic_ns, STAMP.pack
    for user in User.everybody[_moment].values():
        user.session.send("bundle", pack(now(), user.bundles) + FILL, droppable=True)
        user.bundles += 1
    _moment = (_moment + 1) % MOMENTS


_moment = 0
app = App("bench", routes=[routes])
app.every(BUNDLE_EVERY / MOMENTS, bundles)
report(app)

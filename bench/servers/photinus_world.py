"""Photinus: the world of the row `proxy` (crates/bots/src/traffic.rs has what is said): bundles to everybody, answers
to what is asked, and a room of fifty for each line of chat."""

from __future__ import annotations

import asyncio
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


async def send_bundles() -> None:
    """To everybody whose moment has come; those that were missed are made up for."""
    now, pack = time.monotonic_ns, STAMP.pack
    moments = cycle(User.everybody)
    due = time.monotonic()
    while True:
        await asyncio.sleep(due - time.monotonic())
        while due <= time.monotonic():
            due += BUNDLE_EVERY / MOMENTS
            for user in next(moments).values():
                user.session.send("bundle", pack(now(), user.bundles) + FILL, droppable=True)
                user.bundles += 1


app = App("bench", routes=[routes])
app.task(send_bundles)
report(app)

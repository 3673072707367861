"""Photinus: a number is pushed to everybody, one higher each time, and whatever is said is said back; what each
session says must be numbered likewise."""

from __future__ import annotations

import os
from itertools import count

from bench.servers.reporting import add, report
from photinus import App, Group, Routes, Session

# Seconds from one push to the next.
EVERY = float(os.environ["BENCH_EVERY"])

everybody = Group("everybody")
routes = Routes()
app = App("bench", routes=[routes])
_pushed = count()
_wrong: list[int] = []


class Said:
    """How much a session has said."""

    def __init__(self) -> None:
        self.next = 0


@routes.opened
def joined(session: Session[Said]) -> None:
    session.data = Said()
    everybody.add(session)


@routes.on("say", public=True)
def say(session: Session[Said], body: bytes) -> bytes:
    if int.from_bytes(body, "big") != session.data.next:
        _wrong.append(session.data.next)
    session.data.next += 1
    return body


def push() -> None:
    everybody.send("tick", next(_pushed).to_bytes(4, "big"))


def wrong() -> dict[str, float]:
    return {"said_wrong": len(_wrong)}


app.every(EVERY, push)
report(app)
add(wrong)

"""Photinus: a four-field Struct, decoded from msgpack and encoded again."""

from __future__ import annotations

from msgspec import Struct

from bench.servers.reporting import report
from photinus import App, Routes, Session

routes = Routes()


class Move(Struct):
    id: int
    x: float
    y: float
    name: str


@routes.default
def echo(session: Session, move: Move) -> Move:
    return move


app = App("bench", routes=[routes])
report(app)

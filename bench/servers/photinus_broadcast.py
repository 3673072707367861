"""Photinus: a frame is sent to everybody else as often as its first byte says; 0 asks for it back."""

from __future__ import annotations

from bench.servers.reporting import report
from photinus import App, Group, Routes, Session

everybody = Group("everybody")
routes = Routes()


@routes.opened
def joined(session: Session) -> None:
    everybody.add(session)


@routes.default
def said(session: Session, body: bytes) -> bytes | None:
    if body[0] == 0:
        return body
    for _ in range(body[0]):
        everybody.send("said", body, but=session)
    return None


app = App("bench", routes=[routes])
report(app)

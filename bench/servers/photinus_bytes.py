"""Photinus: a plain handler that gives back the bytes it got."""

from __future__ import annotations

from bench.servers.reporting import report
from photinus import App, Routes, Session

routes = Routes()


@routes.default
def echo(session: Session, body: bytes) -> bytes:
    return body


app = App("bench", routes=[routes])
report(app)

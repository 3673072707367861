"""Photinus: an `async def` that does not suspend."""

from __future__ import annotations

from bench.servers.reporting import report
from photinus import App, Routes, Session

routes = Routes()


@routes.default
async def echo(session: Session, body: bytes) -> bytes:
    return body


app = App("bench", routes=[routes])
report(app)

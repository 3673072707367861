"""Photinus: whatever is asked is answered with the bytes that it came with."""

from __future__ import annotations

from bench.servers.reporting import report
from photinus import App, Routes, Session

routes = Routes()


@routes.on("echo", public=True)
def echo(session: Session, body: bytes) -> bytes:
    return body


app = App("bench", routes=[routes])
report(app)

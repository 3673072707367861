"""Rows `tls` and `websocket`: the echo through other doors than a plain socket."""

from __future__ import annotations

from . import echo
from .echo import Shape
from .plan import Plan
from .subjects import TLS, WEBSOCKET

TLS_ROW, WEBSOCKET_ROW = "tls", "websocket"

# Where a client sends several frames at once, they are in one record, and in one write.
TLS_SHAPES = (Shape("50x1", 50), Shape("50x16", 50, depth=16))
WEBSOCKET_SHAPES = (*TLS_SHAPES, Shape("50x16-one", 50, depth=16, one_message=True))


def run(plan: Plan) -> None:
    echo.measure(plan, TLS_ROW, TLS_SHAPES, TLS)
    echo.measure(plan, WEBSOCKET_ROW, WEBSOCKET_SHAPES, WEBSOCKET)

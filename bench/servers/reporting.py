"""Statistics of a running benchmark server, asked for on its stdin."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

from photinus import App

_more: list[Callable[[], dict[str, float]]] = []


def report(app: App) -> None:
    """The application's node answers on stdin."""
    app.task(lambda: answer(app.statistics))


async def answer(statistics: Callable[[], dict[str, Any]]) -> None:
    """Each line that comes on stdin is answered with the node's statistics, as a line of JSON; to its end."""
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        own = {name: value for values in _more for name, value in values().items()}
        print(json.dumps({**statistics(), "own": own}), flush=True)


def add(values: Callable[[], dict[str, float]]) -> None:
    """A server's own figures, in a section of their own."""
    _more.append(values)

"""Statistics of a running benchmark server, asked for on its stdin."""

from __future__ import annotations

import asyncio
import json
import sys

from photinus import App, scope
from photinus.engine import Engine


def report(app: App) -> None:
    """Each line that comes on stdin is answered with the engine's statistics, as a line of JSON."""
    app.task(_answer)


async def _answer() -> None:
    engine = scope.current().part(Engine)
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        print(json.dumps(engine.statistics()), flush=True)

"""A browser without a window, and the server of the pages that it opens."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from tests.clients import programs

PAGE = Path(__file__).parent / "page"


class Handler(SimpleHTTPRequestHandler):
    """The page, and the client of npm that it uses."""

    def translate_path(self, path: str) -> str:
        if path == "/pomelo-client-websocket.js":
            return str(programs.POMELO / "node_modules" / "pomelo-client-websocket" / "core.js")
        return super().translate_path(path)

    def log_message(self, *_about: object) -> None:
        """Nobody reads it."""


@contextmanager
def served() -> Iterator[str]:
    """The page's origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(PAGE))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    program = programs.chromium()
    # Chromium's sandbox does not work for root.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=program, args=flags)
        try:
            yield running
        finally:
            await running.close()

"""The playground of `photinus dev`: a page on this machine alone that plays the game by hand.

The page speaks to the game over WebSocket, as any browser's client does. Its listener takes that page's
origin alone: no other page that the developer has open can speak to the game through it.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from ...node import Node
from .describe import Description, RouteDescription, Schema, describe
from .server import Answer, Server

HOST = "127.0.0.1"
# The same one from start to start, so that a page that is open finds the game again.
DEFAULT_PORT = 7080
PAGE = Path(__file__).with_name("page")
CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

__all__ = ["DEFAULT_PORT", "Description", "Playground", "Reload", "RouteDescription", "Schema", "describe"]


class Reload(Struct, frozen=True):
    """What came of one save."""

    kind: Literal["reloaded", "failed"]
    text: str
    """In a line, as it stands in the terminal."""
    added: list[str] = []
    removed: list[str] = []
    changed: list[str] = []
    """Routes, as the terminal names them."""
    error: str = ""
    """Why it failed, with the game's part of the traceback."""


class Playground:
    """Takes the page's port at once, and serves it from `start` to `close`.

    Without a port it is DEFAULT_PORT, or a free one where that is taken; 0 is a free one. OSError if the
    port that was named is taken.
    """

    def __init__(self, port: int | None = None) -> None:
        self._socket = _taken(port)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://{HOST}:{self.port}"
        self.listener = f"ws://{HOST}:0?protocol=photinus&format=json&origins={self.url}"
        """The URL that the node is to listen on for the page."""
        self._server: Server | None = None
        self._saves = 0

    async def start(self, node: Node, address: str, root: Path) -> None:
        """Serves the page of this node, which listens at `address` for it. Places are shown as seen from `root`."""
        place = urlsplit(address)
        connect = f"{place.scheme}://{place.netloc}"
        self._server = Server(
            answers=lambda path: _answer(path, node, connect, root),
            host=f"{HOST}:{self.port}",
            connects_to=connect,
        )
        await self._server.start(self._socket)
        # A page that was left open when the process before this one ended must learn that its game is another.
        self._server.tell(msgspec.json.encode({"kind": "started", "process": os.getpid(), "save": 0}))

    def tell(self, reload: Reload) -> None:
        """Has every open page know, and look at the routes again."""
        if self._server is not None:
            self._saves += 1
            told = {"process": os.getpid(), "save": self._saves, **msgspec.structs.asdict(reload)}
            self._server.tell(msgspec.json.encode(told))

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._socket.close()


def _taken(port: int | None) -> socket.socket:
    """A socket that listens: to be bound alone would not keep another process from the same port."""
    try:
        return socket.create_server((HOST, DEFAULT_PORT if port is None else port))
    except OSError as error:
        if port is None and error.errno in (errno.EADDRINUSE, errno.EACCES):
            return socket.create_server((HOST, 0))
        raise OSError(error.errno, error.strerror, f"playground at http://{HOST}:{port}") from error


def _answer(path: str, node: Node, connect: str, root: Path) -> Answer | None:
    if path == "/game.json":
        body = {"connect": connect, **msgspec.to_builtins(describe(node.app, root))}
        return Answer("application/json", msgspec.json.encode(body))
    name = path.removeprefix("/") or "index.html"
    # Names that are in the folder, and no paths: nothing else of the disk can be asked for.
    files = {file.name: file for file in PAGE.iterdir() if file.suffix in CONTENT_TYPES}
    file = files.get(name)
    return None if file is None else Answer(CONTENT_TYPES[file.suffix], file.read_bytes())

"""The world of the demo, played with a client that nobody here wrote: pypomelo 1.0.1, over TCP.

Its own transport needs a Tornado of long ago. What stands in for it here only moves bytes: packages are
cut, read and made by pypomelo.
"""

# pyright: basic
# pypomelo has no types.

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from pypomelo.client import Client
from pypomelo.protocol import Protocol

from examples.chat.world import app
from photinus import Node


class Player(Client):  # type: ignore[misc]  # pypomelo has no types
    """A client on a blocking socket, and its own handler."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(self)
        self.heard: list[tuple[str, Any]] = []
        self.connected = False
        self.answers: list[Any] = []
        self.socket = socket.create_connection((host, port), timeout=10)
        self.send_sync()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def close(self) -> None:
        self.socket.close()

    def on_connected(self, _client: Client, _user: object) -> None:
        self.connected = True

    def on_heartbeat(self, _client: Client) -> None:
        self.send_heartbeat()
        self.heard.append(("heartbeat", None))

    def on_response(self, _client: Client, _route: str, _request: object, response: Any) -> None:
        self.answers.append(response)

    def on_push(self, _client: Client, route: str, push: Any) -> None:
        self.heard.append((route, push))

    def receive_until(self, done: Callable[[], bool]) -> None:
        while not done():
            package = Protocol.unpack(self.read(4))
            package.append(self.read(package.length))
            self.on_protocol(package)

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            assert more, "the server closed the connection"
            data += more
        return data

    def ask(self, route: str, **fields: object) -> Any:
        self.send_request(route, fields)
        self.receive_until(lambda: bool(self.answers))
        return self.answers.pop()

    def hear(self, route: str) -> Any:
        self.receive_until(lambda: any(heard == route for heard, _ in self.heard))
        index = next(index for index, (heard, _) in enumerate(self.heard) if heard == route)
        return self.heard.pop(index)[1]


def play(host: str, port: int) -> None:
    ann, bob = Player(host, port), Player(host, port)
    for player in (ann, bob):
        player.receive_until(lambda player=player: player.connected)  # type: ignore[misc]
    assert ann.ask("login", name="Ann") == {"name": "Ann", "players": 1}
    assert bob.ask("login", name="Bob") == {"name": "Bob", "players": 2}
    assert bob.ask("login", name="")["code"] == "bad-name"
    assert bob.ask("no-such-route")["code"] == "unknown-route"

    ann.send_notify("walk", {"x": 1.5, "y": -2})
    assert bob.hear("walked") == {"moves": [{"name": "Ann", "x": 1.5, "y": -2.0}]}

    assert ann.ask("say", text="Grüße ☀") == {}
    assert bob.hear("said") == {"name": "Ann", "text": "Grüße ☀"}
    assert ann.hear("said") == {"name": "Ann", "text": "Grüße ☀"}

    # The server speaks first, as pomelo's do; that both live after the next one says it was answered.
    for _ in range(3):
        bob.hear("heartbeat")
    assert bob.ask("say", text="still here") == {}
    ann.close()
    bob.close()


async def test_pypomelo_plays() -> None:
    async with Node(app, listen=["tcp://127.0.0.1:0?protocol=pomelo&heartbeat=1"]) as node:
        port = int(node.addresses[0].partition("?")[0].rpartition(":")[2])
        await asyncio.to_thread(play, "127.0.0.1", port)

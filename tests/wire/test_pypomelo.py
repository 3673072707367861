"""The golden vectors of pomelo, against the codec of a client that nobody here wrote: pypomelo 1.0.1."""

# pyright: basic, reportArgumentType=false
# pypomelo has no types.

import json
from pathlib import Path
from typing import Any

import pytest
from pypomelo.client import Client
from pypomelo.message import Message
from pypomelo.protocol import Protocol

VECTORS: dict[str, dict[str, Any]] = {
    vector["name"]: vector
    for vector in json.loads((Path(__file__).parent / "pomelo.json").read_text("utf-8"))["vectors"]
}


class Recording(Client):  # type: ignore[misc]  # pypomelo has no types
    """A client without a socket: it is its own handler, and notes what it is told and what it would send."""

    def __init__(self) -> None:
        super().__init__(self)
        self.heard: list[tuple[Any, ...]] = []
        self.sent: list[str] = []

    def send(self, data: bytes) -> None:
        self.sent.append(data.hex())

    def close(self) -> None:
        self.heard.append(("closed",))

    def on_connected(self, _client: Client, _user: object) -> None:
        self.heard.append(("connected",))

    def on_heartbeat(self, _client: Client) -> None:
        self.heard.append(("heartbeat",))

    def on_response(self, _client: Client, route: str, _request: object, response: object) -> None:
        self.heard.append(("response", route, response))

    def on_push(self, _client: Client, route: str, push: object) -> None:
        self.heard.append(("push", route, push))

    def feed(self, data: str) -> list[tuple[Any, ...]]:
        """What it makes of one package."""
        self.heard.clear()
        whole = bytes.fromhex(data)
        package = Protocol.unpack(whole[:4])
        package.append(whole[4:])
        self.on_protocol(package)
        return self.heard


@pytest.mark.parametrize(
    "name",
    [
        "handshake as pypomelo 1.0.1 sends it",
        "handshake of a listener without heartbeats",
        "handshake of a listener with msgpack",
    ],
)
def test_it_takes_the_answer_to_its_handshake(name: str) -> None:
    client = Recording()
    assert client.feed(VECTORS[name]["reply"]) == [("connected",)]
    assert client.sent == [VECTORS["acknowledgement"]["hex"]]


def test_it_is_not_connected_by_a_refusal() -> None:
    client = Recording()
    assert client.feed(VECTORS["a handshake that is no JSON"]["reply"]) == []
    assert client.sent == []


def test_it_writes_what_the_vectors_say_that_it_writes() -> None:
    client = Recording()
    client.send_sync()
    message = Message.request("chat.say", 300, {"text": "hi"})
    client.send(Protocol(Protocol.PROTO_TYPE_DATA, message.encode(None, None)).pack())
    client.send_heartbeat()
    assert client.sent == [
        VECTORS["handshake as pypomelo 1.0.1 sends it"]["hex"],
        VECTORS["request 300 to chat.say as pypomelo 1.0.1 sends it"]["hex"],
        VECTORS["heartbeat"]["hex"],
    ]


@pytest.mark.parametrize(("number", "name"), [(1, "answer to request 1"), (300, "answer to request 300")])
def test_it_reads_answers(number: int, name: str) -> None:
    client = Recording()
    client.request_id = number
    client.send_request("echo", {})
    assert client.feed(VECTORS[name]["hex"]) == [("response", "echo", {"text": "hi"})]


def test_it_reads_an_error_answer_as_an_answer() -> None:
    client = Recording()
    client.request_id = 7
    client.send_request("nowhere", {})
    error = {"code": "unknown-route", "msg": "there is no route nowhere"}
    assert client.feed(VECTORS["error answer to request 7"]["hex"]) == [("response", "nowhere", error)]


def test_it_reads_pushes_heartbeats_and_kicks() -> None:
    client = Recording()
    assert client.feed(VECTORS["push of said"]["hex"]) == [("push", "said", {"text": "hi"})]
    assert client.feed(VECTORS["heartbeat of the server's"]["hex"]) == [("heartbeat",)]
    assert client.feed(VECTORS["kick"]["hex"]) == [("closed",)]

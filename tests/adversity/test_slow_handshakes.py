"""Slowloris: handshakes that come a byte at a time. Each is over in `handshake_ms`, whatever it is a part of, and is
counted; whoever is in goes on."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from photinus.config import Limits
from tests.adversity.clients import Client
from tests.adversity.codecs import HANDSHAKE, frame, package
from tests.adversity.doors import trusting
from tests.adversity.servers import Server, echoing, serve
from tests.adversity.slowly import drip

pytestmark = pytest.mark.timeout(60)

# Milliseconds; long enough for the handshake of somebody who hurries.
SHORT = 1500
REQUEST = b"GET / HTTP/1.1\r\nHost: game.example\r\nX-Slow: " + b"a" * 1000


def hello_of_tls() -> bytes:
    outgoing = ssl.MemoryBIO()
    client = trusting().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def at_the_door(server: Server, protocol: str, dripped: bytes) -> None:
    drip(server.raw(protocol), dripped)


def behind_tls(server: Server, protocol: str, dripped: bytes) -> None:
    place = urlsplit(server.address(protocol))
    client = Client(f"tls://{place.netloc}?{place.query}", hello=False)
    server.clients.append(client)
    drip(client.socket, dripped)


def behind_websocket(server: Server, protocol: str, dripped: bytes) -> None:
    """Each byte in a message of its own."""
    client = server.connect(protocol, hello=False)
    masked = (b"\x82\x81" + bytes(4) + dripped[at : at + 1] for at in range(len(dripped)))
    drip(client.socket, b"".join(masked))


CASES = [
    pytest.param("tls", "length4", at_the_door, hello_of_tls()[:-1], id="TLS"),
    pytest.param("wss", "length4", at_the_door, hello_of_tls()[:-1], id="TLS of wss"),
    pytest.param("ws", "length4", at_the_door, REQUEST, id="HTTP"),
    pytest.param("wss", "length4", behind_tls, REQUEST, id="HTTP behind TLS"),
    pytest.param("tcp", "pomelo", at_the_door, package(HANDSHAKE, b" " * 8000), id="pomelo"),
    pytest.param("ws", "pomelo", behind_websocket, package(HANDSHAKE, b" " * 8000), id="pomelo over WebSocket"),
    pytest.param("tls", "pomelo", behind_tls, package(HANDSHAKE, b" " * 8000), id="pomelo over TLS"),
    pytest.param("tcp", "photinus", at_the_door, frame(1, b"\x02" * 900), id="photinus"),
    pytest.param("ws", "photinus", behind_websocket, frame(1, b"\x02" * 900), id="photinus over WebSocket"),
]


@pytest.mark.parametrize(("scheme", "protocol", "where", "dripped"), CASES)
def test_a_byte_at_a_time(
    scheme: str, protocol: str, where: Callable[[Server, str, bytes], None], dripped: bytes
) -> None:
    world = echoing()
    with serve(world.app, protocol, scheme=scheme, limits=Limits(handshake_ms=SHORT)) as server:
        player = server.connect(protocol)
        assert player.ask(b"here").body == b"here"
        where(server, protocol, dripped)
        server.until(server.ends)
        assert server.ends() == {"handshake_timeout": 1}
        assert player.ask(b"still here").body == b"still here"
        assert (server.count("sessions_opened"), len(world.sessions)) == (1, 1)


@pytest.mark.parametrize("scheme", ["tls", "ws", "wss"])
def test_a_door_at_which_nobody_says_anything(scheme: str) -> None:
    with serve(echoing().app, "length4", scheme=scheme, limits=Limits(handshake_ms=SHORT)) as server:
        player = server.connect("length4")
        silent = [server.raw("length4") for _ in range(20)]
        assert player.ask(b"here").body == b"here"
        server.until(lambda: server.ends() == {"handshake_timeout": len(silent)})
        assert player.ask(b"still here").body == b"still here"

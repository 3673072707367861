"""The PROXY protocol, versions 1 and 2: a session's address is the client's if a trusted balancer says so, whatever
lies behind the header; and nobody else is believed."""

from __future__ import annotations

import socket
import struct

import pytest

from photinus.config import Limits
from tests.adversity.clients import Client
from tests.adversity.codecs import HANDSHAKE, HELLO, package
from tests.adversity.doors import SCHEMES
from tests.adversity.servers import Server, echoing, serve
from tests.adversity.slowly import drip, is_over

pytestmark = pytest.mark.timeout(60)

BALANCER = "127.0.0.2"
# Milliseconds; long enough for the handshake of somebody who hurries.
SHORT = 1500
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def line(address: str, port: int = 4711) -> bytes:
    """Version 1."""
    return f"PROXY TCP{'6' if ':' in address else '4'} {address} {address} {port} 7000\r\n".encode()


def binary(address: str, port: int = 4711, *, command: int = 0x21, more: bytes = b"") -> bytes:
    """Version 2; `more` are TLVs."""
    family, kind = (socket.AF_INET6, 0x21) if ":" in address else (socket.AF_INET, 0x11)
    rest = socket.inet_pton(family, address) * 2 + struct.pack(">HH", port, 7000) + more
    return SIGNATURE + bytes([command, kind]) + struct.pack(">H", len(rest)) + rest


def through(server: Server, protocol: str, preface: bytes) -> Client:
    return server.connect(protocol, source=BALANCER, preface=preface)


@pytest.mark.parametrize("address", ["203.0.113.7", "2001:db8::7"])
@pytest.mark.parametrize("header", [line, binary])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("protocol", ["length4", "photinus"])
def test_the_session_has_the_clients_address(protocol: str, scheme: str, header: object, address: str) -> None:
    world = echoing()
    with serve(world.app, f"{protocol}&proxy={BALANCER}", scheme=scheme) as server:
        assert callable(header)
        client = through(server, protocol, header(address))
        assert client.ask(b"hello").body == b"hello"
        host = f"[{address}]" if ":" in address else address
        assert [session.address for session in world.sessions] == [f"{host}:4711"]


@pytest.mark.parametrize(
    "header", [b"PROXY UNKNOWN\r\n", binary("203.0.113.7", command=0x20), binary("1.2.3.4", more=bytes(400))]
)
def test_what_a_balancer_says_for_itself(header: bytes) -> None:
    """A health check, which has the connection's own address; and what is attached to a header is not looked at."""
    world = echoing()
    with serve(world.app, f"length4&proxy={BALANCER}") as server:
        client = through(server, "length4", header)
        assert client.ask(b"hello").body == b"hello"
        expected = "1.2.3.4:4711" if header.endswith(bytes(400)) else client.address
        assert [session.address for session in world.sessions] == [expected]


@pytest.mark.parametrize("header", [line("203.0.113.7"), binary("203.0.113.7", more=b"\x04\0\x02hi")])
def test_a_header_in_any_pieces(header: bytes) -> None:
    world = echoing()
    with serve(world.app, f"pomelo&proxy={BALANCER}") as server:
        for pieces in ([header[at : at + 1] for at in range(len(header))], [header + package(HANDSHAKE, HELLO)]):
            client = server.connect("pomelo", source=BALANCER, hello=False)
            for piece in pieces:
                client.socket.sendall(piece)
            if len(pieces) > 1:
                client.write(package(HANDSHAKE, HELLO))
            assert client.hear().kind == "handshake"


@pytest.mark.parametrize(
    ("scheme", "reason"), [("tcp", "bad-frame"), ("tls", "bad-tls"), ("ws", "bad-upgrade"), ("wss", "bad-tls")]
)
@pytest.mark.parametrize("header", [line("203.0.113.7"), binary("203.0.113.7")], ids=["line", "binary"])
def test_nobody_else_is_believed(header: bytes, scheme: str, reason: str) -> None:
    """To who is not trusted it is no header, but what the client says: and none that any protocol begins with."""
    world = echoing()
    with serve(world.app, f"pomelo&proxy={BALANCER},10.0.0.0/8", scheme=scheme) as server:
        player = server.connect()
        liar = server.raw(source="127.0.0.3")
        liar.sendall(header)
        assert is_over(liar)
        server.until(server.ends)
        assert (server.ends(), server.wire_errors()) == ({"protocol": 1}, {reason: 1})
        assert player.ask(b"still here").body == b"still here"
        assert [session.address for session in world.sessions] == [player.address]


GARBAGE = {
    "nothing that is one": b"\x01\0\0\x02{}",
    "a request": b"GET / HTTP/1.1\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\0\x01",
    "no such family": b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
    "no address": b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
    "no port": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
    "endless": b"PROXY UNKNOWN " + b"f" * 200,
    "no such version": SIGNATURE + b"\x31\x11\0\x0c" + bytes(12),
    "no such command": SIGNATURE + b"\x22\x11\0\x0c" + bytes(12),
    "too short for its addresses": SIGNATURE + b"\x21\x21\0\x0c" + bytes(12),
    "too long": SIGNATURE + b"\x21\x11\xff\xff" + bytes(64),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_no_header(scheme: str, garbage: bytes) -> None:
    world = echoing()
    with serve(world.app, f"length4&proxy={BALANCER}", scheme=scheme) as server:
        player = through(server, "length4", line("203.0.113.7"))
        assert player.ask(b"here").body == b"here"
        balancer = server.raw("length4", source=BALANCER)
        balancer.sendall(garbage)
        assert is_over(balancer)
        server.until(server.ends)
        assert (server.ends(), server.wire_errors()) == ({"protocol": 1}, {"bad-proxy-header": 1})
        assert player.ask(b"still here").body == b"still here"
        assert server.count("sessions_opened") == 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_slow_header(scheme: str) -> None:
    with serve(echoing().app, f"length4&proxy={BALANCER}", scheme=scheme, limits=Limits(handshake_ms=SHORT)) as server:
        player = server.connect("length4")
        assert player.ask(b"here").body == b"here"
        balancer = server.raw("length4", source=BALANCER)
        drip(balancer, binary("203.0.113.7", more=bytes(500)))
        server.until(server.ends)
        assert server.ends() == {"handshake_timeout": 1}
        assert player.ask(b"still here").body == b"still here"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_connections_are_counted_by_the_clients_address(scheme: str) -> None:
    world = echoing()
    limits = Limits(connections_per_address=2)
    with serve(world.app, f"length4&proxy={BALANCER}", scheme=scheme, limits=limits) as server:
        crowd = [through(server, "length4", line("203.0.113.7")) for _ in range(2)]
        assert [client.ask(b"here").body for client in crowd] == [b"here"] * 2
        third = server.raw("length4", source=BALANCER)
        third.sendall(line("203.0.113.7", 4712))
        assert is_over(third)
        assert server.count("refused_address") == 1
        # The balancer itself is not counted, nor is anybody else behind it.
        others = [through(server, "length4", binary(f"198.51.100.{number}")) for number in range(4)]
        assert [client.ask(b"mine").body for client in others] == [b"mine"] * 4
        crowd[0].close()
        server.until(lambda: server.count("connections") == 5)
        assert through(server, "length4", line("203.0.113.7")).ask(b"at last").body == b"at last"
        assert crowd[1].ask(b"still here").body == b"still here"


def test_the_rate_of_an_address_is_that_of_the_client() -> None:
    """Four at once, and one a second after that."""
    limits = Limits(accepts_per_address=1)
    with serve(echoing().app, f"length4&proxy={BALANCER}", limits=limits) as server:
        for port in range(1, 201):
            through(server, "length4", line("203.0.113.7", port))
        server.until(lambda: sum(server.counts("sessions_opened", "refused_rate").values()) == 200)
        assert 4 <= server.count("sessions_opened") < 100
        assert through(server, "length4", line("203.0.113.8")).ask(b"mine").body == b"mine"

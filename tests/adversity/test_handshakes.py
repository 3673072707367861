"""Bad handshakes (pomelo's): refused as the protocol has it, counted, and no session is opened."""

from __future__ import annotations

import msgspec
import pytest

from photinus.config import Limits
from tests.adversity.clients import Client, Ended
from tests.adversity.codecs import ACK, DATA, HANDSHAKE, HEARTBEAT, HELLO, KICK, Said, name, package, reason_of
from tests.adversity.servers import echoing, serve

pytestmark = pytest.mark.timeout(30)

DATA_OF_A_CLIENT = package(DATA, b"\x02" + name("go") + b"{}")
REFUSED = [
    pytest.param(package(HANDSHAKE, b""), "bad-handshake", id="empty"),
    pytest.param(package(HANDSHAKE, b"not JSON"), "bad-handshake", id="no-json"),
    pytest.param(package(HANDSHAKE, HELLO[:-1]), "bad-handshake", id="cut-json"),
    pytest.param(package(HANDSHAKE, b"[]"), "bad-handshake", id="no-object"),
    pytest.param(package(HANDSHAKE, b"{} {}"), "bad-handshake", id="two-objects"),
    pytest.param(package(HANDSHAKE, b'{"user":"\xff"}'), "bad-handshake", id="no-utf8"),
    pytest.param(package(HANDSHAKE, b'{"user":' + b"[" * 4000), "bad-handshake", id="deep"),
    pytest.param(b"\x01\x00\x20\x01", "too-long", id="one-over-the-limit"),
    pytest.param(b"\x01\xff\xff\xff" + b" " * 50_000, "too-long", id="giant"),
    pytest.param(package(ACK), "bad-handshake", id="acknowledged-first"),
    pytest.param(package(HEARTBEAT), "bad-handshake", id="heartbeat-first"),
    pytest.param(DATA_OF_A_CLIENT, "bad-handshake", id="data-first"),
    pytest.param(package(KICK, b"{}"), "bad-frame", id="kick-first"),
    pytest.param(b"GET / HTTP/1.1\r\n\r\n", "bad-frame", id="http"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "bad-frame", id="tls"),
]


def code_of(said: Said) -> int:
    assert said.kind == "handshake"
    return int(msgspec.json.decode(said.body)["code"])


@pytest.mark.parametrize(("bad", "reason"), REFUSED)
def test_a_refused_handshake(bad: bytes, reason: str) -> None:
    world = echoing()
    with serve(world.app, "pomelo") as server:
        client = server.connect(hello=False)
        client.write(bad)
        assert [code_of(said) for said in client.rest()] == [500]
        server.until(server.ends)
        assert server.ends() == {"protocol": 1}
        assert server.wire_errors() == {reason: 1}
        assert (server.count("sessions_opened"), world.sessions, world.ends) == (0, [], [])
        assert server.connect().ask(b"another").body == b"another"


@pytest.mark.parametrize("bad", [package(HANDSHAKE, HELLO), DATA_OF_A_CLIENT], ids=["again", "data-before-ack"])
def test_out_of_order_before_the_acknowledgement(bad: bytes) -> None:
    with serve(echoing().app, "pomelo") as server:
        client = server.connect(hello=False)
        client.write(package(HANDSHAKE, HELLO) + bad)
        # It was answered, before what cannot come then; there is no word for the end between the two.
        assert [code_of(said) for said in client.rest()] == [200]
        server.until(server.ends)
        assert server.ends() == {"protocol": 1}
        assert server.wire_errors() == {"bad-handshake": 1}
        assert server.count("sessions_opened") == 0


@pytest.mark.parametrize("bad", [package(HANDSHAKE, HELLO), package(ACK)], ids=["handshake", "acknowledgement"])
def test_again_in_an_open_session(bad: bytes) -> None:
    world = echoing()
    with serve(world.app, "pomelo") as server:
        client = server.connect()
        assert client.ask(b"{}").body == b"{}"
        client.write(bad)
        assert [reason_of(said) for said in client.rest()] == ["bad-handshake"]
        server.until(lambda: world.ends)
        assert world.ends == [("protocol", "bad-handshake")]
        assert server.wire_errors() == {"bad-handshake": 1}


@pytest.mark.parametrize("sent", [b"", package(HANDSHAKE, HELLO)[:9], package(HANDSHAKE, HELLO)], ids=len)
def test_a_handshake_that_stops(sent: bytes) -> None:
    world = echoing()
    with serve(world.app, "pomelo", limits=Limits(handshake_ms=50)) as server:
        early = server.connect()
        client = server.connect(hello=False)
        client.write(sent)
        assert [code_of(said) for said in client.rest()] == [200 if sent.endswith(HELLO) else 500]
        server.until(server.ends)
        assert server.ends() == {"handshake_timeout": 1}
        assert server.count("sessions_opened") == 1
        # Who was in time is not bound by it any more.
        assert early.ask(b"still here").body == b"still here"


def test_a_handshake_that_trickles() -> None:
    """Bytes that come are no excuse."""
    with serve(echoing().app, "pomelo", limits=Limits(handshake_ms=50)) as server:
        client = server.connect(hello=False)
        client.write(b"\x01\x00\x20\x00")
        client.socket.settimeout(0.005)
        for _ in range(8000):
            try:
                client.write(b" ")
                client.hear()
            except TimeoutError:
                continue
            except (Ended, ConnectionError):
                pass
            break
        server.until(server.ends)
        assert server.ends() == {"handshake_timeout": 1}


def test_a_client_that_leaves_before_it_has_shaken_hands() -> None:
    world = echoing()
    with serve(world.app, "pomelo") as server:
        for sent in (b"", b"\x01", package(HANDSHAKE, HELLO)):
            client = server.connect(hello=False)
            client.write(sent)
            client.close()
        server.until(lambda: sum(server.ends().values()) == 3)
        # The last may have been gone when its answer was written.
        assert server.ends().keys() <= {"left", "reset"}
        assert (world.sessions, world.ends) == ([], [])


def test_a_handshake_of_single_bytes() -> None:
    with serve(echoing().app, "pomelo") as server:
        client = server.connect(hello=False)
        for sent in (package(HANDSHAKE, HELLO), package(ACK, b" " * 64), package(HEARTBEAT)):
            for at in range(len(sent)):
                client.write(sent[at : at + 1])
        assert code_of(client.hear()) == 200
        assert client.ask(b"{}").body == b"{}"


@pytest.mark.parametrize("body", [b"{}", b"{}" + b" " * 8190, b'{"user":' + b"[" * 63 + b"]" * 63 + b"}"])
def test_strange_handshakes_that_are_none_the_worse(body: bytes) -> None:
    with serve(echoing().app, "pomelo") as server:
        client = server.connect(hello=False)
        # All in one piece, with the first requests behind it.
        requests = b"".join(client.codec.packet(b"%d" % number) for number in range(100))
        client.write(package(HANDSHAKE, body) + package(ACK) + requests)
        assert code_of(client.hear()) == 200
        assert [client.hear().body for _ in range(100)] == [b"%d" % number for number in range(100)]


def test_the_servers_first_word_after_the_handshake_is_a_heartbeat() -> None:
    with serve(echoing().app, "pomelo") as server:
        client: Client = server.connect(hello=False)
        client.write(package(HANDSHAKE, HELLO) + package(ACK))
        assert code_of(client.hear(heartbeats=True)) == 200
        assert client.hear(heartbeats=True).kind == "heartbeat"

"""More clients than there may be, and clients that send more than they may: each is refused, counted and told so
where there is a word for it, and nobody else notices."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from photinus.config import Limits
from tests.adversity import connecting
from tests.adversity.clients import Client
from tests.adversity.codecs import ACK, ALL, HANDSHAKE, HELLO, package, reason_of
from tests.adversity.servers import Server, echoing, serve

pytestmark = pytest.mark.timeout(60)

FLOOD_SECONDS = 2.0
# Fewer than any machine manages in that time, and many times what is let in.
FLOOD = 4_000


def come(server: Server, protocol: str, source: str, *, hello: bool = True) -> Client:
    client = Client(server.address(protocol), hello=hello, source=source)
    server.clients.append(client)
    return client


def is_reset(connect: Callable[[], Client]) -> bool:
    try:
        connect().socket.recv(1)
    except ConnectionResetError:
        return True
    return False


@pytest.mark.parametrize("threads", [0, 3])
def test_an_address_has_so_many_connections_and_others_have_theirs(threads: int) -> None:
    limits = Limits(connections_per_address=3, limit_loopback=True)
    with serve(echoing().app, "length4", limits=limits, threads=threads) as server:
        crowd = [come(server, "length4", "127.0.0.7") for _ in range(3)]
        assert [client.ask(b"here").body for client in crowd] == [b"here"] * 3
        assert is_reset(lambda: come(server, "length4", "127.0.0.7"))
        assert server.counts("refused_address", "sessions_opened") == {"refused_address": 1, "sessions_opened": 3}
        assert come(server, "length4", "127.0.0.8").ask(b"mine").body == b"mine"
        crowd[0].close()
        server.until(lambda: server.count("connections") == 3)
        assert come(server, "length4", "127.0.0.7").ask(b"at last").body == b"at last"
        assert crowd[1].ask(b"still here").body == b"still here"


def test_this_machine_itself_is_not_bounded_unless_asked_for() -> None:
    with serve(echoing().app, "length4", limits=Limits(connections_per_address=1, accepts_per_address=1)) as server:
        crowd = [server.connect("length4") for _ in range(20)]
        assert [client.ask(b"here").body for client in crowd] == [b"here"] * 20


def test_connections_in_total() -> None:
    with serve(echoing().app, "pomelo", limits=Limits(connections=2)) as server:
        first = server.connect()
        silent = server.connect(hello=False)
        server.until(lambda: server.count("connections") == 2)
        assert is_reset(lambda: server.connect(hello=False))
        assert server.count("refused_connections") == 1
        silent.close()
        server.until(lambda: server.count("connections") == 1)
        assert server.connect().ask(b"another").body == b"another"
        assert first.ask(b"still here").body == b"still here"


def test_silent_handshakes_use_up_their_own_room_only() -> None:
    """Those who are in go on, protocols without a handshake take more, and the silent ones lose their places."""
    world = echoing()
    limits = Limits(handshakes=20, handshake_ms=1000)
    with serve(world.app, "pomelo", "photinus", "length4", limits=limits) as server:
        player = server.connect()
        silent = [server.connect("photinus" if number % 2 else "pomelo", hello=False) for number in range(20)]
        for number, client in enumerate(silent):
            client.write(b"\x01"[: number % 3])
        server.until(lambda: server.count("connections") == 21)
        assert is_reset(lambda: server.connect(hello=False))
        assert server.count("refused_handshakes") == 1
        assert server.connect("length4").ask(b"let me in").body == b"let me in"
        assert player.ask(b"still here").body == b"still here"
        server.until(lambda: server.ends() == {"handshake_timeout": 20})
        assert server.connect().ask(b"another").body == b"another"
        assert server.count("sessions_opened") == 3


def test_who_comes_when_all_is_full_is_told() -> None:
    world = echoing()
    with serve(world.app, "pomelo", "photinus", "length4", limits=Limits(sessions=1)) as server:
        slow = server.connect(hello=False)
        slow.write(package(HANDSHAKE, HELLO))
        assert slow.hear().kind == "handshake"
        player = server.connect("length4")
        assert player.ask(b"here").body == b"here"
        (refused,) = server.connect(hello=False).rest()
        assert refused.kind == "handshake"
        assert b'"code":500' in refused.body
        slow.write(package(ACK))
        assert [reason_of(said) for said in slow.rest()] == ["full"]
        assert server.connect("length4").rest() == []
        assert server.count("refused_full") == 3
        assert server.ends() == {}
        player.close()
        server.until(lambda: server.count("sessions") == 0)
        assert server.connect().ask(b"at last").body == b"at last"


def test_ten_thousand_connects_a_second_from_one_address() -> None:
    world = echoing()
    limits = Limits(accepts_per_address=50, connections_per_address=20, limit_loopback=True, session_packets_per_s=0)
    with serve(world.app, "pomelo", limits=limits) as server:
        player = come(server, "pomelo", "127.0.0.2")
        port = urlsplit(server.address("pomelo")).port
        program = [sys.executable, str(Path(connecting.__file__)), str(port), "127.0.0.3", str(FLOOD_SECONDS)]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as flooder:
            server.until(lambda: server.count("refused_rate"))
            answers = 0
            while flooder.poll() is None:
                assert player.ask(b"%d" % answers).body == b"%d" % answers
                answers += 1
            assert flooder.stdout is not None
            connected = int(flooder.stdout.read())
        assert connected > FLOOD
        assert answers > 50
        # All but the few that its address may open in that time were refused without a look at a session.
        server.until(lambda: server.count("accepted") > connected)
        refused = server.counts("refused_rate", "refused_address", "refused_handshakes", "refused_connections")
        let_in = server.count("accepted") - sum(refused.values())
        assert let_in <= 1 + 50 * (4 + 10 * FLOOD_SECONDS)
        assert (server.count("sessions_opened"), len(world.sessions)) == (1, 1)
        assert player.ask(b"still here").body == b"still here"
        server.until(lambda: server.count("connections") == 1)


@pytest.mark.parametrize("protocol", ALL)
def test_a_session_that_sends_too_many_packets(protocol: str) -> None:
    world = echoing()
    # So slow that next to nothing comes back while the test runs: ten at once, and what the protocol says itself.
    with serve(world.app, protocol, limits=Limits(session_packets_per_s=1)) as server:
        other, flooder = server.connect(protocol), server.connect(protocol)
        assert other.ask(b"mine").body == b"mine"
        flooder.write(b"".join(flooder.codec.packet(b"flood") for _ in range(1_000)))
        assert_flooded(server, flooder)
        assert world.heard.count(b"flood") <= 10
        assert other.ask(b"still here").body == b"still here"


@pytest.mark.parametrize("protocol", ALL)
def test_a_session_that_sends_too_many_bytes(protocol: str) -> None:
    world = echoing()
    with serve(world.app, protocol, limits=Limits(session_bytes_per_s=10_000)) as server:
        other, flooder = server.connect(protocol), server.connect(protocol)
        assert other.ask(b"mine").body == b"mine"
        for _ in range(9):
            assert len(flooder.ask(bytes(10_000)).body) == 10_000
        flooder.write(b"".join(flooder.codec.packet(bytes(10_000)) for _ in range(100)))
        assert_flooded(server, flooder)
        server.until(lambda: world.ends == [("protocol", "flood")])
        assert sum(map(len, world.heard)) < 200_000
        assert other.ask(b"still here").body == b"still here"


def assert_flooded(server: Server, flooder: Client) -> None:
    """It was told, where the protocol has a kick, and counted."""
    last = flooder.rest()[-1:]
    if flooder.codec.has_errors:
        assert [reason_of(said) for said in last] == ["flood"]
    server.until(lambda: server.ends() == {"protocol": 1})
    assert server.wire_errors() == {"flood": 1}

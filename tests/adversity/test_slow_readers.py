"""Clients that do not read: they are disconnected, the others notice nothing, and memory stays bounded."""

from __future__ import annotations

import os
import socket
import time

import pytest

from photinus import Group
from photinus.config import Limits
from tests.adversity.clients import DEADLINE
from tests.adversity.codecs import ALL, reason_of
from tests.adversity.doors import SCHEMES
from tests.adversity.servers import echoing, serve

pytestmark = pytest.mark.timeout(30)

WAITING = 64 << 10
# One connection's share of a turn is encoded before it is written.
ENCODED = 64 << 10
NEWS_BYTES = 1000
BATCH = 20


@pytest.mark.parametrize("protocol", ALL)
def test_a_client_that_never_reads(protocol: str) -> None:
    group = Group("crowd")
    world = echoing()
    with serve(world.app, limits=Limits(outbound_session_bytes=WAITING)) as server:
        readers = [server.connect(other) for other in ALL]
        for reader in readers:
            assert reader.ask(b"here").body == b"here"
        deaf = server.connect(protocol, receive_buffer=4096)
        assert deaf.ask(b"here").body == b"here"
        server.call(lambda: [group.add(session) for session in world.sessions])
        session = world.sessions[-1]
        sent = 0
        while not server.count("closed_slow"):
            assert sent < 20_000, "nobody was too slow"
            numbers = range(sent, sent + BATCH)
            news = [b"%d:" % number + bytes(NEWS_BYTES) for number in numbers]
            server.send([group], news)
            for reader in readers:
                assert [reader.hear().body for _ in news] == news
            sent += BATCH
            waiting = server.count("waiting_out_bytes")
            assert waiting <= WAITING + ENCODED + BATCH * (NEWS_BYTES + 200)
        server.until(lambda: world.ends)
        assert world.ends == [("server", "slow")]
        assert server.ends() == {"slow": 1}
        assert (session.closed, len(group)) == (True, len(readers))
        server.until(
            lambda: server.counts("sessions", "waiting_out_bytes") == {"sessions": len(readers), "waiting_out_bytes": 0}
        )
        session.send(1, b"into the void")
        assert server.node.statistics()["loop"]["dropped_closed"] == 1
        assert [reader.ask(b"still here").body for reader in readers] == [b"still here"] * len(readers)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_byte_a_second_while_broadcasts_run(scheme: str) -> None:
    """It reads, and is too slow all the same; what waits for it stays bounded, and the others are told everything."""
    group = Group("crowd")
    world = echoing()
    with serve(world.app, "photinus", scheme=scheme, limits=Limits(outbound_session_bytes=WAITING)) as server:
        readers = [server.connect("photinus") for _ in range(3)]
        slow = server.connect("photinus", receive_buffer=4096)
        for client in (*readers, slow):
            assert client.ask(b"here").body == b"here"
        server.call(lambda: [group.add(session) for session in world.sessions])
        bare = socket.socket(fileno=os.dup(slow.socket.fileno()))
        with bare:
            bare.settimeout(DEADLINE)
            read_at = sent = 0
            began = time.monotonic()
            while not server.count("closed_slow"):
                assert sent < 20_000, "nobody was too slow"
                news = [b"%d:" % number + bytes(NEWS_BYTES) for number in range(sent, sent + BATCH)]
                server.send([group], news)
                for reader in readers:
                    assert [reader.hear().body for _ in news] == news
                sent += BATCH
                if time.monotonic() > began + read_at:
                    assert len(bare.recv(1)) == 1
                    read_at += 1
                assert server.count("waiting_out_bytes") <= WAITING + ENCODED + BATCH * (NEWS_BYTES + 200)
        server.until(lambda: world.ends == [("server", "slow")])
        assert server.ends() == {"slow": 1}
        assert [reader.ask(b"still here").body for reader in readers] == [b"still here"] * len(readers)


@pytest.mark.parametrize("protocol", ALL)
def test_a_slow_client_is_not_a_deaf_one(protocol: str) -> None:
    """What waits for it arrives, whole and in order, when it begins to read."""
    world = echoing()
    with serve(world.app, protocol, limits=Limits(outbound_session_bytes=32 << 20)) as server:
        slow = server.connect(protocol, receive_buffer=4096)
        assert slow.ask(b"here").body == b"here"
        session = world.sessions[0]
        count = 0
        while not server.count("waiting_out_bytes"):
            server.send([session], [b"%d:" % number + bytes(10_000) for number in range(count, count + 50)])
            count += 50
        for number in range(count):
            assert slow.hear().body == b"%d:" % number + bytes(10_000)
        assert server.ends() == {}
        server.until(lambda: server.count("waiting_out_bytes") == 0)


@pytest.mark.parametrize("protocol", ALL)
def test_a_kick_arrives_behind_what_waits(protocol: str) -> None:
    world = echoing()
    with serve(world.app, protocol) as server:
        client, other = server.connect(protocol), server.connect(protocol)
        assert client.ask(b"here").body == b"here"
        assert other.ask(b"here").body == b"here"
        session = world.sessions[0]
        server.send([session], [b"%d" % number for number in range(100)])
        session.kick("cheating")
        assert session.closed
        said = client.rest()
        assert [one.body for one in said[:100]] == [b"%d" % number for number in range(100)]
        assert [reason_of(one) for one in said[100:]] == ["cheating"] * client.codec.has_errors
        server.until(lambda: world.ends)
        assert world.ends == [("server", "cheating")]
        assert server.ends() == {"kicked": 1}
        assert other.ask(b"still here").body == b"still here"


@pytest.mark.parametrize("protocol", ALL)
def test_a_kicked_client_that_does_not_read_is_not_waited_for(protocol: str) -> None:
    world = echoing()
    limits = Limits(linger_ms=50, outbound_session_bytes=32 << 20)
    with serve(world.app, protocol, limits=limits) as server:
        deaf = server.connect(protocol, receive_buffer=4096)
        assert deaf.ask(b"here").body == b"here"
        session = world.sessions[0]
        while not server.count("waiting_out_bytes"):
            server.send([session], [bytes(10_000)] * 50)
        session.kick("enough")
        server.until(lambda: server.count("connections") == 0)
        server.until(lambda: world.ends)
        assert world.ends == [("server", "enough")]
        assert server.ends() == {"kicked": 1}


def test_a_kicked_client_that_goes_on_talking_is_not_listened_to() -> None:
    world = echoing()
    with serve(world.app, "length4", limits=Limits(linger_ms=50)) as server:
        client = server.connect("length4")
        assert client.ask(b"here").body == b"here"
        world.sessions[0].kick()
        server.until(lambda: world.ends)
        with pytest.raises(ConnectionError):
            # Until the server has closed: it lingers, so that what was written before arrives.
            while True:
                client.say(b"and another thing")
        assert world.heard == [b"here"]

"""The same protocols through every door: TCP, TLS, WebSocket, and both."""

from __future__ import annotations

import pytest

from photinus import Group
from tests.adversity.codecs import ALL, reason_of
from tests.adversity.doors import SCHEMES
from tests.adversity.servers import echoing, serve

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("protocol", ALL)
def test_an_echo(protocol: str, scheme: str, threads: int) -> None:
    with serve(echoing().app, protocol, scheme=scheme, threads=threads) as server:
        clients = [server.connect(protocol) for _ in range(3)]
        for size in (0, 1, 125, 126, 4000, 65535):
            body = bytes(range(256)) * (size // 256 + 1)
            for client in clients:
                assert client.ask(body[:size]).body == body[:size]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("protocol", ALL)
def test_many_packets_in_one_piece_and_in_small_ones(protocol: str, scheme: str) -> None:
    with serve(echoing().app, protocol, scheme=scheme) as server:
        client = server.connect(protocol)
        bodies = [f"number {number}".encode() * (number % 50 + 1) for number in range(300)]
        frames = b"".join(client.codec.packet(body) for body in bodies)
        for piece in (len(frames), 977, 100):
            for at in range(0, len(frames), piece):
                client.write(frames[at : at + piece])
            assert [client.hear().body for _ in bodies] == bodies


@pytest.mark.parametrize("protocol", ALL)
def test_deflated_both_ways(protocol: str) -> None:
    with serve(echoing().app, f"{protocol}&deflate=1", scheme="ws") as server:
        clients = [server.connect(protocol) for _ in range(2)]
        for size in (0, 1, 127, 128, 4000, 65535):
            body = b"all work and no play " * (size // 20 + 1)
            for client in clients:
                assert client.ask(body[:size]).body == body[:size]
        sent = server.counts("bytes_in", "bytes_out")
        assert max(sent.values()) < 60_000


@pytest.mark.parametrize("scheme", SCHEMES)
def test_broadcasts_and_a_kick(scheme: str) -> None:
    world = echoing()
    with serve(world.app, scheme=scheme) as server:
        clients = [server.connect(protocol) for protocol in (*ALL, *ALL)]
        for client in clients:
            client.ask(b"here")
        group = Group("all")
        server.call(lambda: [group.add(session) for session in world.sessions])
        news = [f"news {number}".encode() * 30 for number in range(20)]
        server.send([group], news)
        for client in clients:
            assert [client.hear().body for _ in news] == news

        def end_all() -> None:
            for session in world.sessions:
                session.kick("enough")

        server.call(end_all)
        for client in clients:
            assert [reason_of(said) for said in client.rest()] == ["enough"] * client.codec.has_errors
        server.until(lambda: len(world.ends) == len(clients))
        assert set(world.ends) == {("server", "enough")}

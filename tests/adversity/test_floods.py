"""Clients that send more than they may: it costs them their answers, and nobody else anything."""

from __future__ import annotations

import msgspec
import pytest

from photinus import Rate, Session
from photinus.config import Limits
from tests.adversity.codecs import ALL, Firefly, Pomelo
from tests.adversity.servers import LOOPS, World, serve

pytestmark = pytest.mark.timeout(60)

FLOOD = 20_000
# What a route allows is looked at here, not what a session may send at all.
ANY = Limits(session_packets_per_s=0)
# So slow that no token comes back while a test runs.
RATE = Rate(1, per=3600, burst=3)


def town() -> World:
    world = World()

    def heard(session: Session, body: bytes) -> bytes:
        world.heard.append(body)
        return body

    def free(session: Session, body: bytes) -> bytes:
        return body

    world.routes.on("go", public=True, rate=RATE)(heard)
    world.routes.on(1, public=True, rate=RATE)(heard)
    world.routes.default(rate=RATE)(heard)
    world.routes.on("free", public=True)(free)
    world.routes.on(2, public=True)(free)
    return world


@pytest.mark.parametrize("loop", LOOPS)
def test_a_flood_of_notifies_is_dropped(loop: str) -> None:
    world = town()
    with serve(world.app, "pomelo", limits=ANY, loop=loop) as server:
        flooder, other = server.connect(), server.connect()
        assert isinstance(flooder.codec, Pomelo)
        flooder.write(flooder.codec.notify(b"flood", "go") * FLOOD)
        # Its own next request, which another route answers, comes behind the flood and gets through.
        assert flooder.ask(b"still here", "free").body == b"still here"
        assert world.heard == [b"flood"] * 3
        assert other.ask(b"mine", "go").body == b"mine"
        statistics = server.node.statistics()
        assert statistics["loop"]["too_fast"] == FLOOD - 3
        assert (statistics["app"]["refused"], statistics["app"]["handler_errors"]) == (0, 0)
        assert server.count("sessions") == 2


def test_a_flood_of_requests_is_answered_with_refusals() -> None:
    world = town()
    limits = Limits(session_packets_per_s=0, outbound_session_bytes=64 << 20)
    with serve(world.app, "pomelo", limits=limits) as server:
        flooder = server.connect()
        flooder.write(b"".join(flooder.codec.packet(b"flood", "go") for _ in range(FLOOD)))
        said = [flooder.hear() for _ in range(FLOOD)]
        # One answer each, in their order.
        assert [one.number for one in said] == list(range(1, FLOOD + 1))
        assert [one.kind for one in said] == ["response"] * 3 + ["error"] * (FLOOD - 3)
        told = msgspec.json.decode(said[-1].body)
        assert told["code"] == "too-fast"
        assert 3000 < told["retry_after"] <= 3600
        statistics = server.node.statistics()
        assert statistics["loop"]["too_fast"] == statistics["app"]["refused"] == FLOOD - 3


@pytest.mark.parametrize("protocol", sorted(set(ALL) - {"pomelo"}))
def test_a_flood_where_nothing_can_be_answered(protocol: str) -> None:
    world = town()
    with serve(world.app, protocol, limits=ANY) as server:
        flooder, other = server.connect(protocol), server.connect(protocol)
        flooder.write(b"".join(flooder.codec.packet(b"flood") for _ in range(FLOOD)))
        server.until(lambda: server.node.statistics()["loop"]["handled"] >= FLOOD)
        assert [flooder.hear().body for _ in range(3)] == [b"flood"] * 3
        assert other.ask(b"mine").body == b"mine"
        if isinstance(flooder.codec, Firefly):
            flooder.write(flooder.codec.packet(b"free", command=2))
            assert flooder.hear().body == b"free"
        assert server.node.statistics()["loop"]["too_fast"] == FLOOD - 3
        assert world.heard == [b"flood"] * 3 + [b"mine"]


def test_to_come_back_is_to_begin_anew_and_leaves_nothing_behind() -> None:
    world = town()
    with serve(world.app, "pomelo") as server:
        for _ in range(30):
            client = server.connect()
            kinds = [client.ask(b"x", "go").kind for _ in range(5)]
            assert kinds == ["response"] * 3 + ["error"] * 2
            client.close()
        server.until(lambda: server.count("sessions") == 0)

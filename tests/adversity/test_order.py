"""Handlers that wait: their session's packets wait behind them, in order and bounded, and nobody else's."""

from __future__ import annotations

import asyncio
import socket

import pytest

from photinus import App, Closed, Routes, Session
from photinus.config import Limits
from tests.adversity.clients import Client
from tests.adversity.codecs import ALL
from tests.adversity.servers import LOOPS, World, serve, serving

pytestmark = pytest.mark.timeout(30)

INBOX = 16 << 10
BODY = 1000
# One read may take a session past its budget; this is what it brings, with what each packet costs beside its payload.
READ = (64 << 10) * 2


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("protocol", ALL)
def test_pipelined_packets_of_one_session_are_handled_one_at_a_time(protocol: str, loop: str) -> None:
    running: dict[int, int] = {}
    most: list[int] = []

    async def slowly(session: Session, body: bytes) -> bytes:
        running[session.id] = running.get(session.id, 0) + 1
        most.append(running[session.id])
        for _ in range(int(body) % 4):
            await asyncio.sleep(0)
        running[session.id] -= 1
        return body

    with serve(serving(slowly).app, protocol, loop=loop) as server:
        clients = [server.connect(protocol) for _ in range(3)]
        bodies = [b"%d" % number for number in range(300)]
        for client in clients:
            client.write(b"".join(map(client.codec.packet, bodies)))
        for client in clients:
            assert [client.hear().body for _ in bodies] == bodies
        assert set(most) == {1}
        statistics = server.node.statistics()
        assert statistics["loop"]["handled"] == 900
        assert statistics["loop"]["suspended"] == 675
        assert statistics["queues"]["mailboxes"] == 0


class Gate:
    """Handlers wait until the test opens it."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.heard: list[bytes] = []
        self.world = serving(self.handle)

    async def handle(self, session: Session, body: bytes) -> bytes:
        self.heard.append(body)
        if body.startswith(b"0:"):
            await self.open.wait()
        return body[:8]


def flood(client: Client, number: int) -> tuple[int, bytes]:
    """Sends until TCP has had enough: the next number, and what is left of the packet that was cut."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 << 10)
    # Long enough for a busy machine: whoever reads at all reads within it.
    client.socket.settimeout(0.3)
    while True:
        packet = client.codec.packet(b"%d:" % number + bytes(BODY))
        number += 1
        while packet:
            try:
                packet = packet[client.socket.send(packet) :]
            except TimeoutError:
                client.socket.settimeout(20)
                return number, packet


@pytest.mark.parametrize("protocol", ALL)
def test_a_flood_at_a_suspended_handler_is_stopped_by_tcp(protocol: str) -> None:
    gate = Gate()
    with serve(gate.world.app, protocol, limits=Limits(inbound_session_bytes=INBOX)) as server:
        other = server.connect(protocol)
        client = server.connect(protocol)
        count, rest = flood(client, 0)
        counts = server.counts("paused_session", "paused_now", "unhandled_bytes")
        assert counts["paused_session"] > 0
        assert counts["paused_now"] == 1
        # From half of it on it would be read again.
        assert INBOX // 2 < counts["unhandled_bytes"] <= INBOX + READ
        assert 0 < server.node.statistics()["queues"]["mailboxes"] <= (INBOX + READ) // BODY
        assert len(gate.heard) == 1
        # Nobody else has to wait.
        assert other.ask(b"I am not late").body == b"I am not"
        server.call(gate.open.set)
        client.write(rest)
        answers = [client.hear().body for _ in range(count)]
        assert [int(body.split(b":")[0]) for body in answers] == list(range(count))
        assert server.node.statistics()["queues"]["mailboxes"] == 0
        server.until(lambda: server.count("paused_now") == 0)


def test_a_session_that_ends_while_its_handler_waits() -> None:
    """What it sent is handled all the same, in order, and its end comes last."""
    gate = Gate()
    with serve(gate.world.app, "length4") as server:
        client = server.connect("length4")
        for number in range(10):
            client.say(b"%d:" % number)
        server.until(lambda: server.node.statistics()["queues"]["mailboxes"] == 9)
        client.close()
        server.until(lambda: gate.world.sessions[0].closed)
        assert (gate.heard, gate.world.ends) == ([b"0:"], [])
        server.call(gate.open.set)
        server.until(lambda: gate.world.ends)
        assert gate.heard == [b"%d:" % number for number in range(10)]
        assert gate.world.ends == [("client", "left")]


def test_the_whole_inbox_is_bounded() -> None:
    """A loop that is stuck, and more clients than there is room for."""
    heard: dict[str, list[int]] = {}

    def handle(session: Session, body: bytes) -> bytes:
        heard.setdefault(session.address, []).append(int(body[:8]))
        return body[:8]

    limits = Limits(inbound_total_bytes=256 << 10, inbound_session_bytes=128 << 10)
    with serve(serving(handle).app, "length4", limits=limits) as server:
        clients = [server.connect("length4") for _ in range(8)]
        count = 100
        with server.stuck():
            for client in clients:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                bodies = [b"%08d" % number + bytes(BODY) for number in range(count)]
                client.write(b"".join(map(client.codec.packet, bodies)))
            server.until(lambda: server.count("paused_total") > 0)
            counts = server.counts("unhandled_bytes", "paused_now")
            assert counts["unhandled_bytes"] <= (256 << 10) + READ
            # However often more has come: each waits once.
            assert counts["paused_now"] <= len(clients)
        for client in clients:
            assert [int(client.hear().body) for _ in range(count)] == list(range(count))
        assert len(heard) == len(clients)
        assert all(numbers == list(range(count)) for numbers in heard.values())
        assert server.ends() == {}


def test_opened_and_closed_that_wait_keep_the_order_too() -> None:
    routes, story = Routes(), list[str]()
    ready = asyncio.Event()

    @routes.opened
    async def opened(session: Session) -> None:
        story.append("opening")
        await ready.wait()
        story.append("opened")

    @routes.default
    async def handle(session: Session, body: bytes) -> None:
        story.append(body.decode())
        await asyncio.sleep(0)
        story.append(body.decode().upper())

    @routes.closed
    async def closed(session: Session, reason: Closed) -> None:
        story.append(reason.reason)
        await asyncio.sleep(0)
        story.append("gone")

    with serve(App("world", routes=[routes]), "length4") as server:
        client = server.connect("length4")
        client.say(b"a")
        client.say(b"b")
        client.close()
        server.until(lambda: server.node.statistics()["loop"]["parked"] >= 3)
        assert story == ["opening"]
        server.call(ready.set)
        server.until(lambda: "gone" in story)
        assert story == ["opening", "opened", "a", "A", "b", "B", "left", "gone"]


def test_a_slow_handler_delays_nobody_else() -> None:
    world = World()
    done: list[bytes] = []

    async def think(session: Session, body: bytes) -> bytes:
        if body == b"slow":
            await asyncio.sleep(3600)
        done.append(body)
        return body

    world.routes.default(think)
    with serve(world.app, "length4") as server:
        slow, quick = server.connect("length4"), server.connect("length4")
        slow.say(b"slow")
        slow.say(b"behind it")
        for number in range(100):
            assert quick.ask(b"%d" % number).body == b"%d" % number
        assert b"behind it" not in done
        server.call(lambda: [task.cancel() for task in server.node.engine.suspended()])
        assert slow.hear().body == b"behind it"

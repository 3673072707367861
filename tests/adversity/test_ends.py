"""The end of a node and of its sessions: hooks that fail, what waits is delivered, and everybody is told."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from photinus import App, Closed, Routes, Session
from photinus.config import Limits
from tests.adversity.clients import Client
from tests.adversity.codecs import ALL, reason_of
from tests.adversity.servers import LOOPS, Server, echoing, serve

pytestmark = pytest.mark.timeout(30)


def refuses_connections(server: Server) -> bool:
    try:
        Client(server.address("length4")).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("threads", [0, 1, 3])
def test_a_graceful_stop_delivers_what_waits_and_says_why(threads: int, loop: str) -> None:
    world = echoing()
    # The last of them is read after all others: that must not be too late.
    limits = Limits(outbound_session_bytes=32 << 20, linger_ms=20_000)
    with serve(world.app, threads=threads, loop=loop, limits=limits) as server:
        clients = [server.connect(protocol, receive_buffer=32 << 10) for protocol in ALL]
        for client in clients:
            assert client.ask(b"here").body == b"here"
        # More than sockets take: it waits in the server.
        news = [b"%d:" % number + bytes(10_000) for number in range(300)]
        server.send(world.sessions, news)
        server.stop()
        for client in clients:
            said = client.rest()
            assert [one.body for one in said[: len(news)]] == news
            assert [reason_of(one) for one in said[len(news) :]] == ["shutdown"] * client.codec.has_errors
            client.close()
        server.until(lambda: len(world.ends) == len(ALL))
        assert world.ends == [("server", "shutdown")] * len(ALL)
        assert server.ends() == {"shutdown": len(ALL)}


def test_a_stop_takes_no_more_clients_and_waits_for_handlers() -> None:
    routes, story = Routes(), list[str]()
    go_on = asyncio.Event()

    @routes.default
    async def think(session: Session, body: bytes) -> bytes:
        story.append("thinking")
        await go_on.wait()
        story.append("thought")
        return body

    @routes.closed
    async def closed(session: Session, reason: Closed) -> None:
        await asyncio.sleep(0)
        story.append(reason.reason)

    with serve(App("world", routes=[routes]), "length4") as server:
        client = server.connect("length4")
        client.say(b"think")
        server.until(lambda: story)
        server.stop()
        assert client.rest() == []
        client.close()
        server.until(lambda: refuses_connections(server))
        assert story == ["thinking"]
        server.loop.call_soon_threadsafe(go_on.set)
        server.until(lambda: "shutdown" in story)
    assert story == ["thinking", "thought", "shutdown"]


def test_a_stop_does_not_wait_long_for_clients_that_do_not_read() -> None:
    world = echoing()
    limits = Limits(linger_ms=50, outbound_session_bytes=32 << 20)
    with serve(world.app, limits=limits) as server:
        for protocol in ALL:
            assert server.connect(protocol, receive_buffer=4096).ask(b"here").body == b"here"
        server.send(world.sessions, [bytes(10_000)] * 300)
        # Neither these, nor one that has not even begun.
        server.connect(hello=False)
        server.stop()
        server.until(lambda: server.count("connections") == 0)
        server.until(lambda: len(world.ends) == len(ALL))
        assert world.ends == [("server", "shutdown")] * len(ALL)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_stop_that_is_cut_short_leaves_nothing_running(loop: str) -> None:
    routes = Routes()
    waiting = 0

    @routes.default
    async def stubborn(session: Session, body: bytes) -> None:
        nonlocal waiting
        waiting += 1
        await asyncio.sleep(3600)

    with serve(App("world", routes=[routes]), "length4", loop=loop) as server:
        client, other = server.connect("length4"), server.connect("length4")
        client.write(client.codec.packet(b"one") + client.codec.packet(b"two"))
        server.until(lambda: server.node.statistics()["queues"]["mailboxes"] == 1)
        asyncio.run_coroutine_threadsafe(server.node.stop(timeout=0.01), server.loop).result(20)
        assert client.rest() == other.rest() == []
        assert server.count("connections") == 0

        async def turns_of_an_idle_loop() -> int:
            before = server.node.statistics()["loop"]["turns"]
            for _ in range(20):
                await asyncio.sleep(0.001)
            return int(server.node.statistics()["loop"]["turns"] - before)

        # One of its own a sleep, and another for good measure: what was left unhandled makes none.
        assert asyncio.run_coroutine_threadsafe(turns_of_an_idle_loop(), server.loop).result(20) < 100


def test_hooks_that_fail(failures: list[logging.LogRecord]) -> None:
    """They are logged; sessions open and end as if they had not."""
    routes = Routes()

    @routes.opened
    def opened(session: Session) -> None:
        raise LookupError("no such hero")

    @routes.closed
    async def closed(session: Session, reason: Closed) -> None:
        await asyncio.sleep(0)
        raise OSError("no such disk")

    @routes.on("go", public=True)
    @routes.default
    def echo(session: Session, body: bytes) -> bytes:
        return body

    with serve(App("world", routes=[routes])) as server:
        for protocol in ALL:
            client = server.connect(protocol)
            assert client.ask(b"here").body == b"here"
            client.close()
        server.until(lambda: len(failures) == 2 * len(ALL))
        # Nothing of them is kept.
        server.until(lambda: server.node.engine.sessions() == [])
        assert server.node.statistics()["app"]["handler_errors"] == 2 * len(ALL)
        kinds = {record.exc_info[0] for record in failures if record.exc_info}
        assert kinds == {LookupError, OSError}


def test_two_routes_with_hooks_of_which_one_fails(failures: list[logging.LogRecord]) -> None:
    bad, good, ends = Routes(), Routes(), list[str]()

    @bad.opened
    def fails(session: Session) -> None:
        raise LookupError

    @bad.closed
    def fails_too(session: Session, reason: Closed) -> None:
        raise LookupError

    @good.opened
    def opened(session: Session) -> None:
        ends.append("opened")

    @good.closed
    async def closed(session: Session, reason: Closed) -> None:
        await asyncio.sleep(0)
        ends.append(reason.reason)

    with serve(App("world", routes=[bad, good]), "length4") as server:
        client = server.connect("length4")
        server.until(lambda: ends == ["opened"])
        client.close()
        server.until(lambda: ends == ["opened", "left"])
        server.until(lambda: len(failures) == 2)


@pytest.mark.parametrize("loop", LOOPS)
def test_ipv6(loop: str) -> None:
    if not _has_ipv6():
        pytest.skip("this machine has no IPv6 on loopback")
    world = echoing()
    with serve(world.app, host="[::1]", loop=loop) as server:
        for protocol in ALL:
            client = server.connect(protocol)
            assert client.ask(b"hello").body == b"hello"
            assert world.sessions[-1].address == client.address
            assert client.address.startswith("[::1]:")


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True

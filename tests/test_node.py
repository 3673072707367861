"""A node on sockets, under each kind of event loop."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable

import pytest
import uvloop
from msgspec import Struct

from photinus import App, Closed, Group, Node, Rate, Refused, Routes, Session
from photinus.client import Client, connect
from photinus.config import Config, EngineSection, Limits, NodeSection
from photinus.errors import ConfigError, Kicked
from photinus.node import run, threads_for

LOOPBACK = "tcp://127.0.0.1:0?protocol=pomelo"


class Text(Struct):
    text: str


class Count(Struct):
    number: int


lobby = Group("lobby")


def game(ends: list[str] | None = None) -> App:
    routes = Routes()

    @routes.on("echo", public=True)
    def echo(session: Session, body: bytes) -> bytes:
        return body

    @routes.on("later", public=True)
    async def later(session: Session, msg: Text) -> Text:
        await asyncio.sleep(0.05)
        return msg

    @routes.on("join", public=True)
    def join(session: Session, msg: Text) -> None:
        lobby.add(session)

    @routes.closed
    async def closed(session: Session, reason: Closed) -> None:
        await asyncio.sleep(0)
        if ends is not None:
            ends.append(reason.reason)

    return App("game", routes=[routes])


def on_our_own(main: Callable[[Node], Awaitable[None]], app: App, listen: list[str]) -> None:
    async def body(node: Node) -> None:
        await main(node)

    run(app, body, listen=listen)


def on_asyncio(main: Callable[[Node], Awaitable[None]], app: App, listen: list[str]) -> None:
    async def body() -> None:
        async with Node(app, listen=listen) as node:
            await main(node)

    asyncio.run(body())


def on_uvloop(main: Callable[[Node], Awaitable[None]], app: App, listen: list[str]) -> None:
    async def body() -> None:
        async with Node(app, listen=listen) as node:
            await main(node)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(body())


LOOPS = pytest.mark.parametrize("on_loop", [on_our_own, on_asyncio, on_uvloop])
Loop = Callable[[Callable[[Node], Awaitable[None]], App, list[str]], None]


@LOOPS
def test_requests_and_pushes(on_loop: Loop) -> None:
    async def main(node: Node) -> None:
        async with connect(node.addresses[0]) as ann, connect(node.addresses[0]) as bob:
            assert await ann.request("echo", b"{}") == b"{}"
            assert await bob.request("later", Text("x"), Text) == Text("x")
            said = bob.subscribe("said", Text)
            await bob.request("join", Text(""))
            # From a task of no handler, as a timer would.
            lobby.send("said", Text("from the node"))
            assert await anext(said) == Text("from the node")
            # And from a thread.
            thread = threading.Thread(target=lobby.send, args=("said", Text("from a thread")))
            thread.start()
            assert await anext(said) == Text("from a thread")
            thread.join()

    on_loop(main, game(), [LOOPBACK])


@LOOPS
def test_a_graceful_stop(on_loop: Loop) -> None:
    ends: list[str] = []
    reasons: list[str] = []

    async def client(address: str, ready: asyncio.Event) -> None:
        async with connect(address) as c:
            await c.request("echo", b"{}")
            ready.set()
            try:
                async for _ in c.subscribe("said"):
                    pass
            except Kicked as kicked:
                reasons.append(kicked.reason)

    async def main(node: Node) -> None:
        ready = [asyncio.Event() for _ in range(3)]
        clients = [asyncio.create_task(client(node.addresses[0], event)) for event in ready]
        for event in ready:
            await event.wait()
        await node.stop()
        await asyncio.gather(*clients)
        assert ends == ["shutdown"] * 3
        assert reasons == ["shutdown"] * 3
        host, port = node.addresses[0].removeprefix("tcp://").partition("?")[0].split(":")
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((host, int(port)))

    on_loop(main, game(ends), [LOOPBACK])


@LOOPS
def test_timers_and_tasks(on_loop: Loop) -> None:
    app = game()
    beats = asyncio.Semaphore(0)
    app.every(0.01, beats.release)

    async def main(node: Node) -> None:
        for _ in range(3):
            await beats.acquire()
        assert node.statistics()["app"]["tasks"]["running"] == 1

    on_loop(main, app, [])


async def test_addresses_are_those_really_bound() -> None:
    listen = [LOOPBACK, "tcp://[::1]:0?protocol=length4"]
    async with Node(game(), listen=listen) as node:
        first, second = node.addresses
        assert first.startswith("tcp://127.0.0.1:")
        assert second.startswith("tcp://[::1]:")
        assert ":0?" not in first + second
        port = int(second.partition("?")[0].rpartition(":")[2])
        with socket.create_connection(("::1", port)):
            pass


async def test_a_name_and_the_configuration_s_listeners() -> None:
    config = Config(node=NodeSection(name="north", listen=(LOOPBACK,)), engine=EngineSection(threads=2))
    async with Node(game(), config=config) as node:
        assert node.name == "north"
        assert len(node.addresses) == 1
        async with connect(node.addresses[0]) as c:
            assert await c.request("echo", b"1") == b"1"
    async with Node(game()) as node:
        assert (node.name, node.addresses) == ("game", ())


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("tcp://127.0.0.1:0?protocol=smoke", "smoke"),
        ("http://127.0.0.1:0", "http"),
        ("tcp://127.0.0.1:0?protocol=pomelo&size=2", "size"),
        ("127.0.0.1:0", "127.0.0.1:0"),
    ],
)
async def test_a_wrong_listener(url: str, problem: str) -> None:
    with pytest.raises(ConfigError, match="listener ") as raised:
        async with Node(game(), listen=[url]):
            pass
    assert problem in str(raised.value)


async def test_an_address_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}?protocol=pomelo"
        with pytest.raises(OSError, match="in use") as raised:
            async with Node(game(), listen=[url]):
                pass
        assert raised.value.errno == errno.EADDRINUSE
        assert raised.value.filename == url


async def test_a_wrong_limit() -> None:
    with pytest.raises(ConfigError, match=r"\[limits\] .*max_payload"):
        Node(game(), config=Config(limits=Limits(max_payload=1)))


async def test_a_limit_holds() -> None:
    config = Config(limits=Limits(max_payload=1024))
    async with Node(game(), listen=[LOOPBACK], config=config) as node, connect(node.addresses[0]) as c:
        body = b"x" * 1000
        assert await c.request("echo", body) == body
        with pytest.raises((Kicked, ConnectionError)):
            await c.request("echo", b"x" * 2000)


async def test_two_nodes_run_the_same_app() -> None:
    app = game()
    async with (
        Node(app, listen=[LOOPBACK]) as one,
        Node(app, listen=[LOOPBACK]) as two,
        connect(one.addresses[0]) as ann,
        connect(two.addresses[0]) as bob,
    ):
        said = bob.subscribe("said", Text)
        await ann.request("join", Text(""))
        await bob.request("join", Text(""))
        assert one.scope.call(lambda: len(lobby)) == 1
        two.scope.call(lambda: lobby.send("said", Text("two")))
        assert await anext(said) == Text("two")


async def test_statistics() -> None:
    async with Node(game(), listen=[LOOPBACK]) as node, connect(node.addresses[0]) as c:
        await c.request("echo", b"{}")
        with pytest.raises(Refused):
            await c.request("nowhere", b"{}")
        seen = node.statistics()
        assert seen["engine"]["sessions"] == 1
        assert seen["engine"]["packets_in"] == 2
        assert seen["app"]["refused"] == 1
        assert seen["stages"]["handler"]["count"] >= 1
        assert set(seen["stages"]["handler"]) == {"count", "p50_us", "p99_us", "max_us"}


async def test_what_a_client_is_told_of_a_refusal() -> None:
    routes = Routes()

    @routes.on("buy", public=True)
    def buy(session: Session, msg: Count) -> None:
        raise Refused("too-poor", msg="You cannot pay for this.", missing=msg.number, wares=["sword"])

    @routes.on("chat", public=True, rate=Rate(1, per=60))
    @routes.on("ban", roles="gm")
    def act(session: Session, msg: Text) -> None: ...

    @routes.on("login", public=True)
    async def login(session: Session, msg: Text) -> None:
        await session.login(msg.text)

    async def refusal(c: Client, route: str, message: Struct) -> tuple[str, dict[str, object]]:
        with pytest.raises(Refused) as raised:
            await c.request(route, message)
        return raised.value.code, raised.value.fields

    async with Node(App("shop", routes=[routes]), listen=[LOOPBACK]) as node, connect(node.addresses[0]) as c:
        fields = {"msg": "You cannot pay for this.", "missing": 3, "wares": ["sword"]}
        assert await refusal(c, "buy", Count(3)) == ("too-poor", fields)
        assert await refusal(c, "nowhere", Count(3)) == ("unknown-route", {})
        assert await refusal(c, "ban", Text("bob")) == ("login-required", {})
        await c.request("login", Text("ann"))
        assert await refusal(c, "ban", Text("bob")) == ("forbidden", {})
        code, told = await refusal(c, "chat", Count(3))
        assert (code, set(told)) == ("bad-message", {"msg"})
        code, told = await refusal(c, "chat", Text("hi"))
        assert (code, set(told)) == ("too-fast", {"retry_after"})
        assert isinstance(told["retry_after"], float)
        assert 0 < told["retry_after"] <= 60


@LOOPS
def test_a_stop_that_runs_out_of_time_cancels_handlers_and_still_says_goodbye(on_loop: Loop) -> None:
    story: list[str] = []
    begun = asyncio.Event()
    routes = Routes()

    @routes.default
    async def think(session: Session, body: bytes) -> None:
        story.append(f"{body!r} begun")
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            # To clean up may take a moment, undisturbed.
            await asyncio.sleep(0.02)
            story.append(f"{body!r} cancelled")

    @routes.closed
    async def closed(session: Session, reason: Closed) -> None:
        await asyncio.sleep(0.02)
        story.append(reason.reason)

    async def main(node: Node) -> None:
        port = int(node.addresses[0].rpartition(":")[2].partition("?")[0])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x00\x01a\x00\x01b")
        await begun.wait()
        await node.stop(timeout=0.05)
        writer.close()

    on_loop(main, App("game", routes=[routes]), ["tcp://127.0.0.1:0?protocol=length2"])
    assert story == ["b'a' begun", "b'a' cancelled", "b'b' begun", "b'b' cancelled", "shutdown"]


def test_a_proxy_has_a_thread_for_each_core_but_one() -> None:
    cores = len(os.sched_getaffinity(0))
    proxy = Config(node=NodeSection(roles=("proxy",)))
    assert threads_for(proxy) == max(1, min(cores - 1, 16))
    assert threads_for(Config()) == (0 if sys.platform == "linux" else 1)
    assert threads_for(Config(node=NodeSection(roles=("proxy",)), engine=EngineSection(threads=2))) == 2

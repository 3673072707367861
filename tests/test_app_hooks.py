"""What an application does when a node starts and when it stops, and what it can ask of the node."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from typing import Any

import pytest
import uvloop
from msgspec import Struct

from photinus import App, Closed, Group, Node, Routes, Session
from photinus.client import connect
from photinus.config import Config, EngineSection
from photinus.engine import GOODBYE_SECONDS, new_event_loop
from photinus.errors import ConfigError, Kicked, NoNode, RouteError
from photinus.node import STOP_SECONDS, STOPPING_SECONDS, engine_for
from photinus.testing import TestCluster

LOOPBACK = "tcp://127.0.0.1:0?protocol=pomelo"

lobby = Group("lobby")


class Text(Struct):
    text: str


class World:
    """Notes in `told` what happens in which order."""

    def __init__(self) -> None:
        self.told: list[str] = []
        routes = Routes()

        @routes.on("join", public=True)
        def join(session: Session, msg: Text) -> None:
            lobby.add(session)

        @routes.closed
        def closed(session: Session, reason: Closed) -> None:
            self.told.append(f"closed {reason.reason}")

        self.app = App("world", routes=[routes])


async def test_they_are_called_in_order_and_as_code_of_the_node() -> None:
    world = World()
    app, told = world.app, world.told

    @app.started
    async def seed() -> None:
        told.append("seed begins")
        await asyncio.sleep(1)
        told.append(f"seed done, {app.statistics()['app']['players']} players")

    @app.started
    def set_timer() -> None:
        told.append("set timer")
        app.after(1, lambda: told.append("timer"))

    @app.stopping
    async def farewell() -> None:
        lobby.send("said", Text("farewell"))
        await asyncio.sleep(1)
        told.append("farewell")

    @app.stopping
    def last_words() -> None:
        told.append("last words")

    async with TestCluster(app) as t:
        assert told == ["seed begins", "seed done, 0 players", "set timer"]
        ann = await t.connect()
        await ann.request("join", Text(""))
        await t.advance(1)
        assert told[3:] == ["timer"]
    # Players hear what they are told before they are let go.
    assert await ann.receive("said", Text) == Text("farewell")
    assert told[4:] == ["farewell", "last words", "closed shutdown"]


async def test_each_node_calls_them() -> None:
    app = App("two")
    names: list[str] = []

    @app.started
    async def started() -> None:
        await asyncio.sleep(0)
        # A name of the application finds the node that it is called in, though two run by now.
        lobby.send("said", b"")
        names.append("started")

    async with Node(app, listen=[]), Node(app, listen=[]):
        assert names == ["started"] * 2


@pytest.mark.parametrize("suspends", [False, True], ids=["def", "async"])
async def test_one_that_fails_fails_the_start(suspends: bool) -> None:
    world = World()
    app, told = world.app, world.told

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            told.append("cancelled")

    @app.started
    async def begin() -> None:
        app.task(work())
        await asyncio.sleep(0)

    def broken() -> None:
        raise ZeroDivisionError("no seed")

    async def broken_later() -> None:
        await asyncio.sleep(0)
        broken()

    if suspends:
        app.started(broken_later)
    else:
        app.started(broken)

    @app.started
    def never() -> None:
        told.append("never")

    @app.stopping
    def nor_this() -> None:
        told.append("nor this")

    node = Node(app, listen=[LOOPBACK])
    with pytest.raises(ZeroDivisionError, match="no seed") as raised:
        await node.start()
    assert re.search(r"the started hook at .*test_app_hooks\.py:\d+: the node did not start", raised.value.__notes__[0])
    # Nothing of it is left.
    assert told == ["cancelled"]
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(_place(node))
    with pytest.raises(NoNode):
        app.statistics()


@pytest.mark.parametrize("loop", ["own", "asyncio", "uvloop"])
def test_nobody_is_let_in_before_they_are_done(loop: str) -> None:
    app = World().app
    engine = engine_for(Config(engine=EngineSection(threads=0))) if loop == "own" else None

    async def main() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        @app.started
        async def wait() -> None:
            begun.set()
            await go_on.wait()

        node = Node(app, listen=[LOOPBACK], engine=engine)
        starting = asyncio.create_task(node.start())
        await begun.wait()
        # The address is this node's already, and the system takes connections for it.
        joining = asyncio.create_task(_join(node.addresses[0]))
        for _ in range(20):
            await asyncio.sleep(0.005)
            assert node.statistics()["engine"]["accepted"] == 0
        assert not joining.done()
        go_on.set()
        await joining
        await starting
        await node.stop()

    def new_loop() -> asyncio.AbstractEventLoop:
        if engine is not None:
            return new_event_loop(engine)
        return uvloop.new_event_loop() if loop == "uvloop" else asyncio.new_event_loop()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


async def test_one_that_takes_too_long_does_not_hold_up_the_stop(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    app, told = world.app, world.told
    over = asyncio.Event()

    @app.stopping
    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            told.append("cleaned up")

    @app.stopping
    async def deaf() -> None:
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                told.append("not now")

    @app.stopping
    def broken() -> None:
        raise ZeroDivisionError("no end")

    @app.stopping
    async def save() -> None:
        await asyncio.sleep(0.1)
        told.append("saved")

    t = TestCluster(app)
    with caplog.at_level(logging.ERROR, "photinus"):
        async with t:
            ann = await t.connect()
            before = t.now
            await t.node.stop()
            over.set()
            # Each its own time, and the one that heeds nothing a little more; then sessions and tasks theirs.
            assert t.now - before < 2 * STOPPING_SECONDS + GOODBYE_SECONDS + 2 * STOP_SECONDS
            assert await ann.closed() == "shutdown"
            assert told == ["cleaned up", "not now", "saved", "closed shutdown", "not now"]
            assert [type(error) for error in t.errors] == [TimeoutError, ZeroDivisionError, TimeoutError]
            assert f"not done within {STOPPING_SECONDS:g} s" in str(t.errors[0])
            t.errors.clear()
    for name in ("endless", "broken"):
        assert re.search(rf"stopping hook at .*test_app_hooks\.py:\d+ failed(.|\n)*in {name}\n", caplog.text)


def bad_hooks() -> dict[str, tuple[Any, str]]:
    def session(session: Session) -> None: ...
    def answer() -> int:
        return 1

    async def generator() -> Any:
        yield

    return {
        "session": (session, "the parameters (session"),
        "answer": (answer, "it returns int"),
        "generator": (generator, "a generator"),
        "text": ("seed", "'seed' is not a function"),
    }


@pytest.mark.parametrize("name", sorted(bad_hooks()))
def test_a_wrong_shape_raises_where_it_is_declared(name: str) -> None:
    hook, found = bad_hooks()[name]
    app = App("bad")
    for declare, what in ((app.started, "started"), (app.stopping, "stopping")):
        with pytest.raises(RouteError, match=re.escape(f"expected () -> None; found: {found}")) as raised:
            declare(hook)
        assert str(raised.value).startswith(f"{what} at ")


async def test_too_late() -> None:
    app = App("late")

    def late() -> None: ...

    async with TestCluster(app):
        for declare in (app.started, app.stopping):
            with pytest.raises(RouteError, match="declared after a node took this app"):
                declare(late)


async def test_statistics_from_inside() -> None:
    other = App("other")
    routes = Routes()
    seen: list[dict[str, Any]] = []

    @routes.on("look", public=True)
    def look(session: Session, msg: Text) -> None:
        seen.append(app.statistics())

    app = App("game", routes=[routes])
    with pytest.raises(NoNode):
        app.statistics()
    async with TestCluster(app) as t:
        await (await t.connect()).request("look", Text(""))
        assert seen[0].keys() == t.statistics().keys()
        assert seen[0]["engine"]["sessions"] == 1
        with pytest.raises(NoNode, match="the node game runs another app than other"):
            other.statistics()


async def test_config_errors_of_a_hook_keep_their_kind() -> None:
    app = App("game")

    @app.started
    def check() -> None:
        raise ConfigError("MOTD is not set")

    with pytest.raises(ConfigError, match="MOTD"):
        async with TestCluster(app):
            pass


def _place(node: Node) -> tuple[str, int]:
    host, port = node.addresses[0].removeprefix("tcp://").partition("?")[0].split(":")
    return host, int(port)


async def _join(address: str) -> None:
    async with connect(address) as c:
        await c.request("join", Text(""))
        said = c.subscribe("said", Text)
        lobby.send("said", Text("welcome"))
        try:
            assert await anext(said) == Text("welcome")
        except Kicked as kicked:  # the node stopped meanwhile, which it must not
            raise AssertionError from kicked

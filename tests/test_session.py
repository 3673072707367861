from __future__ import annotations

import asyncio

import pytest
from msgspec import Struct

from photinus import App, Closed, Refused, Routes, Session
from photinus.errors import Kicked
from photinus.session import REPLACE_SECONDS
from photinus.testing import PomeloClient, TestCluster


class Login(Struct):
    player: str
    replace: bool = True


class Empty(Struct):
    pass


class Who(Struct):
    player: str | None


class World:
    """An app that notes what it hears, in `heard`."""

    def __init__(self, *, slow_end: float = 0.0) -> None:
        self.heard: list[str] = []
        self.sessions: list[Session] = []
        routes = Routes()
        heard = self.heard

        @routes.opened
        def opened(session: Session) -> None:
            self.sessions.append(session)
            heard.append("opened")

        @routes.on("login", public=True)
        async def login(session: Session, msg: Login) -> None:
            await session.login(msg.player, replace=msg.replace)
            heard.append(f"login {msg.player}")

        @routes.on("who")
        def who(session: Session, msg: Empty) -> Who:
            return Who(session.player)

        @routes.closed
        async def closed(session: Session, reason: Closed) -> None:
            if slow_end:
                await asyncio.sleep(slow_end)
            heard.append(f"closed {session.player} {reason.by} {reason.reason}")

        self.app = App("world", routes=[routes])


async def test_what_a_session_is() -> None:
    world = World()
    async with TestCluster(world.app) as t:
        await t.connect()
        await t.connect("length4")
        first, second = world.sessions
        assert (first.protocol, first.format, first.closed) == ("pomelo", "json", False)
        assert (second.protocol, second.format) == ("length", "msgpack")
        assert first.id != second.id
        assert first.address.startswith("memory:")
        assert first.data is None
        assert first.player is None
        first.data = {"gold": 3}
        assert first.data == {"gold": 3}


async def test_routes_open_with_the_login() -> None:
    async with TestCluster(World().app) as t:
        ann = await t.connect()
        with pytest.raises(Refused, match="login-required"):
            await ann.request("who", Empty())
        await ann.request("login", Login("ann"))
        assert await ann.request("who", Empty(), Who) == Who("ann")


async def test_the_older_session_goes_first() -> None:
    world = World(slow_end=0.5)
    async with TestCluster(world.app) as t:
        old, new = await t.connect(), await t.connect()
        await old.request("login", Login("ann"))
        await new.request("login", Login("ann"))
        assert await old.closed() == "replaced"
        assert world.heard[2:] == ["login ann", "closed ann server replaced", "login ann"]
        assert await new.request("who", Empty(), Who) == Who("ann")
        assert t.statistics()["app"]["players"] == 1


async def test_or_the_newer_one_is_refused() -> None:
    async with TestCluster(World().app) as t:
        old, new = await t.connect(), await t.connect()
        await old.request("login", Login("ann"))
        with pytest.raises(Refused, match="already-online"):
            await new.request("login", Login("ann", replace=False))
        assert old.connected
        old.close()
        await t.settle()
        await new.request("login", Login("ann", replace=False))


async def test_a_login_again_changes_nothing() -> None:
    async with TestCluster(World().app) as t:
        ann = await t.connect()
        await ann.request("login", Login("ann"))
        await ann.request("login", Login("ann", replace=False))
        assert ann.connected


async def test_a_login_as_another_player_frees_the_first() -> None:
    async with TestCluster(World().app) as t:
        ann, other = await t.connect(), await t.connect()
        await ann.request("login", Login("ann"))
        await ann.request("login", Login("bob"))
        await other.request("login", Login("ann", replace=False))
        assert await ann.request("who", Empty(), Who) == Who("bob")


async def login(client: PomeloClient) -> str:
    try:
        await client.request("login", Login("ann"), timeout=60)
    except (Refused, Kicked) as error:
        return str(error)
    return "in"


async def test_of_many_at_once_the_last_one_is_in() -> None:
    async with TestCluster(World(slow_end=0.1).app) as t:
        clients = [await t.connect() for _ in range(5)]
        results = await asyncio.gather(*(login(client) for client in clients))
        # The first finds nobody, and is told of its end after its answer; the others never get one.
        assert results == ["in", "replaced", "replaced", "replaced", "in"]
        assert [client.connected for client in clients] == [False, False, False, False, True]
        assert t.statistics()["app"]["players"] == 1


async def test_an_older_session_that_does_not_end_keeps_its_player() -> None:
    async with TestCluster(World(slow_end=2 * REPLACE_SECONDS).app) as t:
        old, new = await t.connect(), await t.connect()
        await old.request("login", Login("ann"))
        with pytest.raises(Refused, match="already-online"):
            await new.request("login", Login("ann"), timeout=2 * REPLACE_SECONDS)
        with pytest.raises(Refused, match="login-required"):
            await new.request("who", Empty())
        await t.advance(REPLACE_SECONDS)
        await new.request("login", Login("ann"))


async def test_closed_says_why() -> None:
    world = World()
    async with TestCluster(world.app) as t:
        leaver, kicked, garbled = await t.connect(), await t.connect(), await t.connect("length4")
        leaver.close()
        world.sessions[1].kick("cheating")
        assert world.sessions[1].closed
        assert await kicked.closed() == "cheating"
        garbled.write(b"\xff" * 8)
        await t.settle()
        assert sorted(world.heard[3:]) == [
            "closed None client left",
            "closed None protocol too-long",
            "closed None server cheating",
        ]
        last = await t.connect()
    assert await last.closed() == "shutdown"
    assert world.heard[-1] == "closed None server shutdown"


async def test_sending_to_a_session_that_has_ended_is_no_error() -> None:
    world = World()
    async with TestCluster(world.app) as t:
        ann = await t.connect()
        ann.close()
        await t.settle()
        world.sessions[0].send("news", b"")
        world.sessions[0].kick()
        await t.settle()
        assert t.statistics()["loop"]["dropped_closed"] == 1

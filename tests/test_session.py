from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from msgspec import Struct

from photinus import App, Closed, Refused, Routes, Session
from photinus.errors import Kicked
from photinus.session import REPLACE_SECONDS
from photinus.testing import PhotinusClient, TestCluster


class Login(Struct):
    player: str
    replace: bool = True


class Empty(Struct):
    pass


class Roles(Struct):
    player: str
    roles: list[str]


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
        assert (first.protocol, first.format, first.closed) == ("photinus", "msgpack", False)
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


def guild(sessions: list[Session] | None = None) -> App:
    routes = Routes()

    @routes.opened
    def opened(session: Session) -> None:
        if sessions is not None:
            sessions.append(session)

    @routes.on("login", public=True)
    async def login(session: Session, msg: Roles) -> None:
        await session.login(msg.player, roles=msg.roles)

    @routes.on("ban", roles="gm")
    @routes.on("heal", roles=("gm", "healer"))
    @routes.on("say")
    def act(session: Session, msg: Empty) -> None: ...

    @routes.default(roles="gm")
    def anything(session: Session, body: bytes) -> bytes:
        return body

    return App("guild", routes=[routes])


async def allowed(client: PhotinusClient) -> dict[str, str]:
    """What becomes of a call of each route."""
    answers: dict[str, str] = {}
    for route in ("say", "heal", "ban"):
        try:
            await client.request(route, Empty())
        except Refused as refused:
            answers[route] = refused.code
        else:
            answers[route] = "done"
    return answers


async def test_roles_open_what_is_for_them() -> None:
    async with TestCluster(guild()) as t:
        ann = await t.connect()
        login_first = dict.fromkeys(("say", "heal", "ban"), "login-required")
        assert await allowed(ann) == login_first
        for roles, heal, ban in (
            ([], "forbidden", "forbidden"),
            (["healer"], "done", "forbidden"),
            (["gm"], "done", "done"),
            (["baker", "healer", "gm"], "done", "done"),
            (["GM"], "forbidden", "forbidden"),
            # Whoever logs in again is what that login says.
            ([], "forbidden", "forbidden"),
        ):
            await ann.request("login", Roles("ann", roles))
            assert await allowed(ann) == {"say": "done", "heal": heal, "ban": ban}
        # The payload of a call that is not allowed is not looked at.
        with pytest.raises(Refused, match="forbidden"):
            await ann.request("ban", b"{")
        assert t.statistics()["app"]["bad_messages"] == 0


async def test_roles_are_the_session_s_own() -> None:
    sessions: list[Session] = []
    async with TestCluster(guild(sessions)) as t:
        ann, bob = await t.connect(), await t.connect()
        first, second = sessions
        assert first.roles == frozenset()
        await ann.request("login", Roles("ann", ["gm", "healer"]))
        await bob.request("login", Roles("bob", []))
        assert first.roles == {"gm", "healer"}
        assert second.roles == frozenset()
        assert (await allowed(ann))["ban"] == "done"
        assert (await allowed(bob))["ban"] == "forbidden"
        # Promoted and demoted while they play.
        first.roles, second.roles = frozenset(), frozenset({"gm"})
        assert (await allowed(ann))["ban"] == "forbidden"
        assert (await allowed(bob))["ban"] == "done"
        with pytest.raises(TypeError, match="roles|frozenset"):
            first.roles = {"gm"}  # type: ignore[assignment]
        with pytest.raises(ValueError, match="roles are names, such as 'gm'"):
            await first.login("ann", roles=("gm", 7))  # type: ignore[arg-type]


async def test_roles_where_there_are_no_routes() -> None:
    sessions: list[Session] = []
    async with TestCluster(guild(sessions)) as t:
        client = await t.connect("length4")
        await client.send(b"too early")
        await t.settle()
        assert t.statistics()["app"]["refused"] == 1
        await sessions[0].login("ann")
        await client.send(b"still")
        await t.settle()
        assert t.statistics()["app"]["refused"] == 2
        await sessions[0].login("ann", roles="gm")
        assert await client.request(b"now") == b"now"


async def login(client: PhotinusClient) -> str:
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


async def test_what_encodes_may_send() -> None:
    """A time zone's own code runs while the message it stands in is encoded."""
    routes, sessions = Routes(), list[Session]()

    class When(Struct):
        before: str
        at: datetime
        after: str

    class Zone(tzinfo):
        def utcoffset(self, _when: datetime | None, /) -> timedelta:
            sessions[0].send("inner", When("x" * 500, datetime(2000, 1, 1, tzinfo=UTC), "y" * 500))
            return timedelta(0)

        def dst(self, _when: datetime | None, /) -> None:
            return None

        def tzname(self, _when: datetime | None, /) -> str:
            return "here"

    @routes.on("go", public=True)
    def go(session: Session, _body: bytes) -> None:
        sessions.append(session)
        session.send("outer", When("a", datetime(2001, 2, 3, 4, 5, 6, tzinfo=Zone()), "b"))

    async with TestCluster(App("zones", routes=[routes])) as t:
        ann = await t.connect()
        await ann.request("go", b"")
        inner, outer = await ann.receive("inner", When), await ann.receive("outer", When)
        assert inner == When("x" * 500, datetime(2000, 1, 1, tzinfo=UTC), "y" * 500)
        assert outer == When("a", datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC), "b")

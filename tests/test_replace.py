"""Node.replace: another App takes over a running node, and nobody who plays on it loses anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Struct

from photinus import App, Closed, Group, Node, Rate, Refused, Routes, Session
from photinus.errors import RouteError, UsageError
from photinus.testing import PhotinusClient, TestCluster


class Text(Struct):
    text: str


class Hero(Struct):
    name: str


class NewHero(Struct):
    name: str


lobby = Group("lobby")


def saying(word: str, *names: str | int, **others: Any) -> App:
    """An App whose routes of these names all answer with this word."""
    routes = Routes()

    def say(session: Session, body: bytes) -> bytes:
        return word.encode()

    for name in names:
        routes.on(name, public=True)(say)
    for kind, handler in others.items():
        getattr(routes, kind)(handler)
    return App("game", routes=[routes])


async def say(client: PhotinusClient, *names: str) -> list[bytes | str]:
    async def answer(name: str) -> bytes | str:
        try:
            return await client.request(name, b"")
        except Refused as refused:
            return refused.code

    return await asyncio.gather(*map(answer, names))


async def test_routes_stay_are_added_and_go() -> None:
    async with TestCluster(saying("old", "a", "b")) as t:
        client = await t.connect()
        assert await say(client, "a", "b", "c") == [b"old", b"old", "unknown-route"]
        await t.node.replace(saying("new", "c", "b"))
        assert await say(client, "a", "b", "c") == ["unknown-route", b"new", b"new"]
        await t.node.replace(saying("third", "a", "c", "d"))
        assert await say(client, "a", "b", "c", "d") == [b"third", "unknown-route", b"third", b"third"]
        assert t.statistics()["app"]["reloads"] == 2


async def test_a_number_without_its_handler_goes_to_the_default() -> None:
    def rest(session: Session, body: bytes) -> bytes:
        return b"default"

    async with TestCluster(saying("seven", 7)) as t:
        client = await t.connect("firefly")
        assert await client.request(b"", command=7) == b"seven"
        await t.node.replace(saying("eight", 8, default=rest))
        assert await client.request(b"", command=7) == b"default"
        assert await client.request(b"", command=8) == b"eight"
        await t.node.replace(saying("again", 7))
        assert await client.request(b"", command=7) == b"again"


def waiting(word: str, go_on: asyncio.Event, **others: Any) -> App:
    """Its route `wait` waits, and then answers with what it found and this word."""
    app = saying(word, "a", "b", 7, **others)

    @app.routes[0].on("wait", public=True)
    async def wait(session: Session, body: bytes) -> bytes:
        await go_on.wait()
        return word.encode()

    return app


async def test_what_waits_is_handled_once_by_the_new_code() -> None:
    go_on = asyncio.Event()

    def rest(session: Session, body: bytes) -> bytes:
        return b"default"

    async with TestCluster(waiting("old", go_on)) as t:
        client, other = await t.connect(), await t.connect("firefly")
        answers = asyncio.create_task(say(client, "wait", "a", "b", "wait", "a"))
        await t.settle()
        await t.node.replace(waiting("new", go_on, default=rest))
        await t.node.replace(saying("newest", "a", "c", default=rest))
        go_on.set()
        assert await answers == [b"old", b"newest", "unknown-route", "unknown-route", b"newest"]
        assert await other.request(b"", command=7) == b"default"


async def test_a_number_that_waits_goes_to_the_default() -> None:
    go_on = asyncio.Event()

    def rest(session: Session, body: bytes) -> bytes:
        return b"default"

    first = saying("seven", 7)

    @first.routes[0].on(1, public=True)
    async def wait(session: Session, body: bytes) -> bytes:
        await go_on.wait()
        return b"waited"

    async with TestCluster(first) as t:
        client = await t.connect("firefly")
        await client.send(b"", command=1)
        await client.send(b"", command=7)
        await t.settle()
        await t.node.replace(saying("eight", 8, default=rest))
        go_on.set()
        assert (await client.receive()).body == b"waited"
        assert (await client.receive()).body == b"default"


def playing(hero: Callable[[str], Any], go_on: asyncio.Event | None = None) -> App:
    routes = Routes()

    @routes.on("login", public=True)
    async def login(session: Session, msg: Text) -> None:
        await session.login(msg.text)
        session.data = hero(msg.text)
        lobby.add(session)

    @routes.on("rename")
    async def rename(session: Session, msg: Text) -> None:
        data = session.data
        if go_on is not None:
            await go_on.wait()
        data.name = msg.text

    @routes.on("look")
    def look(session: Session, msg: Text) -> Text:
        lobby.send("looked", msg)
        return Text(f"{type(session.data).__name__} {session.data.name}")

    return App("game", routes=[routes])


def renew(old: list[Any]) -> list[Any]:
    return [NewHero(hero.name) if isinstance(hero, Hero) else hero for hero in old]


async def test_logins_groups_and_data_stay() -> None:
    async with TestCluster(playing(Hero)) as t:
        ann, guest = await t.connect(), await t.connect()
        await ann.request("login", Text("Ann"))
        await t.node.replace(playing(NewHero), renew=renew)
        assert await ann.request("look", Text("x"), Text) == Text("NewHero Ann")
        assert await ann.receive("looked", Text) == Text("x")
        with pytest.raises(Refused, match="login-required"):
            await guest.request("look", Text("x"))
        # A second login of the same player still finds the first.
        again = await t.connect()
        await again.request("login", Text("Ann"))
        assert await ann.closed() == "replaced"


async def test_data_stays_as_it_is_without_renew() -> None:
    async with TestCluster(playing(Hero)) as t:
        ann = await t.connect()
        await ann.request("login", Text("Ann"))
        await t.node.replace(playing(NewHero))
        assert await ann.request("look", Text("x"), Text) == Text("Hero Ann")


async def test_what_a_suspended_handler_still_writes_is_not_lost() -> None:
    go_on = asyncio.Event()
    async with TestCluster(playing(Hero, go_on)) as t:
        ann, bob = await t.connect(), await t.connect()
        await ann.request("login", Text("Ann"))
        await bob.request("login", Text("Bob"))
        renaming = asyncio.create_task(ann.request("rename", Text("Anna")))
        looking = asyncio.create_task(ann.request("look", Text("x"), Text))
        await t.settle()
        await t.node.replace(playing(NewHero), renew=renew)
        assert await bob.request("look", Text("x"), Text) == Text("NewHero Bob")
        assert not renaming.done()
        go_on.set()
        await renaming
        # This one waited behind it: the new code, and the new class.
        assert await looking == Text("NewHero Anna")


async def test_a_login_across_the_replacement_leaves_new_data() -> None:
    go_on = asyncio.Event()
    routes = Routes()

    @routes.on("login", public=True)
    async def login(session: Session, msg: Text) -> None:
        await go_on.wait()
        await session.login(msg.text)
        session.data = Hero(msg.text)

    async with TestCluster(App("game", routes=[routes])) as t:
        ann = await t.connect()
        login_ = asyncio.create_task(ann.request("login", Text("Ann")))
        await t.settle()
        await t.node.replace(playing(NewHero), renew=renew)
        go_on.set()
        await login_
        assert await ann.request("look", Text("x"), Text) == Text("NewHero Ann")


async def test_data_that_fails_later_is_reported_and_kept() -> None:
    go_on = asyncio.Event()

    def picky(old: list[Any]) -> list[Any]:
        if any(hero.name == "Anna" for hero in old):
            raise ValueError("no such name here")
        return renew(old)

    async with TestCluster(playing(Hero, go_on)) as t:
        ann = await t.connect()
        await ann.request("login", Text("Ann"))
        renaming = asyncio.create_task(ann.request("rename", Text("Anna")))
        await t.settle()
        await t.node.replace(playing(NewHero), renew=picky)
        go_on.set()
        await renaming
        assert await ann.request("look", Text("x"), Text) == Text("Hero Anna")
        assert [str(error) for error in t.errors] == ["no such name here"]
        t.errors.clear()


async def test_what_fails_leaves_everything_as_it_was() -> None:
    def refuse(old: list[Any]) -> list[Any]:
        raise ValueError("does not fit")

    twice = App("game", routes=[*saying("new", "a").routes, *saying("new", "a").routes])
    beats: list[str] = []
    old = saying("old", "a")
    old.every(1, lambda: beats.append("old"))
    async with TestCluster(old) as t:
        client = await t.connect()
        with pytest.raises(ValueError, match="does not fit"):
            await t.node.replace(saying("new", "b"), renew=refuse)
        with pytest.raises(RouteError, match="declared twice"):
            await t.node.replace(twice)
        assert t.node.app is old
        assert await say(client, "a", "b") == [b"old", "unknown-route"]
        await t.advance(1)
        assert beats == ["old"]
        assert t.statistics()["app"]["reloads"] == 0


async def test_declared_timers_and_tasks_change_in_turn() -> None:
    seen: list[str] = []

    def app(name: str) -> App:
        app = saying(name, "a")
        app.every(1, lambda: seen.append(f"{name} beat"))

        @app.task
        async def _work() -> None:
            seen.append(f"{name} begins")
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.25)
                seen.append(f"{name} ends")

        return app

    async with TestCluster(app("old")) as t:
        await t.advance(1)
        await t.node.replace(app("new"))
        await t.advance(1)
    assert seen == ["old begins", "old beat", "old ends", "new begins", "new beat", "new ends"]


async def test_a_task_that_cannot_be_started_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    new = saying("new", "a")
    new.task(lambda: 3)  # type: ignore[arg-type, return-value]
    async with TestCluster(saying("old", "a")) as t:
        client = await t.connect()
        await t.node.replace(new)
        assert t.node.app is new
        assert await say(client, "a") == [b"new"]
        assert "the start of the tasks of App('game') failed" in caplog.text
        assert [type(error) for error in t.errors] == [TypeError]
        t.errors.clear()


async def test_hooks_of_the_nodes_start_and_stop_are_not_called() -> None:
    seen: list[str] = []

    def app(name: str) -> App:
        app = saying(name, "a")
        app.started(lambda: seen.append(f"{name} started"))
        app.stopping(lambda: seen.append(f"{name} stopping"))
        return app

    async with TestCluster(app("old")) as t:
        await t.node.replace(app("new"))
        assert seen == ["old started"]
    assert seen == ["old started", "new stopping"]


async def test_rates_and_roles_are_those_of_now() -> None:
    def app(word: str, **access: Any) -> App:
        routes = Routes()

        @routes.on("login", public=True)
        async def login(session: Session, body: bytes) -> None:
            await session.login("Ann", roles=["player"])

        @routes.on("a", **access)
        def a(session: Session, body: bytes) -> bytes:
            return word.encode()

        return App("game", routes=[routes])

    async with TestCluster(app("old")) as t:
        client = await t.connect()
        await client.request("login", b"")
        assert await say(client, "a", "a") == [b"old", b"old"]
        await t.node.replace(app("new", roles=["master"]))
        assert await say(client, "a") == ["forbidden"]
        await t.node.replace(app("new", rate=Rate(1, per=60, burst=1)))
        assert await say(client, "a", "a") == [b"new", "too-fast"]
        await t.node.replace(app("newest"))
        assert await say(client, "a", "a") == [b"newest", b"newest"]


async def test_the_same_app_again_starts_its_timers_again() -> None:
    beats: list[str] = []
    app = saying("x", "a")
    app.every(1, lambda: beats.append("beat"))
    async with TestCluster(app) as t:
        await asyncio.gather(t.node.replace(app), t.node.replace(app))
        await t.advance(1)
        assert beats == ["beat"]


async def test_what_handlers_of_the_old_code_start_goes_on() -> None:
    seen: list[str] = []
    go_on = asyncio.Event()
    routes = Routes()
    old = App("game", routes=[routes])

    @routes.on("start", public=True)
    async def start(session: Session, body: bytes) -> bytes:
        old.after(1, lambda: seen.append("timer before"))
        await go_on.wait()
        old.after(1, lambda: seen.append("timer after"))
        old.task(work())
        return b"old"

    async def work() -> None:
        seen.append("task after")

    async with TestCluster(old) as t:
        client = await t.connect()
        started = asyncio.create_task(client.request("start", b""))
        await t.settle()
        await t.node.replace(saying("new", "a"))
        go_on.set()
        assert await started == b"old"
        await t.advance(1)
        assert sorted(seen) == ["task after", "timer after", "timer before"]


async def test_opened_and_closed_are_those_of_now() -> None:
    seen: list[str] = []

    def app(name: str) -> App:
        def opened(session: Session) -> None:
            seen.append(f"{name} opened")

        def closed(session: Session, reason: Closed) -> None:
            seen.append(f"{name} closed")

        return saying(name, "a", opened=opened, closed=closed)

    async with TestCluster(app("old")) as t:
        first = await t.connect()
        await t.node.replace(app("new"))
        await t.connect()
        first.close()
        await t.settle()
        assert seen == ["old opened", "new opened", "new closed"]


async def test_a_notify_in_the_mailbox_for_a_removed_route_is_dropped() -> None:
    go_on = asyncio.Event()
    async with TestCluster(waiting("old", go_on)) as t:
        client = await t.connect()
        waited = asyncio.create_task(client.request("wait", b""))
        await t.settle()
        await client.notify("b", b"")
        await t.settle()
        await t.node.replace(saying("new", "a"))
        go_on.set()
        assert await waited == b"old"
        assert await say(client, "a") == [b"new"]
        assert t.statistics()["app"]["refused"] == 1


async def test_only_a_running_node_can_take_another_app() -> None:
    node = Node(saying("old", "a"), listen=())
    with pytest.raises(UsageError, match="does not run"):
        await node.replace(saying("new", "a"))
    await node.start()
    await node.stop()
    with pytest.raises(UsageError, match="does not run"):
        await node.replace(saying("new", "a"))


async def test_an_engine_has_one_node() -> None:
    async with Node(saying("old", "a"), listen=()) as node:
        second = Node(saying("new", "a"), listen=(), engine=node.engine)
        with pytest.raises(UsageError, match="has a node already"):
            await second.start()

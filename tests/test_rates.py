"""How often a session may call a route, by the clock of a test."""

from __future__ import annotations

import pytest
from msgspec import Struct

from photinus import App, Rate, Refused, Routes, Session
from photinus.testing import PhotinusClient, TestCluster


class Say(Struct):
    text: str


heard: list[str] = []
routes = Routes(rate=Rate(100))


@routes.on("chat", public=True, rate=Rate(5, per=1.0, burst=10))
def chat(session: Session, msg: Say) -> None:
    heard.append(msg.text)


@routes.on("login", public=True, rate=Rate(1, per=60, burst=3))
async def login(session: Session, msg: Say) -> None:
    await session.login(msg.text)


@routes.on("act", rate=Rate(1))
@routes.on(7, public=True, rate=Rate(2))
@routes.on("walk", public=True)
def act(session: Session, msg: Say) -> None:
    heard.append(msg.text)


@routes.default(rate=Rate(2, per=10))
def anything(session: Session, body: bytes) -> bytes:
    return body


app = App("town", routes=[routes])


@pytest.fixture(autouse=True)
def nothing_heard() -> None:
    heard.clear()


async def done(client: PhotinusClient, route: str, calls: int) -> int:
    """How many of so many calls at once are answered with a reply; the others must be too fast."""
    replies = 0
    for _ in range(calls):
        try:
            await client.request(route, Say("hi"))
            replies += 1
        except Refused as refused:
            assert refused.code == "too-fast"
    return replies


async def test_a_burst_and_then_the_rate() -> None:
    async with TestCluster(app) as t:
        ann = await t.connect()
        assert await done(ann, "chat", 30) == 10
        await t.advance(1)
        assert await done(ann, "chat", 30) == 5
        await t.advance(100)
        assert await done(ann, "chat", 30) == 10
        assert len(heard) == 25
        statistics = t.statistics()
        assert statistics["loop"]["too_fast"] == statistics["app"]["refused"] == 65
        assert statistics["app"]["handler_errors"] == 0


async def test_the_answer_says_how_long_to_wait() -> None:
    async with TestCluster(app) as t:
        ann = await t.connect()
        assert await done(ann, "chat", 10) == 10
        with pytest.raises(Refused) as raised:
            await ann.request("chat", Say("hi"))
        assert (raised.value.code, raised.value.fields) == ("too-fast", {"retry_after": 0.2})
        await t.advance(0.15)
        with pytest.raises(Refused) as raised:
            await ann.request("chat", Say("hi"))
        wait = raised.value.fields["retry_after"]
        assert wait == pytest.approx(0.05)
        assert isinstance(wait, float)
        await t.advance(wait)
        await ann.request("chat", Say("hi"))
        with pytest.raises(Refused, match="too-fast"):
            await ann.request("chat", Say("hi"))


async def test_each_session_and_each_route_has_its_own() -> None:
    async with TestCluster(app) as t:
        ann, bob = await t.connect(), await t.connect()
        assert await done(ann, "chat", 20) == 10
        assert await done(bob, "chat", 20) == 10
        assert await done(ann, "walk", 120) == 100
        assert await done(ann, "chat", 1) == 0
        # A new session begins anew, whether or not it sits in the old one's place.
        bob.close()
        await t.settle()
        assert await done(await t.connect(), "chat", 20) == 10


async def test_who_may_not_call_is_told_that_first() -> None:
    async with TestCluster(app) as t:
        ann = await t.connect()
        for _ in range(5):
            with pytest.raises(Refused, match="login-required"):
                await ann.request("act", Say("hi"))
        # Those took no token; a payload that cannot be read does, and is not looked at without one.
        await ann.request("login", Say("ann"))
        with pytest.raises(Refused, match="bad-message"):
            await ann.request("act", b"{")
        with pytest.raises(Refused, match="too-fast"):
            await ann.request("act", b"{")
        assert await done(ann, "login", 5) == 2


async def test_what_nobody_waits_for_is_dropped_and_counted() -> None:
    async with TestCluster(app) as t:
        ann, bob = await t.connect(), await t.connect("firefly")
        for number in range(30):
            await ann.notify("chat", Say(str(number)))
        await t.settle()
        assert heard == [str(number) for number in range(10)]
        heard.clear()
        for _ in range(5):
            await bob.send(b"\x81\xa4text\xa2hi", command=7)
        await t.settle()
        assert heard == ["hi"] * 2
        statistics = t.statistics()
        assert statistics["loop"]["too_fast"] == 20 + 3
        # Python was not asked.
        assert statistics["app"]["refused"] == 0
        assert ann.connected
        assert bob.connected


async def test_what_has_no_route() -> None:
    async with TestCluster(app) as t:
        client = await t.connect("length4")
        for body in (b"1", b"2", b"3", b"4"):
            await client.send(body)
        await t.settle()
        assert [(await client.receive()).body for _ in range(2)] == [b"1", b"2"]
        await t.advance(5)
        assert await client.request(b"5") == b"5"
        assert t.statistics()["loop"]["too_fast"] == 2

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from examples.chat.world import (
    LONGEST_TEXT,
    TICK_SECONDS,
    Leave,
    Login,
    Move,
    Said,
    Say,
    Walk,
    Walked,
    Welcome,
    app,
    moves,
)
from photinus import Refused
from photinus.testing import TestCluster

if TYPE_CHECKING:
    from photinus.testing import PhotinusClient


async def enter(t: TestCluster, name: str) -> PhotinusClient:
    client = await t.connect()
    await client.request("login", Login(name))
    return client


async def test_a_welcome() -> None:
    async with TestCluster(app) as t:
        ann, bob = await t.connect(), await t.connect()
        assert await ann.request("login", Login(" Ann "), Welcome) == Welcome("Ann", 1)
        assert await bob.request("login", Login("Bob"), Welcome) == Welcome("Bob", 2)


@pytest.mark.parametrize("name", ["", "  ", "x" * 25])
async def test_what_is_no_name(name: str) -> None:
    async with TestCluster(app) as t:
        ann = await t.connect()
        with pytest.raises(Refused, match=r"bad-name \(longest=24\)"):
            await ann.request("login", Login(name))


async def test_a_name_belongs_to_who_has_it() -> None:
    async with TestCluster(app) as t:
        ann = await enter(t, "Ann")
        with pytest.raises(Refused, match="already-online"):
            await enter(t, "Ann")
        ann.close()
        await t.settle()
        await enter(t, "Ann")


async def test_everybody_hears() -> None:
    async with TestCluster(app) as t:
        ann, bob = await enter(t, "Ann"), await enter(t, "Bob")
        await ann.request("say", Say("hi"))
        assert await ann.receive("said", Said) == Said("Ann", "hi")
        assert await bob.receive("said", Said) == Said("Ann", "hi")
        with pytest.raises(Refused, match="too-long"):
            await ann.request("say", Say("x" * (LONGEST_TEXT + 1)))


async def test_strangers_are_not_heard() -> None:
    async with TestCluster(app) as t:
        stranger = await t.connect()
        for route, message in (("say", Say("hi")), ("walk", Walk(1, 1)), ("leave", Leave())):
            with pytest.raises(Refused, match="login-required"):
                await stranger.request(route, message)


async def test_all_moves_of_a_tick_are_one_push() -> None:
    async with TestCluster(app) as t:
        ann, bob = await enter(t, "Ann"), await enter(t, "Bob")
        for step in range(5):
            await ann.notify("walk", Walk(step, 0))
        await bob.notify("walk", Walk(0, 7))
        await t.advance(TICK_SECONDS)
        walked = await bob.receive("walked", Walked)
        assert sorted(walked.moves, key=lambda move: move.name) == [Move("Ann", 4, 0), Move("Bob", 0, 7)]
        assert ann.received("walked") == 1
        # Who stands still is no news.
        await t.advance(1)
        assert bob.received("walked") == 0


async def test_who_leaves_is_gone() -> None:
    async with TestCluster(app) as t:
        ann, bob = await enter(t, "Ann"), await enter(t, "Bob")
        await ann.notify("walk", Walk(1, 1))
        await ann.notify("leave", Leave())
        assert await ann.closed() == "left"
        assert moves == {}
        await bob.request("say", Say("alone?"))
        await enter(t, "Ann")

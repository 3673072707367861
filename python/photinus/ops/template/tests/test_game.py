"""The game's rules, without sockets and in no time: `pytest` runs them."""

from __future__ import annotations

import asyncio

import pytest

from game import Login, Move, Moved, Said, Say, Welcome, app
from photinus.errors import Refused
from photinus.testing import PhotinusClient, TestCluster


async def join(t: TestCluster, name: str) -> PhotinusClient:
    client = await t.connect()
    await client.request("login", Login(name))
    return client


def test_login() -> None:
    async def play() -> None:
        async with TestCluster(app) as t:
            ann = await t.connect()
            assert await ann.request("login", Login("Ann"), Welcome) == Welcome("Ann", players=1)
            bob = await t.connect()
            assert await bob.request("login", Login("Bob"), Welcome) == Welcome("Bob", players=2)
            with pytest.raises(Refused, match="bad-name"):
                await (await t.connect()).request("login", Login(" "))

    asyncio.run(play())


def test_what_is_said_reaches_the_others() -> None:
    async def play() -> None:
        async with TestCluster(app) as t:
            ann, bob = await join(t, "Ann"), await join(t, "Bob")
            await ann.request("say", Say("hello"))
            assert await bob.receive("said", Said) == Said("Ann", "hello")
            assert ann.received("said") == 0

    asyncio.run(play())


def test_nobody_walks_too_far_at_once() -> None:
    async def play() -> None:
        async with TestCluster(app) as t:
            ann, bob = await join(t, "Ann"), await join(t, "Bob")
            assert await ann.request("move", Move(3, 4), Moved) == Moved("Ann", 3, 4)
            assert await bob.receive("moved", Moved) == Moved("Ann", 3, 4)
            with pytest.raises(Refused, match="too-far"):
                await ann.request("move", Move(300, 4))

    asyncio.run(play())

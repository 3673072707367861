from __future__ import annotations

import asyncio

import pytest
from msgspec import Struct

from photinus import App, Group, Node, Routes, Session
from photinus.errors import NoNode
from photinus.testing import TestCluster


class Said(Struct):
    text: str


lobby = Group("lobby")


def chat(sessions: list[Session]) -> App:
    routes = Routes()

    @routes.opened
    def opened(session: Session) -> None:
        sessions.append(session)
        assert lobby.add(session)
        assert session in lobby

    @routes.on("say", public=True)
    def say(session: Session, msg: Said) -> None:
        lobby.send("said", msg, but=session)

    return App("chat", routes=[routes])


async def test_a_message_reaches_all_but_one() -> None:
    async with TestCluster(chat([])) as t:
        ann, bob, eve = [await t.connect() for _ in range(3)]
        await ann.request("say", Said("hi"))
        assert await bob.receive("said", Said) == Said("hi")
        assert await eve.receive("said", Said) == Said("hi")
        assert ann.received("said") == 0


async def test_each_protocol_gets_its_own_format() -> None:
    async with TestCluster(chat([])) as t:
        ann, bob, raw = await t.connect(), await t.connect("pomelo"), await t.connect("length4")
        lobby.send("said", Said("hi"))
        assert await ann.receive("said") == b"\x81\xa4text\xa2hi"
        assert await bob.receive("said") == b'{"text":"hi"}'
        assert (await raw.receive()).body == b"\x81\xa4text\xa2hi"


async def test_members() -> None:
    sessions: list[Session] = []
    async with TestCluster(chat(sessions)) as t:
        ann = await t.connect()
        await t.connect()
        assert len(lobby) == 2
        assert not lobby.add(sessions[0])
        assert lobby.discard(sessions[1])
        assert not lobby.discard(sessions[1])
        assert sessions[1] not in lobby
        assert len(Group("lobby")) == 1
        assert Group("empty")
        ann.close()
        await t.settle()
        assert len(lobby) == 0
        assert not lobby.add(sessions[0])


async def test_outside_of_any_node() -> None:
    with pytest.raises(NoNode, match="no node runs in this process"):
        lobby.send("said", Said("hi"))


async def test_outside_of_two_nodes() -> None:
    async with Node(App("one")) as one, Node(App("two")) as two:
        with pytest.raises(NoNode, match=r"several nodes run in this process \(one, two\)"):
            lobby.send("said", Said("hi"))
        assert one.scope.call(lambda: len(lobby)) == 0
        assert two.scope.call(lambda: len(lobby)) == 0


async def test_each_of_two_nodes_has_its_own() -> None:
    app = chat([])
    async with TestCluster(app) as t:
        await t.connect()
        async with Node(app) as other:
            assert t.node.scope.call(lambda: len(lobby)) == 1
            assert other.scope.call(lambda: len(lobby)) == 0


async def test_a_thread_finds_the_only_node() -> None:
    async with TestCluster(chat([])) as t:
        ann = await t.connect()
        await asyncio.to_thread(lobby.send, "said", Said("hi"))
        assert await ann.receive("said", Said) == Said("hi")

"""Several nodes in one test, linked in memory."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest
from msgspec import Struct

from photinus import App, CallTimeout, Group, Routes, Service, Session, Unreachable, call
from photinus.errors import UsageError
from photinus.scope import current
from photinus.testing import TestCluster


class Text(Struct):
    text: str


class Desk(Service):
    gate: ClassVar[asyncio.Event]

    @call
    async def where(self) -> str:
        return current().name

    @call
    async def wait(self) -> str:
        await self.gate.wait()
        return "done"


lobby = Group("lobby")


def game() -> App:
    routes = Routes()
    Desk.gate = asyncio.Event()

    @routes.on("where", public=True)
    def where(session: Session, msg: Text) -> Text:
        return Text(current().name)

    @routes.on("desk", public=True)
    async def desk(session: Session, msg: Text) -> Text:
        return Text(await Desk.at(msg.text).where())

    @routes.on("join", public=True)
    def join(session: Session, msg: Text) -> None:
        lobby.add(session)

    @routes.on("say", public=True)
    def say(session: Session, msg: Text) -> None:
        lobby.send("said", msg)

    return App("game", routes=[routes], services=[Desk])


def placed(t: TestCluster, node: str) -> str:
    """A key of Desk that is on that node."""
    worlds = [name for name, other in t.nodes.items() if "world" in other.roles]
    from photinus.cluster.placement import Placement

    placement = Placement(worlds, {})
    return next(str(n) for n in range(1000) if placement.node_of(f"Desk/{n}") == node)


async def test_nodes_that_do_both() -> None:
    async with TestCluster(game(), nodes=3) as t:
        assert list(t.nodes) == ["node-1", "node-2", "node-3"]
        for name in t.nodes:
            client = await t.connect(node=name)
            assert (await client.request("where", Text(""), Text)).text == name
            for other in t.nodes:
                assert (await client.request("desk", Text(placed(t, other)), Text)).text == other


async def test_proxies_hold_clients_and_world_nodes_run_the_game() -> None:
    async with TestCluster(game(), nodes=2, proxies=2) as t:
        assert list(t.nodes) == ["proxy-1", "proxy-2", "world-1", "world-2"]
        homes: set[str] = set()
        for number in range(8):
            client = await t.connect(node=f"proxy-{1 + number % 2}")
            homes.add((await client.request("where", Text(""), Text)).text)
            for world in ("world-1", "world-2"):
                assert (await client.request("desk", Text(placed(t, world)), Text)).text == world
        assert homes == {"world-1", "world-2"}
        assert t.nodes["proxy-1"].app.callees == {}


async def test_a_group_reaches_members_at_all_proxies() -> None:
    async with TestCluster(game(), nodes=1, proxies=2) as t:
        players = [await t.connect(node=f"proxy-{1 + number % 2}") for number in range(4)]
        for player in players:
            await player.notify("join", Text(""))
        await t.settle()
        await players[0].notify("say", Text("hello"))
        for player in players:
            assert (await player.receive("said", Text)).text == "hello"


async def test_a_short_cut_of_a_link_loses_nothing() -> None:
    async with TestCluster(game(), nodes=2) as t:
        key = placed(t, "node-2")
        waiting = t.task(Desk.at(key, timeout=20).wait(), node="node-1")
        await t.settle()
        t.cut("node-1", "node-2")
        await t.advance(1.0)
        # Called while it is cut, and answered when it is whole.
        late = t.task(Desk.at(key).where(), node="node-1")
        await t.advance(0.5)
        assert not late.done()
        t.heal("node-1", "node-2")
        assert await late == "node-2"
        Desk.gate.set()
        assert await waiting == "done"


async def test_a_long_one_ends_what_was_under_way() -> None:
    async with TestCluster(game(), nodes=2) as t:
        key = placed(t, "node-2")
        waiting = t.task(Desk.at(key, timeout=20).wait(), node="node-1")
        await t.settle()
        t.cut("node-1", "node-2")
        with pytest.raises(Unreachable) as raised:
            await waiting
        assert raised.value.sent
        with pytest.raises(Unreachable, match="no link to node-2") as raised:
            await t.task(Desk.at(key).where(), node="node-1")
        assert not raised.value.sent
        t.heal("node-1", "node-2")
        await t.advance(2.0)
        assert await t.task(Desk.at(key).where(), node="node-1") == "node-2"


async def test_what_takes_its_time_takes_it() -> None:
    async with TestCluster(game(), nodes=2) as t:
        key = placed(t, "node-2")
        t.delay("node-1", "node-2", 0.2)
        began = t.now
        assert await t.task(Desk.at(key).where(), node="node-1") == "node-2"
        assert t.now - began == pytest.approx(0.4, abs=0.06)
        with pytest.raises(CallTimeout):
            await t.task(Desk.at(key, timeout=0.3).where(), node="node-1")


async def test_wrong_use() -> None:
    with pytest.raises(UsageError, match="one node or more"):
        TestCluster(game(), nodes=0)
    async with TestCluster(game(), nodes=2) as t:
        with pytest.raises(UsageError, match="no node proxy-1: expected one of node-1, node-2"):
            await t.connect(node="proxy-1")


async def test_a_group_of_a_node_without_clients_of_its_own_speaks_every_format() -> None:
    async with TestCluster(game(), nodes=1, proxies=1) as t:
        ann, bob = await t.connect(), await t.connect("pomelo")
        for client in (ann, bob):
            await client.request("join", Text(""))
        await ann.request("say", Text("hello"))
        for client in (ann, bob):
            assert (await client.receive("said", Text)).text == "hello"

"""Sessions across nodes: attachments and what is told of them, moves, names, new homes."""

from __future__ import annotations

from typing import ClassVar

import pytest
from msgspec import Struct

from photinus import App, Closed, Refused, Routes, Service, Session, SessionRef, Space, call, on
from photinus.errors import RequestTimeout, UsageError
from photinus.scope import current
from photinus.testing import PhotinusClient, TestCluster


class Text(Struct):
    text: str


class Bag(Struct):
    gold: int = 0
    seen: list[str] = []


class Hall(Space):
    log: ClassVar[list[str]] = []
    full: ClassVar[set[str]] = set()

    def __init__(self) -> None:
        self.inside: dict[SessionRef, Bag] = {}

    def arrive(self, who: SessionRef, state: Bag | None) -> None:
        if self.key in self.full:
            raise Refused("full")
        self.inside[who] = state or Bag()
        who.send("snapshot", Text(f"{self.key} {self.inside[who].gold}"))
        self.log.append(f"arrive {self.key}")

    async def leave(self, who: SessionRef) -> Bag | None:
        self.log.append(f"leave {self.key}")
        return self.inside[who]

    def left(self, who: SessionRef) -> None:
        del self.inside[who]
        self.log.append(f"left {self.key}")

    @on("dig")
    def dig(self, who: SessionRef, msg: Text) -> Text:
        bag = self.inside[who]
        bag.gold += 1
        bag.seen.append(msg.text)
        return Text(f"{current().name} {self.key} {bag.gold}")

    @on("slowly")
    async def slowly(self, who: SessionRef, msg: Text) -> None:
        import asyncio

        await asyncio.sleep(0.01)
        self.inside[who].seen.append(msg.text)
        who.send("echo", msg)

    @call
    async def shut(self) -> None:
        await self.close()
        self.log.append(f"shut {self.key}")

    @call
    async def seen(self) -> list[list[str]]:
        return [bag.seen for bag in self.inside.values()]


class Crier(Service):
    """Knows sessions by their names only."""

    @call
    async def cry(self, who: SessionRef, text: str) -> str:
        who.send("cried", Text(text))
        return current().name


class Hero(Struct):
    name: str = ""


def game() -> App:
    routes = Routes()
    Hall.log.clear()
    Hall.full.clear()

    @routes.on("enter", public=True)
    async def enter(session: Session[Hero], msg: Text) -> None:
        await session.attach(Hall.at(msg.text))

    @routes.on("move", public=True)
    async def move(session: Session[Hero], msg: Text) -> None:
        old, new = msg.text.split()
        await session.attach(Hall.at(new), instead_of=Hall.at(old))

    @routes.on("exit", public=True)
    async def leave(session: Session[Hero], msg: Text) -> None:
        await session.detach(Hall.at(msg.text))

    @routes.on("cry", public=True)
    async def cry(session: Session[Hero], msg: Text) -> Text:
        key, text = msg.text.split()
        return Text(await Crier.at(key).cry(session.ref, text))

    @routes.on("name", public=True)
    def name(session: Session[Hero], msg: Text) -> None:
        session.data = Hero(msg.text)

    @routes.on("who", public=True)
    def who(session: Session[Hero], msg: Text) -> Text:
        return Text(f"{current().name} {getattr(session.data, 'name', None)}")

    @routes.on("vain", public=True)
    async def vain(session: Session[Hero], msg: Text) -> None:
        await session.attach(Crier.at(msg.text))

    @routes.rehomed
    def rehomed(session: Session[Hero]) -> None:
        session.send("rehomed", Text(session.data.name))

    @routes.closed
    def closed(session: Session[Hero], reason: Closed) -> None:
        Hall.log.append(f"closed on {current().name}")

    return App("game", routes=[routes], services=[Crier], spaces=[Hall])


def key_on(t: TestCluster, node: str, kind: str = "Hall", but: str = "") -> str:
    placement = next(iter(t.nodes.values()))._cluster.placement  # type: ignore[union-attr]
    if "world" not in next(iter(t.nodes.values())).roles:
        placement = list(t.nodes.values())[-1]._cluster.placement  # type: ignore[union-attr]
    return next(str(n) for n in range(1000) if placement.node_of(f"{kind}/{n}") == node and str(n) != but)


async def request(client: PhotinusClient, route: str, text: str = "") -> str:
    return (await client.request(route, Text(text), Text)).text


async def tell(client: PhotinusClient, route: str, text: str = "") -> None:
    await client.request(route, Text(text), bytes)


SHAPES = pytest.mark.parametrize(
    ("nodes", "proxies"), [(1, 0), (2, 0), (2, 1), (3, 2)], ids=["alone", "both", "a proxy", "two proxies"]
)


@SHAPES
async def test_packets_of_what_it_is_attached_to_go_there(nodes: int, proxies: int) -> None:
    async with TestCluster(game(), nodes=nodes, proxies=proxies) as t:
        worlds = [name for name, node in t.nodes.items() if "world" in node.roles]
        client = await t.connect()
        with pytest.raises(Refused, match="unknown-route"):
            await request(client, "dig")
        for world in worlds:
            key = key_on(t, world)
            await tell(client, "enter", key)
            assert (await client.receive("snapshot", Text)).text == f"{key} 0"
            assert await request(client, "dig", "a") == f"{world} {key} 1"
            assert await request(client, "dig", "b") == f"{world} {key} 2"
            await tell(client, "exit", key)
            await t.settle()
            assert Hall.log == [f"arrive {key}", f"left {key}"]
            with pytest.raises(Refused, match="unknown-route"):
                await request(client, "dig")
            Hall.log.clear()


@SHAPES
async def test_the_end_of_a_session_is_told_to_all_who_had_it(nodes: int, proxies: int) -> None:
    async with TestCluster(game(), nodes=nodes, proxies=proxies) as t:
        worlds = [name for name, node in t.nodes.items() if "world" in node.roles]
        client = await t.connect()
        home = (await request(client, "who")).split()[0]
        keys = [key_on(t, world) for world in worlds]
        for key in keys:
            await tell(client, "enter", key)
        Hall.log.clear()
        client.close()
        await t.settle()
        assert sorted(Hall.log) == sorted([*(f"left {key}" for key in keys), f"closed on {home}"])
        for world in worlds:
            assert t.statistics(world)["guests"]["known"] == 0
            assert t.statistics(world)["engine"]["sessions"] == 0


@SHAPES
async def test_a_move_is_in_order_and_takes_its_state_along(nodes: int, proxies: int) -> None:
    async with TestCluster(game(), nodes=nodes, proxies=proxies) as t:
        worlds = [name for name, node in t.nodes.items() if "world" in node.roles]
        client = await t.connect()
        first = key_on(t, worlds[0])
        second = key_on(t, worlds[-1], but=first)
        await tell(client, "enter", first)
        sent = [str(number) for number in range(30)]
        for text in sent[:10]:
            await client.notify("slowly", Text(text))
        moving = [client.notify("move", Text(f"{first} {second}"))]
        for each in moving:
            await each
        for text in sent[10:]:
            await client.notify("slowly", Text(text))
        got = [(await client.receive("echo", Text)).text for _ in sent]
        assert got == sent
        (seen,) = await t.task(Hall.at(second).seen(), node=worlds[0])
        assert seen == sent
        assert Hall.log == [f"arrive {first}", f"leave {first}", f"left {first}", f"arrive {second}"]


@SHAPES
async def test_the_end_of_a_space_lets_its_sessions_go(nodes: int, proxies: int) -> None:
    async with TestCluster(game(), nodes=nodes, proxies=proxies) as t:
        worlds = [name for name, node in t.nodes.items() if "world" in node.roles]
        client = await t.connect()
        key = key_on(t, worlds[-1])
        await tell(client, "enter", key)
        await t.task(Hall.at(key).shut(), node=worlds[0])
        assert Hall.log == [f"arrive {key}", f"left {key}", f"shut {key}"]
        with pytest.raises(Refused, match="unknown-route"):
            await request(client, "dig")
        # Its home did not know, and there is nothing left to do.
        await tell(client, "exit", key)
        await tell(client, "enter", key)
        assert (await request(client, "dig", "x")).endswith(f"{key} 1")


@SHAPES
async def test_who_may_not_come_is_told(nodes: int, proxies: int) -> None:
    async with TestCluster(game(), nodes=nodes, proxies=proxies) as t:
        worlds = [name for name, node in t.nodes.items() if "world" in node.roles]
        client = await t.connect()
        first = key_on(t, worlds[0])
        second = key_on(t, worlds[-1], but=first)
        Hall.full.add(second)
        with pytest.raises(Refused, match="full"):
            await tell(client, "enter", second)
        await tell(client, "enter", first)
        assert (await request(client, "dig", "x")).endswith(f"{first} 1")
        with pytest.raises(Refused):
            await tell(client, "move", f"{first} {second}")
        # It is where it was, with what it had.
        assert (await request(client, "dig", "y")).endswith(f"{first} 2")


@SHAPES
async def test_a_session_is_reached_by_its_name_from_every_node(nodes: int, proxies: int) -> None:
    async with TestCluster(game(), nodes=nodes, proxies=proxies) as t:
        worlds = [name for name, node in t.nodes.items() if "world" in node.roles]
        clients = [await t.connect(), await t.connect(node=list(t.nodes)[max(proxies - 1, 0)])]
        for client in clients:
            for world in worlds:
                key = key_on(t, world, "Crier")
                assert await request(client, "cry", f"{key} hello-{world}") == world
                assert (await client.receive("cried", Text)).text == f"hello-{world}"


@SHAPES
async def test_what_has_no_handlers_cannot_be_attached(nodes: int, proxies: int) -> None:
    async with TestCluster(game(), nodes=nodes, proxies=proxies) as t:
        client = await t.connect()
        with pytest.raises(Refused, match="internal"):
            await tell(client, "vain", "x")
        (error,) = t.errors
        assert isinstance(error, UsageError)
        assert "no handler (@on)" in str(error)
        t.errors.clear()


async def test_a_node_that_stops_takes_no_visitor_along() -> None:
    async with TestCluster(game(), nodes=2, proxies=1) as t:
        client = await t.connect()
        home = (await request(client, "who")).split()[0]
        other = next(name for name in ("world-1", "world-2") if name != home)
        key = key_on(t, other)
        await tell(client, "enter", key)
        await t.nodes[other].stop()
        assert Hall.log == [f"arrive {key}", f"left {key}"]
        assert client.connected
        with pytest.raises(Refused, match="unknown-route"):
            await request(client, "dig")
        assert (await request(client, "who")).startswith(home)


async def test_a_new_home_has_the_data_that_was_kept() -> None:
    async with TestCluster(game(), nodes=2, proxies=1) as t:
        client = await t.connect()
        await tell(client, "name", "ann")
        home = (await request(client, "who")).split()[0]
        other = next(name for name in ("world-1", "world-2") if name != home)
        await t.advance(1.5)
        t.cut("proxy-1", home)
        await t.advance(5)
        assert (await client.receive("rehomed", Text)).text == "ann"
        assert await request(client, "who") == f"{other} ann"


async def test_a_node_that_stops_hands_its_sessions_on() -> None:
    async with TestCluster(game(), nodes=2, proxies=1) as t:
        client = await t.connect()
        await tell(client, "name", "ann")
        home = (await request(client, "who")).split()[0]
        other = next(name for name in ("world-1", "world-2") if name != home)
        await t.nodes[home].stop()
        assert (await client.receive("rehomed", Text)).text == "ann"
        assert await request(client, "who") == f"{other} ann"
        assert client.connected
        assert f"closed on {home}" not in Hall.log
        client.close()
        await t.advance(1)
        assert Hall.log[-1] == f"closed on {other}"


async def test_a_stale_name_reaches_nobody() -> None:
    async with TestCluster(game(), nodes=2, proxies=1) as t:
        client = await t.connect()
        for ref in (SessionRef("proxy-1", 7, 4097), SessionRef("nowhere", 1, 4097), SessionRef("world-1", 1, 4097)):

            async def send(ref: SessionRef = ref) -> None:
                ref.send("cried", Text("x"))

            await t.task(send(), node="world-1")
        with pytest.raises(RequestTimeout):
            await client.receive("cried", Text)
        assert t.statistics("world-1")["guests"]["sends_lost"] == 3

"""Connections that are cut on purpose: by a relay, in front of real servers; and servers that forget, refuse or lie."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any

import pytest

from photinus.client import Change, Client, Cut, Gap, Renewed, Resumed, Waiting, connect
from photinus.client.reconnecting import FIRST_SECONDS, LONGEST_SECONDS, pauses
from photinus.config import EngineSection, Limits
from photinus.errors import ConnectionLost, HandshakeRefused, SessionLost
from tests.adversity.doors import trusting
from tests.client.game import SCHEMES, Number, Text, World, serving, until
from tests.client.relay import Relay, relaying
from tests.wire.reading import Listener
from tests.wire.reference import encode


@asynccontextmanager
async def playing(
    world: World, scheme: str = "tcp", options: str = "", *, limits: Limits | None = None, **arguments: Any
) -> AsyncIterator[tuple[Client, Relay]]:
    async with (
        serving(world, f"{scheme}://127.0.0.1:0{options}", limits=limits) as node,
        relaying(node.addresses[0]) as relay,
        connect(relay.url, ssl=trusting(), **arguments) as client,
    ):
        yield client, relay


async def login(c: Client) -> None:
    await c.request("login", Text("Ann"))


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_requests_in_flight_survive_a_cut_and_are_answered_once(scheme: str) -> None:
    world = World()
    async with playing(world, scheme) as (c, relay):
        changes = c.changes()
        waiting = [asyncio.create_task(c.request("wait", Text(str(number)), Text)) for number in range(5)]
        await c.request("count", Number(0))
        relay.cut()
        assert isinstance(await anext(changes), Cut)
        assert await anext(changes) == Resumed()
        world.go_on.set()
        assert await asyncio.gather(*waiting) == [Text(str(number)) for number in range(5)]
        assert await c.request("count", Number(1), Number) == Number(1)
        assert world.counted == [0, 1]
        assert (len(world.sessions), world.resumed) == (1, [False])


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_lost_and_nothing_comes_twice(scheme: str, seed: int) -> None:
    """Cuts after any number of bytes in either direction, while requests, messages and pushes are under way."""
    random = Random(seed)
    world = World()
    async with playing(world, scheme) as (c, relay):
        pushed = c.subscribe("pushed", Text, limit=10_000)
        sent = 0
        for turn in range(10):
            relay.to_server, relay.to_client = random.choice(
                [(random.randrange(1, 400), None), (None, random.randrange(1, 400))]
            )
            asking = []
            for _ in range(random.randrange(1, 60)):
                asking.append(asyncio.create_task(c.request("count", Number(sent), Number, timeout=20)))
                sent += 1
            await c.notify("push", Text(str(turn)))
            assert [reply.number for reply in await asyncio.gather(*asking)] == list(range(sent - len(asking), sent))
            relay.to_server = relay.to_client = None
        assert world.counted == list(range(sent))
        await c.request("echo", b"")
        heard = [(await anext(pushed)).text for _ in range(100)]
        assert heard == [f"{turn} {number}" for turn in range(10) for number in range(10)]
        assert relay.connections > 3
        assert set(world.resumed) == {False}
        assert len(world.sessions) == 1


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_each_finds_its_session_on_whichever_reactor_it_is(scheme: str) -> None:
    """A new connection is given to the reactor with the fewest, which seldom is the one where its session lives."""
    world = World()
    engine = EngineSection(threads=4)
    async with (
        serving(world, f"{scheme}://127.0.0.1:0", engine=engine) as node,
        relaying(node.addresses[0]) as relay,
        AsyncExitStack() as all_of_them,
    ):
        clients = [
            await all_of_them.enter_async_context(connect(relay.url, ssl=trusting(), timeout=20)) for _ in range(12)
        ]
        asked = 0
        for turn in range(5):
            heard = [client.subscribe("pushed", Text) for client in clients]
            asking: list[Awaitable[object]] = []
            for client in clients:
                await client.notify("push", Text(str(turn)))
                asking.append(client.request("count", Number(asked), Number, timeout=20))
                asked += 1
            relay.cut()
            await asyncio.gather(*asking)
            for subscription in heard:
                assert [(await anext(subscription)).text for _ in range(10)] == [f"{turn} {at}" for at in range(10)]
                subscription.close()
        assert sorted(world.counted) == list(range(asked))
        assert len(world.sessions) == len(clients)
        assert set(world.resumed) == {False}
        counts = node.statistics()["engine"]
        assert counts["resumed"] >= 4 * len(clients)
        assert (counts["sessions"], counts["resumed_with_gap"]) == (len(clients), 0)


async def test_what_is_said_meanwhile_is_sent_afterwards() -> None:
    world = World()
    async with playing(world, reconnect=20) as (c, relay):
        relay.closed = True
        relay.cut()
        await until(lambda: not c.connected)
        for number in range(10):
            await c.notify("count", Number(number))
            await c.notify("place", Number(number), droppable=True)
        asked = asyncio.create_task(c.request("count", Number(10), Number, timeout=20))
        relay.closed = False
        assert await asked == Number(10)
        assert world.counted == list(range(11))
        assert world.dropped == []


async def test_pushes_meanwhile_come_afterwards() -> None:
    world = World()
    async with playing(world) as (c, relay):
        pushed = c.subscribe("pushed", Text)
        await c.request("echo", b"")
        relay.closed = True
        relay.cut()
        await until(lambda: not world.sessions[0].connected)
        for number in range(3):
            world.sessions[0].send("pushed", Text(str(number)))
        relay.closed = False
        assert [(await anext(pushed)).text for _ in range(3)] == ["0", "1", "2"]


async def test_silence_is_a_cut() -> None:
    world = World()
    async with playing(world, options="?heartbeat=1") as (c, relay):
        changes = c.changes()
        relay.hold()
        assert await anext(changes) == Cut("the server has fallen silent")
        relay.release()
        assert await anext(changes) == Resumed()
        assert await c.request("count", Number(1), Number) == Number(1)


async def test_a_gap() -> None:
    world = World()
    async with playing(world, limits=Limits(resume_session_bytes=2000)) as (c, relay):
        changes = c.changes()
        pushed = c.subscribe("pushed", Text)
        await c.request("echo", b"")
        relay.closed = True
        asked = asyncio.create_task(c.request("wait", Text("x"), timeout=20))
        await c.request("echo", b"")
        relay.cut()
        await until(lambda: not world.sessions[0].connected)
        for _ in range(10):
            world.sessions[0].send("pushed", Text("x" * 500))
        relay.closed = False
        with pytest.raises(ConnectionLost, match="the answer is lost"):
            await asked
        assert isinstance(await anext(changes), Cut)
        assert await anext(changes) == Gap(1)
        # What is asked now is another request, though the late answer to that one comes too.
        world.go_on.set()
        await until(lambda: world.resumed == [True])
        assert await c.request("count", Number(7), Number) == Number(7)
        world.sessions[0].send("pushed", Text("snapshot"))
        assert await anext(pushed) == Text("snapshot")


async def test_after_the_window_a_new_session_is_entered() -> None:
    world = World()
    async with playing(world, options="?resume=1", enter=login) as (c, relay):
        changes = c.changes()
        pushed = c.subscribe("pushed", Text)
        asked = asyncio.create_task(c.request("wait", Text("x"), timeout=20))
        await c.request("echo", b"")
        relay.closed = True
        relay.cut()
        with pytest.raises(ConnectionLost, match="could not be resumed"):
            await asked
        # Ann is there until the last handler of her old session is done.
        world.go_on.set()
        relay.closed = False
        assert isinstance(await anext(changes), Cut)
        assert isinstance(await anext(changes), Renewed)
        assert (await c.request("mine", b"", Text)).text == "Ann"
        await c.notify("push", Text("y"))
        assert await anext(pushed) == Text("y 0")
        assert len(world.sessions) == 2


async def test_after_the_window_it_ends_without_enter() -> None:
    world = World()
    async with playing(world, options="?resume=1") as (c, relay):
        pushed = c.subscribe("pushed")
        relay.closed = True
        relay.cut()
        with pytest.raises(SessionLost, match=r"no connection within 1 s"):
            await anext(pushed)
        with pytest.raises(SessionLost):
            await c.request("echo", b"")


@pytest.mark.parametrize("protocol", ["photinus&resume=0", "pomelo"])
async def test_sessions_that_cannot_be_resumed(protocol: str) -> None:
    world = World()
    async with playing(world, options=f"?protocol={protocol}") as (c, relay):
        relay.cut()
        with pytest.raises(ConnectionLost):
            await anext(c.subscribe("pushed"))
    async with playing(world, options=f"?protocol={protocol}", enter=login) as (c, relay):
        changes = c.changes()
        relay.cut()
        assert isinstance(await anext(changes), Cut)
        assert isinstance(await anext(changes), Renewed)
        assert (await c.request("mine", b"", Text)).text == "Ann"


async def test_nobody_reconnects_who_is_told_not_to() -> None:
    async with playing(World(), reconnect=0) as (c, relay):
        relay.cut()
        with pytest.raises(ConnectionLost):
            await anext(c.subscribe("pushed"))
        assert relay.connections == 1


async def test_patience_ends() -> None:
    async with playing(World(), reconnect=0.3) as (c, relay):
        relay.closed = True
        relay.cut()
        with pytest.raises(ConnectionLost, match=r"no connection within 0.3 s"):
            await anext(c.subscribe("pushed"))


async def test_closing_while_it_is_cut() -> None:
    async with playing(World()) as (c, relay):
        relay.closed = True
        relay.cut()
        await until(lambda: not c.connected)
        asked = asyncio.create_task(c.request("echo", b""))
        await asyncio.sleep(0)
        await c.close()
        with pytest.raises(ConnectionLost, match="closed by this client"):
            await asked


async def test_a_stopped_server_is_the_end() -> None:
    world = World()
    async with serving(world, "tcp://127.0.0.1:0") as node:
        client = connect(node.addresses[0])
        await client.__aenter__()
    # Its kick says so, and a kicked session cannot be resumed.
    with pytest.raises(Exception, match="shutdown"):
        await client.request("echo", b"")
    await client.close()


def test_pauses_grow_and_are_drawn() -> None:
    drawn = [next_pauses(seed, 20) for seed in range(200)]
    assert max(pause[0] for pause in drawn) <= FIRST_SECONDS
    assert FIRST_SECONDS < max(pause[3] for pause in drawn) <= 8 * FIRST_SECONDS
    assert LONGEST_SECONDS / 2 < max(pause[19] for pause in drawn) <= LONGEST_SECONDS
    assert len({pause[19] for pause in drawn}) == 200


def next_pauses(seed: int, count: int) -> list[float]:
    of_seed = pauses(Random(seed))
    return [next(of_seed) for _ in range(count)]


# Servers that do as a test says.

LISTENER = Listener("photinus", {"heartbeat": "30"}, 65536)
TOKEN = bytes(range(20)).hex()
Connection = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def says(*messages: dict[str, Any]) -> bytes:
    return b"".join(encode(LISTENER, message) for message in messages)


def welcome(**fields: Any) -> dict[str, Any]:
    return {"kind": "welcome", "status": 0, "clock": 1, "token": TOKEN, "window": 30_000, **fields}


def refusal(code: str, after: int | None = None) -> dict[str, Any]:
    return {"kind": "refusal", "code": code, "retry_after": after}


@asynccontextmanager
async def scripted(*script: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server whose first connection gets the first of these, and is then closed; the last one stays open."""
    hellos: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hellos.append(await reader.read(1024))
        number = min(len(hellos), len(script)) - 1
        writer.write(script[number])
        if number == len(script) - 1:
            await reader.read()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"tcp://127.0.0.1:{listening.sockets[0].getsockname()[1]}", hellos
    finally:
        listening.close()


async def test_a_line() -> None:
    told: list[Change] = []
    script = says({"kind": "wait", "place": 2, "estimate": 1500}, {"kind": "wait", "place": 1}, welcome())
    async with scripted(script) as (url, _), connect(url, changed=told.append):
        assert told == [Waiting(2, 1.5), Waiting(1, None)]


async def test_in_line_the_time_out_does_not_count() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says({"kind": "wait", "place": 1}))
        await asyncio.sleep(0.4)
        writer.write(says(welcome()))
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with connect(f"tcp://127.0.0.1:{port}", timeout=0.2) as c:
            assert c.connected


async def test_refused_at_first() -> None:
    async with scripted(says(refusal("overloaded", 2000))) as (url, _):
        with pytest.raises(HandshakeRefused) as refused:
            async with connect(url):
                pass
    assert (refused.value.code, refused.value.retry_after) == ("overloaded", 2.0)


async def test_refused_later_it_comes_again_when_it_is_told_to() -> None:
    script = [says(welcome()), says(refusal("overloaded", 100)), says(welcome(status=1, received=0))]
    told: list[Change] = []
    async with scripted(*script) as (url, hellos), connect(url, changed=told.append):
        await until(lambda: len(told) == 2)
        assert isinstance(told[0], Cut)
        assert told[1] == Resumed()
        assert len(hellos) == 3
        assert bytes.fromhex(TOKEN) not in hellos[0]
        assert all(bytes.fromhex(TOKEN) in hello for hello in hellos[1:])


@pytest.mark.parametrize("code", ["resume-unknown", "resume-forged", "resume-replayed"])
async def test_a_token_that_is_refused(code: str) -> None:
    script = [says(welcome()), says(refusal(code)), says(welcome())]
    async with scripted(*script) as (url, _), connect(url) as c:
        with pytest.raises(SessionLost, match=code):
            await anext(c.subscribe("pushed"))

    async def enter(c: Client) -> None:
        pass

    told: list[Change] = []
    async with scripted(*script) as (url, hellos), connect(url, enter=enter, changed=told.append):
        await until(lambda: len(told) == 2)
        assert isinstance(told[0], Cut)
        assert told[1] == Renewed(code)
        assert bytes.fromhex(TOKEN) not in hellos[2]


@pytest.mark.parametrize("code", ["version", "bad-handshake"])
async def test_what_trying_again_will_not_change(code: str) -> None:
    async with scripted(says(welcome()), says(refusal(code))) as (url, hellos), connect(url) as c:
        with pytest.raises(HandshakeRefused, match=code):
            await anext(c.subscribe("pushed"))
        assert len(hellos) == 2


async def test_a_server_that_lies_is_left() -> None:
    lie = says(welcome(), {"kind": "heartbeat", "received": 9, "clock": 1, "echo": 0, "held": 0, "rate": 1})
    async with scripted(lie) as (url, hellos), connect(url) as c:
        with pytest.raises(ConnectionLost, match="bad-frame"):
            await anext(c.subscribe("pushed"))
        assert len(hellos) == 1


async def test_servers_that_send_it_to_each_other() -> None:
    there = b"tcp://127.0.0.1:%d"
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(says(welcome(), {"kind": "redirect", "body": (there % port).hex()}))
        writer.close()

    async def enter(c: Client) -> None:
        pass

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionLost, match=r"sent on 6 times|status 0"):
            async with connect(f"tcp://127.0.0.1:{port}", enter=enter) as c:
                await anext(c.subscribe("pushed"))
    assert connections <= 6


async def test_an_encrypted_connection_is_not_followed_by_a_plain_one() -> None:
    world = World()
    async with playing(world, "tls") as (c, _):
        with pytest.raises(ConnectionLost, match="not encrypted"):
            await c.request("go", Text("tcp://localhost:7000"))


async def test_who_sends_more_than_can_be_kept_waits() -> None:
    world = World()
    async with playing(world, reconnect=20) as (c, relay):
        relay.closed = True
        relay.cut()
        await until(lambda: not c.connected)
        body = bytes(60_000)
        sent = 0

        async def send() -> None:
            nonlocal sent
            for _ in range(40):
                await c.notify("echo", body)
                sent += 1

        sending = asyncio.create_task(send())
        await until(lambda: sent >= 17)
        for _ in range(100):
            await asyncio.sleep(0)
        assert sent < 20
        relay.closed = False
        await sending
        assert await c.request("echo", b"x", timeout=20) == b"x"

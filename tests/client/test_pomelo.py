"""The client in the pomelo protocol: against a node, and against servers that do not do as they should."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from msgspec import Struct

from photinus import App, Node, Refused, Routes, Session
from photinus.client import Client, connect
from photinus.client.events import Kick, Opened, ProtocolError, Push, Response
from photinus.client.pomelo import Pomelo
from photinus.errors import ConfigError, ConnectionLost, Kicked, RequestTimeout


class Text(Struct):
    text: str


def game() -> App:
    routes = Routes()

    @routes.on("echo", public=True)
    def echo(session: Session, body: bytes) -> bytes:
        return body

    @routes.on("sleep", public=True)
    async def sleep(session: Session, msg: Text) -> None:
        await asyncio.sleep(0.3)

    @routes.on("refuse", public=True)
    def refuse(session: Session, msg: Text) -> None:
        raise Refused("too-poor", missing=3)

    @routes.on("push", public=True)
    def push(session: Session, msg: Text) -> None:
        for number in range(10):
            session.send("pushed", Text(f"{msg.text} {number}"))

    @routes.on("kick", public=True)
    def kick(session: Session, msg: Text) -> None:
        session.send("pushed", Text("bye"))
        session.kick(msg.text)

    return App("game", routes=[routes])


@asynccontextmanager
async def playing() -> AsyncIterator[Client]:
    node = Node(game(), listen=["tcp://127.0.0.1:0?protocol=pomelo&heartbeat=1"])
    async with node, connect(node.addresses[0]) as client:
        yield client


async def test_requests() -> None:
    async with playing() as c:
        assert await c.request("echo", Text("x")) == b'{"text":"x"}'
        assert await c.request("echo", Text("x"), Text) == Text("x")
        bodies = [b"%d" % number for number in range(500)]
        assert await asyncio.gather(*(c.request("echo", body) for body in bodies)) == bodies


async def test_a_refusal() -> None:
    async with playing() as c:
        with pytest.raises(Refused) as raised:
            await c.request("refuse", Text("x"))
        assert (raised.value.code, raised.value.fields) == ("too-poor", {"missing": 3})


async def test_a_time_out() -> None:
    async with playing() as c:
        with pytest.raises(RequestTimeout, match=r"no answer to 'sleep' within 0.01 s"):
            await c.request("sleep", Text("x"), timeout=0.01)


async def test_pushes() -> None:
    async with playing() as c:
        pushed = c.subscribe("pushed", Text)
        also = c.subscribe("pushed")
        await c.notify("push", Text("x"))
        assert [(await anext(pushed)).text for _ in range(10)] == [f"x {number}" for number in range(10)]
        assert await anext(also) == b'{"text":"x 0"}'


async def test_a_slow_subscriber_loses_the_oldest() -> None:
    async with playing() as c:
        pushed = c.subscribe("pushed", Text, limit=3)
        await c.request("push", Text("x"))
        pushed.close()
        assert [message.text async for message in pushed] == ["x 7", "x 8", "x 9"]
        assert pushed.dropped == 7


async def test_a_kick() -> None:
    async with playing() as c:
        pushed = c.subscribe("pushed", Text)
        # The kick comes in the place of its answer.
        with pytest.raises(Kicked, match="cheating"):
            await c.request("kick", Text("cheating"))
        # What came before is still there, and then the reason.
        assert await anext(pushed) == Text("bye")
        with pytest.raises(Kicked, match="cheating"):
            await anext(pushed)
        with pytest.raises(Kicked, match="cheating"):
            await c.request("echo", b"x")
        with pytest.raises(Kicked, match="cheating"):
            await anext(c.subscribe("pushed"))


async def test_closing_ends_what_waits() -> None:
    async with playing() as c:
        pushed = c.subscribe("pushed")
        waiting = asyncio.create_task(c.request("sleep", Text("x")))
        # Two turns: one in which the task starts, and one more.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await c.close()
        with pytest.raises(ConnectionLost, match="closed by this client"):
            await waiting
        assert [body async for body in pushed] == []
        with pytest.raises(ConnectionLost):
            await c.notify("echo", b"x")


async def test_heartbeats_keep_it_alive() -> None:
    async with playing() as c:
        # More than the two seconds after which either side would give up.
        await asyncio.sleep(2.5)
        assert await c.request("echo", b"x") == b"x"


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:1",
        "tcp://localhost",
        "tcp://:7000",
        "tcp://localhost:99999",
        "nonsense",
        "tcp://h:1?protocol=length",
    ],
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ConfigError):
        connect(url)


async def test_nobody_listens() -> None:
    with pytest.raises(ConnectionLost, match=r"refused|Connect call failed"):
        async with connect("tcp://127.0.0.1:1"):
            pass


Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(behave: Behaviour) -> AsyncIterator[str]:
    """A server that does what it is told here; the URL of it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await behave(reader, writer)
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"tcp://127.0.0.1:{listening.sockets[0].getsockname()[1]}?protocol=pomelo"


def package(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


async def test_a_server_that_says_nothing() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with server(silent) as url:
        with pytest.raises(ConnectionLost, match=r"no handshake within 0.05 s"):
            async with connect(url, timeout=0.05):
                pass


async def test_a_server_that_refuses() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(package(1, b'{"code":501}'))
        await writer.drain()

    async with server(refuse) as url:
        with pytest.raises(ConnectionLost, match="refused the handshake with code 501"):
            async with connect(url):
                pass


async def test_a_server_that_leaves_or_falls_silent_or_talks_nonsense() -> None:
    async def handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heartbeat: bytes) -> None:
        await reader.read(1000)
        writer.write(package(1, b'{"code":200,"sys":{"heartbeat":%s}}' % heartbeat))
        await reader.readexactly(4)

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await handshake(reader, writer, b"30")

    async def fall_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await handshake(reader, writer, b"0.02")
        await reader.read()

    async def talk_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await handshake(reader, writer, b"30")
        writer.write(package(9, b""))
        await reader.read()

    for behave, reason in (
        (leave, "closed by the server"),
        (fall_silent, "the server has fallen silent"),
        (talk_nonsense, "unexpected package of type 9"),
    ):
        async with server(behave) as url, connect(url) as c:
            with pytest.raises(ConnectionLost, match=reason):
                await anext(c.subscribe("pushed"))


class TestPomelo:
    """The protocol without a connection."""

    def opened(self) -> Pomelo:
        protocol = Pomelo()
        out = bytearray()
        protocol.handshake(out)
        assert out[0] == 1
        out.clear()
        protocol.handle_data(package(1, b'{"code":200,"sys":{"heartbeat":3}}'), out)
        assert out == package(2, b"")
        assert protocol.poll_event() == Opened(3.0)
        assert protocol.poll_event() is None
        return protocol

    def test_bytes_in_any_pieces(self) -> None:
        protocol = self.opened()
        data = package(4, b"\x04\x81\x01body") + package(4, b"\x06\x04said{}") + package(3, b"")
        out = bytearray()
        for byte in data:
            protocol.handle_data(bytes([byte]), out)
        assert protocol.poll_event() == Response(129, b"body", error=False)
        assert protocol.poll_event() == Push("said", b"{}")
        assert out == package(3, b"")

    def test_an_error_answer(self) -> None:
        protocol = self.opened()
        protocol.handle_data(package(4, b"\x24\x01{}"), bytearray())
        assert protocol.poll_event() == Response(1, b"{}", error=True)

    def test_what_is_sent(self) -> None:
        protocol = self.opened()
        out = bytearray()
        assert protocol.request("say", b"{}", out) == 1
        assert out == package(4, b"\x00\x01\x03say{}")
        out.clear()
        protocol.notify("say", b"{}", out)
        assert out == package(4, b"\x02\x03say{}")
        numbers = [protocol.request("say", b"", out := bytearray()) for _ in range(200)]
        assert numbers == list(range(2, 202))
        assert out == package(4, b"\x00\xc9\x01\x03say")

    def test_kicks(self) -> None:
        for body, reason in ((b'{"reason":"cheating"}', "cheating"), (b"", "kicked"), (b"\xff", "kicked")):
            protocol = self.opened()
            protocol.handle_data(package(5, body), bytearray())
            assert protocol.poll_event() == Kick(reason)

    @pytest.mark.parametrize(
        "data",
        [
            package(9, b""),
            package(1, b'{"code":200}'),
            package(4, b""),
            package(4, b"\x14\x01{}"),
            package(4, b"\x00\x01\x03say"),
            package(4, b"\x07\x00\x01{}"),
            package(4, b"\x06\x09said"),
            package(4, b"\x06"),
            package(4, b"\x04\xff\xff\xff\xff\xff\xff"),
            package(4, b"\x04\x80"),
        ],
    )
    def test_what_is_not_allowed_ends_it_for_good(self, data: bytes) -> None:
        protocol = self.opened()
        with pytest.raises(ProtocolError) as first:
            protocol.handle_data(data, bytearray())
        with pytest.raises(ProtocolError) as second:
            protocol.handle_data(package(3, b""), bytearray())
        assert first.value is second.value

    def test_what_cannot_be_sent(self) -> None:
        protocol = self.opened()
        with pytest.raises(ValueError, match="255 bytes"):
            protocol.notify("x" * 256, b"", bytearray())
        with pytest.raises(ValueError, match="16777215 bytes"):
            protocol.notify("x", bytes(2**24), bytearray())

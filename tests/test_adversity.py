"""Bad input and bad behaviour, over sockets: it ends its own connection, is counted, and touches no other."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable

import pytest
from msgspec import Struct

from photinus import App, Closed, Group, Node, Refused, Routes, Session
from photinus.client import connect
from photinus.config import Config, Limits

lobby = Group("lobby")


class Number(Struct):
    value: int


class World:
    """Everything a hostile client may want, and a note of how sessions ended."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.ends: list[tuple[str, str]] = []
        self.handled: list[bytes] = []
        routes = Routes()

        @routes.opened
        def opened(session: Session) -> None:
            self.sessions.append(session)
            lobby.add(session)

        @routes.on("echo", public=True)
        def echo(session: Session, body: bytes) -> bytes:
            return body

        @routes.on("note", public=True)
        def note(session: Session, body: bytes) -> None:
            self.handled.append(body)

        @routes.default
        def anything(session: Session, body: bytes) -> bytes:
            self.handled.append(body)
            return body

        @routes.closed
        def closed(session: Session, reason: Closed) -> None:
            self.ends.append((reason.by, reason.reason))

        self.app = App("world", routes=[routes])


def place(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("tcp://").partition("?")[0].rpartition(":")
    return host, int(port)


@contextlib.asynccontextmanager
async def node_of(world: World, protocol: str, **limits: int) -> AsyncIterator[Node]:
    config = Config(limits=Limits(**limits))
    async with Node(world.app, listen=[f"tcp://127.0.0.1:0?protocol={protocol}"], config=config) as node:
        yield node


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in the engine, or in a thread
            await asyncio.sleep(0.005)


def package(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


HELLO = package(1, b'{"sys":{"type":"test","version":"1"},"user":{}}') + package(2, b"")
FIREFLY = bytes(9)


async def until_closed(address: str, data: bytes) -> bytes:
    """Says this, and gives what was answered before the server closed the connection."""
    reader, writer = await asyncio.open_connection(*place(address))
    writer.write(data)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("protocol", "data", "reason"),
    [
        ("length4", b"\xff\xff\xff\xff", "too-long"),
        ("length4", b"\x00\x01\x00\x01", "too-long"),
        ("length2", b"\xff\xff" + bytes(2000), "too-long"),
        ("firefly", b"\x01" + bytes(30), "bad-magic"),
        ("firefly", FIREFLY + b"\xff\xff\xff\xff" + bytes(4), "too-long"),
        ("firefly", FIREFLY + b"\x00\x00\x00\x03" + bytes(4), None),
        ("pomelo", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", None),
        ("pomelo", b"\x01\xff\xff\xff", "too-long"),
        ("pomelo", package(1, b"{nonsense"), "bad-handshake"),
        ("pomelo", package(4, b"\x00\x01\x04echo{}"), "bad-handshake"),
        ("pomelo", HELLO + package(9, b""), None),
        ("pomelo", HELLO + b"\x04\xff\xff\xff", "too-long"),
        ("pomelo", HELLO + package(4, b""), "bad-frame"),
        ("pomelo", HELLO + package(4, b"\x00\xff\xff\xff\xff\xff\xff\xff\x04echo"), "bad-frame"),
        ("pomelo", HELLO + package(4, b"\x00\x01\xffecho"), "bad-frame"),
        ("pomelo", HELLO + package(4, b"\x00\x01\x02\xff\xfe{}"), "bad-frame"),
        ("pomelo", HELLO + package(4, b"\x04\x01{}"), "bad-frame"),
        ("pomelo", HELLO + package(4, b"\x10\x01\x04echo{}"), "compression-unsupported"),
    ],
)
async def test_a_malformed_frame(protocol: str, data: bytes, reason: str | None) -> None:
    world = World()
    async with node_of(world, protocol, max_payload=1024) as node:
        bystander, writer = await asyncio.open_connection(*place(node.addresses[0]))
        await until_closed(node.addresses[0], data)
        # A frame of another client, before and after, is as good as ever.
        good = {
            "length4": b"\x00\x00\x00\x02ok",
            "length2": b"\x00\x02ok",
            "firefly": FIREFLY + b"\x00\x00\x00\x06\x00\x00\x00\x07ok",
            "pomelo": HELLO + package(4, b"\x00\x01\x04echook"),
        }[protocol]
        writer.write(good)
        answer = b""
        while not answer.endswith(b"ok"):
            answer += await bystander.read(1000)
        errors = node.statistics()["wire_errors"]
        assert sum(errors.values()) == 1
        assert reason is None or list(errors) == [reason]
        writer.close()
    assert all(by in ("protocol", "client", "server") for by, _ in world.ends)


@pytest.mark.parametrize(
    ("protocol", "data", "counter"),
    [
        ("length4", b"\x00\x00\x00\x08half", "closed_frame_timeout"),
        ("firefly", FIREFLY[:5], "closed_frame_timeout"),
        ("pomelo", b"", "closed_handshake_timeout"),
        ("pomelo", HELLO[:20], "closed_handshake_timeout"),
        ("pomelo", HELLO + b"\x04\x00", "closed_frame_timeout"),
    ],
)
async def test_half_a_frame_and_then_silence(protocol: str, data: bytes, counter: str) -> None:
    async with node_of(World(), protocol, frame_ms=150, handshake_ms=100) as node:
        began = time.monotonic()
        await until_closed(node.addresses[0], data)
        assert 0.05 < time.monotonic() - began < 5
        assert node.statistics()["engine"][counter] == 1


async def test_a_client_that_says_nothing_may_stay_where_there_is_no_handshake() -> None:
    async with node_of(World(), "length4", frame_ms=50, handshake_ms=50) as node:
        reader, writer = await asyncio.open_connection(*place(node.addresses[0]))
        await asyncio.sleep(0.3)
        writer.write(b"\x00\x00\x00\x02ok")
        assert await reader.readexactly(6) == b"\x00\x00\x00\x02ok"
        writer.close()


async def test_a_client_that_never_reads() -> None:
    world = World()
    async with node_of(world, "length4", outbound_session_bytes=256 * 1024) as node:
        slow = socket.create_connection(place(node.addresses[0]))
        reader, writer = await asyncio.open_connection(*place(node.addresses[0]), limit=2**24)
        await until(lambda: len(lobby) == 2)
        message = bytes(32 * 1024)
        received = 0
        for _ in range(400):
            lobby.send("news", message)
            received += len(await reader.readexactly(4 + len(message)))
        assert received == 400 * (4 + len(message))
        await until(lambda: world.ends)
        assert [reason for _, reason in world.ends] == ["slow"]
        assert len(lobby) == 1
        assert node.statistics()["engine"]["closed_slow"] == 1
        slow.close()
        writer.close()


async def test_connects_and_disconnects_while_broadcasts_run() -> None:
    world = World()
    async with node_of(world, "length4") as node:
        host, port = place(node.addresses[0])
        lobby_sends = 0

        def storm() -> None:
            for number in range(2000):
                with socket.create_connection((host, port)) as client:
                    if number % 3 == 0:
                        client.sendall(b"\x00\x00\x00\x02ok")
                    if number % 5 == 0:
                        # Reset, not closed.
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

        storming = asyncio.create_task(asyncio.to_thread(storm))
        while not storming.done():
            lobby.send("news", b"x" * 200)
            lobby_sends += 1
            await asyncio.sleep(0.001)
        await storming
        await until(lambda: node.statistics()["engine"]["sessions"] == 0)
        assert len(lobby) == 0
        assert lobby_sends > 10
        assert len(world.ends) == len(world.sessions)
        seen = node.statistics()["engine"]
        assert seen["accepted"] == 2000
        assert seen["sessions_opened"] == seen["sessions_closed"] == 2000


async def test_many_tasks_and_threads_send_to_one_session() -> None:
    world = World()
    async with node_of(world, "length4", outbound_session_bytes=64 * 2**20) as node:
        reader, writer = await asyncio.open_connection(*place(node.addresses[0]))
        await until(lambda: world.sessions)
        (session,) = world.sessions
        each = 50

        async def task(sender: int) -> None:
            for number in range(each):
                session.send("n", b"%d %d " % (sender, number) + b"." * (sender % 97))
                if number % 7 == 0:
                    await asyncio.sleep(0)

        def thread(sender: int) -> None:
            for number in range(each):
                session.send("n", b"%d %d " % (sender, number) + b"." * (sender % 97))

        threads = [threading.Thread(target=thread, args=(100 + number,)) for number in range(10)]
        for each_thread in threads:
            each_thread.start()
        await asyncio.gather(*(task(number) for number in range(100)))
        heard: dict[int, list[int]] = {}
        for _ in range(110 * each):
            frame = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
            sender, number, rest = frame.split(b" ")
            assert rest == b"." * (int(sender) % 97)
            heard.setdefault(int(sender), []).append(int(number))
        assert heard == {sender: list(range(each)) for sender in range(110)}
        for each_thread in threads:
            each_thread.join()
        writer.close()


def stuck(seconds: float) -> None:
    """Keeps the loop's thread in pure Python."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


async def test_a_stuck_loop_loses_nobody() -> None:
    world = World()
    beats: list[float] = []
    sent = [b"%d" % number for number in range(2000)]

    def player(host: str, port: int) -> None:
        with socket.create_connection((host, port), timeout=10) as client:
            client.sendall(HELLO)
            ready.set()
            for body in sent:
                client.sendall(package(4, b"\x02\x04note" + body))
            data = b""
            while not done.is_set():
                try:
                    data += client.recv(65536)
                except TimeoutError:
                    break
                while len(data) >= 4 and len(data) >= (end := 4 + int.from_bytes(data[1:4], "big")):
                    if data[0] == 3:
                        beats.append(time.monotonic())
                        client.sendall(package(3, b""))
                    data = data[end:]

    ready, done = threading.Event(), threading.Event()
    async with node_of(world, "pomelo&heartbeat=1") as node:
        thread = threading.Thread(target=player, args=place(node.addresses[0]))
        thread.start()
        await asyncio.to_thread(ready.wait)
        began = time.monotonic()
        # More than the two intervals after which a silent client is given up.
        stuck(5)
        assert len([beat for beat in beats if began < beat < began + 5]) >= 3
        await until(lambda: len(world.handled) == len(sent))
        assert world.handled == sent
        assert world.ends == []
        done.set()
        await asyncio.to_thread(thread.join)


async def test_a_flood_is_stopped_by_tcp_and_memory_stays_bounded() -> None:
    world = World()
    bound = 256 * 1024
    frame = package(4, b"\x02\x04note" + bytes(1024))
    stopped, over = threading.Event(), threading.Event()
    sent = 0

    def flood(host: str, port: int) -> None:
        nonlocal sent
        with socket.create_connection((host, port)) as client:
            client.sendall(HELLO)
            client.setblocking(False)
            rest = memoryview(b"")
            while not stopped.is_set():
                rest = rest or memoryview(frame * 64)
                try:
                    count = client.send(rest)
                except BlockingIOError:
                    time.sleep(0.01)
                    continue
                sent += count
                rest = rest[count:]
            over.wait()

    async with node_of(world, "pomelo", inbound_session_bytes=bound) as node:
        thread = threading.Thread(target=flood, args=place(node.addresses[0]))
        thread.start()
        await until(lambda: world.handled)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        stuck(1)
        seen = node.statistics()["engine"]
        assert seen["paused_session"] >= 1
        # One read may overshoot it.
        assert seen["unhandled_bytes"] <= bound + 128 * 1024
        # In KiB.
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024
        stopped.set()
        await until(lambda: len(world.handled) == sent // len(frame))
        assert set(world.handled) == {bytes(1024)}
        over.set()
        await asyncio.to_thread(thread.join)


async def test_a_client_may_be_wrong_many_times() -> None:
    """Answers that are errors cost no more than others: the connection goes on."""
    world = World()
    async with node_of(world, "pomelo") as node, connect(node.addresses[0]) as client:
        for number in range(200):
            with pytest.raises(Refused, match="unknown-route"):
                await client.request(f"nowhere-{number}", b"{}")
        assert await client.request("echo", b"{}") == b"{}"
        assert node.statistics()["app"]["refused"] == 200

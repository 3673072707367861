from __future__ import annotations

import asyncio
import time

import pytest
import uvloop
from msgspec import Struct

from photinus import App, Refused, Routes, Session
from photinus.config import Config, Limits
from photinus.errors import ConfigError, ConnectionLost, HandshakeRefused, RequestTimeout, UsageError
from photinus.testing import TestCluster


class Text(Struct):
    text: str


def game() -> App:
    routes = Routes()

    @routes.on("echo", public=True)
    def echo(session: Session, body: bytes) -> bytes:
        return body

    @routes.on("slow", public=True)
    async def slow(session: Session, msg: Text) -> Text:
        await asyncio.sleep(0.5)
        return msg

    @routes.on("thread", public=True)
    async def thread(session: Session, msg: Text) -> Text:
        await asyncio.to_thread(time.sleep, 0.05)
        return msg

    @routes.on("push", public=True)
    def push(session: Session, msg: Text) -> None:
        session.send("pushed", msg)

    @routes.on("fail", public=True)
    def fail(session: Session, msg: Text) -> None:
        raise RuntimeError(msg.text)

    @routes.default
    def anything(session: Session, body: bytes) -> bytes:
        return body[::-1]

    return App("game", routes=[routes])


async def test_time_passes_without_passing() -> None:
    began = time.perf_counter()
    async with TestCluster(game()) as t:
        start = t.now
        await t.advance(3600)
        assert t.now - start == pytest.approx(3600)
        await asyncio.sleep(3600)
        assert t.now - start == pytest.approx(7200)
    assert time.perf_counter() - began < 30


async def test_a_wait_moves_time_no_further_than_it_must() -> None:
    async with TestCluster(game()) as t:
        ann = await t.connect()
        start = t.now
        await ann.request("echo", b"{}")
        assert t.now == start
        await ann.request("slow", Text("x"))
        assert t.now - start == pytest.approx(0.5)


async def test_sleepers_wake_in_their_order() -> None:
    async with TestCluster(game()) as t:
        woken: list[float] = []

        async def sleeper(seconds: float) -> None:
            await asyncio.sleep(seconds)
            woken.append(round(t.now - start, 9))

        start = t.now
        tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (0.3, 0.1, 0.25, 0.1)]
        await t.advance(0.2)
        assert woken == [0.1, 0.1]
        await t.advance(0.1)
        assert woken == [0.1, 0.1, 0.25, 0.3]
        await asyncio.gather(*tasks)


async def test_threads_take_no_virtual_time() -> None:
    async with TestCluster(game()) as t:
        ann = await t.connect()
        start = t.now
        await ann.request("thread", Text("x"))
        assert t.now == start
        ended = asyncio.create_task(asyncio.to_thread(time.sleep, 0.05))
        await t.settle()
        assert ended.done()


async def test_receive_takes_one_of_its_route() -> None:
    async with TestCluster(game()) as t:
        ann = await t.connect()
        await ann.notify("push", Text("1"))
        await ann.notify("push", Text("2"))
        assert await ann.receive("pushed", Text) == Text("1")
        assert await ann.receive("pushed", Text) == Text("2")
        await ann.notify("push", Text("3"))
        start = t.now
        with pytest.raises(RequestTimeout, match=r"no push 'other' after 1 s; what did come: Push\(route='pushed'"):
            await ann.receive("other")
        assert t.now - start == pytest.approx(1)
        assert await ann.receive("pushed", Text) == Text("3")


async def test_a_request_without_an_answer() -> None:
    async with TestCluster(game()) as t:
        ann = await t.connect()
        with pytest.raises(RequestTimeout, match=r"no answer to 'slow' after 0\.2 s"):
            await ann.request("slow", Text("x"), timeout=0.2)
        # The late answer is nobody's.
        await t.advance(1)
        assert await ann.request("slow", Text("y"), Text) == Text("y")


async def test_plain_clients() -> None:
    async with TestCluster(game()) as t:
        raw = await t.connect("length4")
        assert await raw.request(b"abc") == b"cba"
        firefly = await t.connect("firefly")
        await firefly.send(b"abc", command=77)
        packet = await firefly.receive()
        assert (packet.body, packet.command) == (b"cba", 77)
        with pytest.raises(RequestTimeout, match="no packet after 1 s; nothing came"):
            await raw.receive()


async def failing(error: type[Exception] | None = None) -> None:
    """A test in which a handler fails, and which then fails itself if it is given an error."""
    async with TestCluster(game()) as t:
        ann = await t.connect()
        with pytest.raises(Refused, match="internal"):
            await ann.request("fail", Text("oh"))
        assert [str(error) for error in t.errors] == ["oh"]
        if error is not None:
            raise error


async def test_an_error_of_a_handler_fails_the_test() -> None:
    with pytest.raises(BaseExceptionGroup) as raised:
        await failing()
    assert [str(error) for error in raised.value.exceptions] == ["oh"]


async def test_unless_it_was_looked_at() -> None:
    async with TestCluster(game()) as t:
        ann = await t.connect()
        await ann.notify("fail", Text("oh"))
        await t.settle()
        assert str(t.errors.pop()) == "oh"


async def test_the_test_s_own_error_comes_first() -> None:
    with pytest.raises(KeyError):
        await failing(KeyError)


async def test_the_loop_is_given_back() -> None:
    loop = asyncio.get_running_loop()
    async with TestCluster(game()) as t:
        await t.advance(1000)
    before = loop.time()
    assert abs(before - time.monotonic()) < 1
    began = time.perf_counter()
    await asyncio.sleep(0.02)
    assert time.perf_counter() - began >= 0.015


async def test_each_run_is_the_same() -> None:
    async def run() -> list[float]:
        async with TestCluster(game(), seed=7) as t:
            ann = await t.connect()
            await ann.request("slow", Text("x"))
            return [t.random.random(), t.random.random()]

    assert await run() == await run()


def test_uvloop_is_refused() -> None:
    async def main() -> None:
        async with TestCluster(game()):
            pass

    with (
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        pytest.raises(UsageError, match=r"virtual time needs a loop of the standard library .*, not uvloop"),
    ):
        runner.run(main())


async def test_protocols_that_there_are() -> None:
    async with TestCluster(game()) as t:
        with pytest.raises(ConfigError, match="protocol 'smoke': expected photinus, pomelo, length4 or firefly"):
            await t.connect("smoke")  # type: ignore[call-overload]


async def test_a_client_that_leaves() -> None:
    async with TestCluster(game()) as t:
        ann = await t.connect()
        ann.close()
        assert not ann.connected
        await t.settle()
        assert t.statistics()["engine"]["sessions"] == 0


async def test_a_cut_and_its_resumption() -> None:
    resumed: list[bool] = []
    app = game()

    async with TestCluster(with_resumed(app, resumed)) as t:
        ann = await t.connect()
        slow = asyncio.create_task(ann.request("slow", Text("x"), Text, timeout=20))
        await t.settle()
        ann.cut()
        # What is said meanwhile is not lost, and what was asked is answered once.
        await ann.notify("push", Text("1"))
        await t.advance(5)
        assert not slow.done()
        assert ann.received("pushed") == 0
        assert await ann.resume() is False
        assert await slow == Text("x")
        assert await ann.receive("pushed", Text) == Text("1")
        assert resumed == [False]
        assert t.statistics()["engine"]["sessions"] == 1


async def test_a_session_is_resumed_by_itself() -> None:
    async with TestCluster(game()) as t:
        ann = await t.connect()
        start = t.now
        ann.cut(resume_after=2.5)
        assert await ann.request("echo", b"x", timeout=10) == b"x"
        assert t.now - start == pytest.approx(2.5)


async def test_after_the_window_there_is_nothing_to_resume() -> None:
    async with TestCluster(game()) as t:
        ann = await t.connect(options="resume=3")
        ann.cut()
        await t.advance(2.9)
        assert t.statistics()["engine"]["sessions"] == 1
        await t.advance(0.5)
        assert t.statistics()["engine"]["sessions"] == 0
        with pytest.raises(HandshakeRefused, match="resume-unknown"):
            await ann.resume()
        with pytest.raises(ConnectionLost):
            await ann.request("echo", b"x")


async def test_a_gap() -> None:
    resumed: list[bool] = []
    sessions: list[Session] = []
    config = Config(limits=Limits(resume_session_bytes=1024))
    async with TestCluster(with_resumed(game(), resumed, sessions), config=config) as t:
        ann = await t.connect()
        slow = asyncio.create_task(ann.request("slow", Text("x"), Text, timeout=20))
        await t.settle()
        ann.cut()
        await t.advance(1)
        # More than is kept, and with it the answer is gone.
        sessions[0].send("pushed", Text("y" * 2000))
        await t.settle()
        assert await ann.resume() is True
        with pytest.raises(ConnectionLost, match="the answer is lost"):
            await slow
        assert resumed == [True]
        assert ann.received("pushed") == 0
        assert await ann.request("echo", b"x") == b"x"


async def test_a_client_without_a_connection_cannot_be_cut() -> None:
    async with TestCluster(game()) as t:
        ann = await t.connect()
        ann.cut()
        with pytest.raises(UsageError, match="no connection"):
            ann.cut()
        ann.close()


async def test_the_server_s_clock() -> None:
    async with TestCluster(game()) as t:
        ann = await t.connect(options="heartbeat=1")
        await t.advance(1.5)
        first = ann.server_time
        assert first is not None
        await t.advance(10)
        assert ann.server_time == pytest.approx(first + 10, abs=0.001)


def with_resumed(app: App, resumed: list[bool], sessions: list[Session] | None = None) -> App:
    routes = Routes()

    @routes.opened
    def opened(session: Session) -> None:
        if sessions is not None:
            sessions.append(session)

    @routes.resumed
    def again(session: Session, gap: bool) -> None:
        resumed.append(gap)

    return App(app.name, routes=[*app.routes, routes])


async def test_text_that_is_no_utf8_is_the_clients_fault() -> None:
    async with TestCluster(game()) as t:
        ann = await t.connect()
        with pytest.raises(Refused, match="bad-message"):
            await ann.request("push", b"\x81\xa4text\xa1\x80", bytes)
        assert t.statistics()["app"]["bad_messages"] == 1
        assert t.statistics()["app"]["handler_errors"] == 0

"""Handlers on every loop there is, at a loop's end, and through an interrupt."""

from __future__ import annotations

import asyncio
import gc
import socket
from typing import Any

import pytest

from photinus import App, Node, Routes, Session
from photinus.testing import TestCluster
from tests.adversity.servers import LOOPS, serve, serving


async def fails() -> None:
    await asyncio.sleep(0)
    raise LookupError("a child")


async def what_a_task_can_do() -> list[object]:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    seen: list[object] = []
    for future in (loop.create_future(), asyncio.Future[str](loop=loop)):
        loop.call_soon(future.set_result, "value")
        seen.append(await future)
    seen.append(await loop.run_in_executor(None, str, 7))
    try:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)
    except TimeoutError:
        seen.append("timeout")
    try:
        await asyncio.wait_for(asyncio.Event().wait(), 0.01)
    except TimeoutError:
        seen.append("wait_for")
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            await asyncio.sleep(60)
    except* LookupError:
        seen.append("group")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        _, writer = await asyncio.open_connection(*listening.getsockname())
        accepted, _ = await loop.sock_accept(listening)
        accepted.close()
        writer.close()
        await writer.wait_closed()
    seen.append([asyncio.current_task() is task, task in asyncio.all_tasks(), task.cancelling()])
    return seen


@pytest.mark.parametrize("loop", LOOPS)
def test_what_a_task_can_do_on_any_loop(loop: str) -> None:
    async def handler(session: Session, body: bytes) -> bytes:
        return repr(await what_a_task_can_do()).encode()

    expected = asyncio.run(what_a_task_can_do())
    with serve(serving(handler).app, "length4", loop=loop) as server:
        client = server.connect("length4")
        for _ in range(3):
            assert client.ask(b"").body == repr(expected).encode()


@pytest.mark.parametrize("loop", LOOPS)
def test_one_that_waits_is_cancelled_on_any_loop(loop: str) -> None:
    ended: list[object] = []
    tasks: list[Any] = []

    async def handler(session: Session, body: bytes) -> None:
        tasks.append(asyncio.current_task())
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            ended.append(asyncio.current_task() is tasks[0])
            raise

    def cancel() -> None:
        (task,) = server.node.engine.suspended()
        task.cancel()

    with serve(serving(handler).app, "length4", loop=loop) as server:
        server.connect("length4").say(b"")
        server.until(lambda: tasks)
        server.call(cancel)
        server.until(lambda: ended)
    assert ended == [True]
    assert tasks[0].cancelled()


def suspended_app(ended: list[object]) -> App:
    routes = Routes()

    @routes.on("do", public=True)
    async def handler(session: Session, body: bytes) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError as error:
            ended.append(error.args)
            await asyncio.sleep(0.1)
            ended.append("cleaned up")
            raise

    return App("game", routes=[routes])


def test_what_waits_is_cancelled_when_asyncio_run_ends() -> None:
    ended: list[object] = []
    nodes: list[Node] = []

    async def main() -> None:
        t = TestCluster(suspended_app(ended))
        await t.__aenter__()
        ann = await t.connect()
        await ann.notify("do", b"")
        await t.settle()
        assert not ended
        nodes.append(t.node)
        # And nobody stops it.

    asyncio.run(main())
    nodes[0].scope.unregister()
    assert ended == [(), "cleaned up"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("when", [b"at once", b"later"])
def test_an_interrupt_in_a_handler_ends_the_loop(kind: type[BaseException], when: bytes) -> None:
    tasks: list[Any] = []
    heard: list[bytes] = []
    routes = Routes()

    @routes.on("do", public=True)
    async def handler(session: Session, body: bytes) -> None:
        tasks.append(asyncio.current_task())
        if when == b"later":
            await asyncio.sleep(0.1)
        raise kind("from a handler")

    @routes.on("next", public=True)
    def following(session: Session, body: bytes) -> None:
        heard.append(body)

    async def main() -> None:
        async with TestCluster(App("game", routes=[routes])) as t:
            ann = await t.connect()
            await ann.notify("do", b"")
            await ann.notify("next", b"behind it")
            await t.advance(1)

    with pytest.raises(kind, match="from a handler"):
        asyncio.run(main())
    assert heard == [b"behind it"]
    with pytest.raises(kind, match="from a handler"):
        tasks[0].result()


def test_one_that_is_forgotten_while_it_waits_is_told_of() -> None:
    reports: list[dict[str, Any]] = []
    ended: list[object] = []

    async def handler(session: Session, body: bytes) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("closed")

    routes = Routes()
    routes.on("do", public=True)(handler)

    async def main() -> Node:
        t = TestCluster(App("game", routes=[routes]))
        await t.__aenter__()
        ann = await t.connect()
        await ann.notify("do", b"")
        await t.settle()
        return t.node

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, report: reports.append(report))
    node = loop.run_until_complete(main())
    node.scope.unregister()
    node.engine.release()
    loop.close()
    del node
    gc.collect()
    assert ended == ["closed"]
    assert [report["message"] for report in reports] == ["Task was destroyed but it is pending!"]
    assert reports[0]["coroutine"].cr_code is handler.__code__

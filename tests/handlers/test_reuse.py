"""Tasks are used for one handler after another, as long as nobody can tell."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from typing import Any

import pytest

from photinus import App, Refused, Routes, Session
from photinus.testing import TestCluster
from tests.handlers.futures import Future

AT_MOST = 256


def app_of(handler: Any) -> App:
    routes = Routes()
    routes.on("do", public=True)(handler)
    return App("game", routes=[routes])


def current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def alive() -> int:
    """How many tasks of handlers there are, in use or not."""
    gc.collect()
    return sum(type(each).__name__ == "HandlerTask" for each in gc.get_objects())


async def wait(body: bytes) -> None:
    if body == b"slow":
        await asyncio.sleep(0.1)


async def test_one_task_serves_handlers_in_turn() -> None:
    seen: set[int] = set()
    before = alive()

    async def handler(session: Session, body: bytes) -> None:
        seen.add(id(current_task()))
        await wait(body)

    async with TestCluster(app_of(handler)) as t:
        ann = await t.connect()
        for body in (b"quick", b"slow", b"slow", b"quick"):
            await ann.request("do", body)
        assert len(seen) == 1
        assert alive() == before + 1


async def test_also_those_that_come_from_the_mailbox() -> None:
    seen: list[int] = []

    async def handler(session: Session, body: bytes) -> None:
        seen.append(id(current_task()))
        await wait(body)

    async with TestCluster(app_of(handler)) as t:
        ann = await t.connect()
        await asyncio.gather(*(ann.request("do", body) for body in (b"slow", b"quick", b"slow", b"quick")))
        assert len(seen) == 4
        assert len(set(seen)) == 1


async def test_no_more_are_kept_than_a_few() -> None:
    before = alive()

    async def handler(session: Session, body: bytes) -> None:
        await wait(body)

    async with TestCluster(app_of(handler)) as t:
        clients = [await t.connect() for _ in range(AT_MOST + 10)]
        requests = [asyncio.create_task(client.request("do", b"slow")) for client in clients]
        await t.advance(0.05)
        assert alive() == before + AT_MOST + 10
        await asyncio.gather(*requests)
        assert alive() == before + AT_MOST


@pytest.mark.parametrize("body", [b"quick", b"slow"])
async def test_one_that_is_kept_stays_what_it_was(body: bytes) -> None:
    kept: list[asyncio.Task[Any]] = []

    async def handler(session: Session, body: bytes) -> bytes:
        kept.append(current_task())
        await wait(body)
        return b"%d" % len(kept)

    async with TestCluster(app_of(handler)) as t:
        ann = await t.connect()
        for _ in range(3):
            await ann.request("do", body)
        assert len({id(task) for task in kept}) == 3
        assert [task.result() for task in kept] == [b"1", b"2", b"3"]
        assert not asyncio.all_tasks().intersection(kept)


@pytest.mark.parametrize("body", [b"quick", b"slow"])
async def test_one_that_is_kept_by_its_callback_stays_what_it_was(body: bytes) -> None:
    told: list[object] = []

    async def handler(session: Session, body: bytes) -> bytes:
        current_task().add_done_callback(lambda task: told.append(task.result()))
        await wait(body)
        return b"%d" % session.data

    async with TestCluster(app_of(handler)) as t:
        ann = await t.connect()
        for number in range(3):
            t.node.engine.sessions()[0].data = number
            await ann.request("do", body)
        assert told == [b"0", b"1", b"2"]


@pytest.mark.parametrize("body", [b"quick", b"slow"])
@pytest.mark.parametrize("with_callback", [False, True])
async def test_one_that_is_referred_to_weakly_is_not_used_again(body: bytes, with_callback: bool) -> None:
    references: list[weakref.ref[asyncio.Task[Any]]] = []
    mine: weakref.WeakKeyDictionary[asyncio.Task[Any], int] = weakref.WeakKeyDictionary()
    found: list[int | None] = []
    gone: list[object] = []

    async def handler(session: Session, body: bytes) -> None:
        task = current_task()
        found.append(mine.get(task))
        mine[task] = len(found)
        references.append(weakref.ref(task, gone.append) if with_callback else weakref.ref(task))
        await wait(body)

    async with TestCluster(app_of(handler)) as t:
        ann = await t.connect()
        for _ in range(3):
            await ann.request("do", body)
        assert found == [None, None, None]
        assert [reference() for reference in references] == [None, None, None]
        assert len(gone) == 3 * with_callback
        assert not mine


async def test_nothing_is_left_of_the_handler_before() -> None:
    place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")
    seen: list[object] = []

    async def handler(session: Session, body: bytes) -> None:
        task = current_task()
        seen.append((id(task), task.get_name().rpartition(".")[2], task.cancelling(), place.get(), task.done()))
        seen.append((task._must_cancel, task._fut_waiter, task._cancel_message))  # type: ignore[attr-defined]
        task.set_name(body.decode())
        place.set(body.decode())
        if body in (b"cancels", b"slowly"):
            task.cancel("enough")
        # Or the frame of an error would hold it, and it would not be used again.
        del task
        if body == b"slowly":
            await asyncio.sleep(0.1)
        if body == b"fails":
            raise Refused("no")

    async with TestCluster(app_of(handler)) as t:
        for body in (b"cancels", b"slowly", b"fails", b"returns"):
            client = await t.connect()
            try:
                await client.request("do", body)
            except Refused:
                assert body != b"returns"
    assert len(set(seen)) == 2, seen


async def test_a_future_that_calls_twice_does_not_wake_the_next_handler() -> None:
    futures: list[Future] = []
    ended: list[bytes] = []

    async def handler(session: Session, body: bytes) -> None:
        future = Future(asyncio.get_running_loop(), remembers=True)
        futures.append(future)
        await future
        ended.append(body)

    async with TestCluster(app_of(handler)) as t:
        ann = await t.connect()
        for body in (b"first", b"second"):
            await ann.notify("do", body)
        await t.settle()
        futures[0].done("once")
        await t.settle()
        futures[0].done("twice")
        await t.settle()
        assert (ended, len(futures)) == ([b"first"], 2)
        futures[1].done("at last")
        await t.settle()
        assert ended == [b"first", b"second"]

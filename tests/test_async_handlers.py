"""What asyncio offers to a task works in an `async def` handler, before and after it suspends."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec import Struct

from photinus import App, Refused, Routes, Session
from photinus.testing import TestCluster


class Word(Struct):
    text: str


def on_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(_awaited(test(**fixtures)))

    return run


async def _awaited(test: Awaitable[None]) -> None:
    await test


place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")


def app_of(handler: Callable[[Session, Word], Awaitable[Word]], **others: Any) -> App:
    routes = Routes()
    routes.on("do", public=True)(handler)
    for name, other in others.items():
        routes.on(name, public=True)(other)
    return App("game", routes=[routes])


async def said(app: App, *words: str) -> list[str]:
    async with TestCluster(app) as t:
        ann = await t.connect()
        return [(await ann.request("do", Word(word), Word)).text for word in words or ("once",)]


@on_a_loop
async def test_a_timeout_taken_before_the_first_suspension_ends_a_later_one() -> None:
    async def handler(session: Session, msg: Word) -> Word:
        try:
            async with asyncio.timeout(0.5):
                await asyncio.sleep(0.1)
                await asyncio.sleep(10)
        except TimeoutError:
            task = asyncio.current_task()
            assert task is not None and task.cancelling() == 0
            return Word("too late")
        return Word("in time")

    assert await said(app_of(handler)) == ["too late"]


@on_a_loop
async def test_wait_for_is_the_first_thing_a_handler_does() -> None:
    async def handler(session: Session, msg: Word) -> Word:
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.5)
        except TimeoutError:
            return Word("gave up")
        return Word("woken")

    assert await said(app_of(handler), "a", "b") == ["gave up", "gave up"]


@on_a_loop
async def test_a_task_group_cancels_the_handler_that_opened_it() -> None:
    async def fails() -> None:
        await asyncio.sleep(0.1)
        raise ValueError("one of them")

    async def handler(session: Session, msg: Word) -> Word:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
                await asyncio.sleep(10)
        except ExceptionGroup as errors:
            return Word(str(errors.exceptions[0]))
        return Word("none failed")

    assert await said(app_of(handler)) == ["one of them"]


@on_a_loop
async def test_a_handler_may_cancel_itself_before_it_suspends() -> None:
    async def handler(session: Session, msg: Word) -> Word:
        task = asyncio.current_task()
        assert task is not None
        assert task.cancel("enough")
        assert task.cancelling() == 1
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError as error:
            assert error.args == ("enough",)
            assert task.uncancel() == 0
            return Word("cancelled")
        return Word("slept")

    assert await said(app_of(handler)) == ["cancelled"]


@on_a_loop
async def test_a_cancellation_asked_for_without_suspending_is_forgotten_with_the_handler() -> None:
    async def handler(session: Session, msg: Word) -> Word:
        task = asyncio.current_task()
        assert task is not None
        seen = task.cancelling()
        task.cancel()
        return Word(str(seen))

    assert await said(app_of(handler), "a", "b") == ["0", "0"]


@on_a_loop
async def test_names_and_done_callbacks_belong_to_one_call() -> None:
    done: list[str] = []

    async def handler(session: Session, msg: Word) -> Word:
        task = asyncio.current_task()
        assert task is not None
        name = task.get_name()
        task.set_name(msg.text)
        task.add_done_callback(lambda of: done.append(of.get_name()))
        logging.getLogger(__name__).info("the record asks the task for its name")
        if msg.text == "slow":
            await asyncio.sleep(0.1)
            now = asyncio.current_task()
            assert now is not None and now.get_name() == "slow"
        return Word(name.rpartition(".")[2])

    assert await said(app_of(handler), "quick", "slow", "quick") == ["handler"] * 3
    assert done[1:2] == ["slow"]
    assert len(done) == 3


@on_a_loop
async def test_context_is_the_sessions_own_across_its_handlers() -> None:
    async def handler(session: Session, msg: Word) -> Word:
        before = place.get()
        place.set(msg.text)
        if msg.text == "slow":
            await asyncio.sleep(0.1)
        return Word(f"{before}>{place.get()}")

    async with TestCluster(app_of(handler)) as t:
        ann, bob = await t.connect(), await t.connect()
        assert (await ann.request("do", Word("slow"), Word)).text == "nowhere>slow"
        assert (await ann.request("do", Word("hall"), Word)).text == "slow>hall"
        assert (await bob.request("do", Word("roof"), Word)).text == "nowhere>roof"
        assert place.get() == "nowhere"


@on_a_loop
async def test_no_task_is_current_in_a_plain_handler_or_after_a_step() -> None:
    seen: list[object] = []

    async def handler(session: Session, msg: Word) -> Word:
        asyncio.get_running_loop().call_soon(lambda: seen.append(asyncio.current_task()))
        return msg

    def plain(session: Session, msg: Word) -> Word:
        seen.append(asyncio.current_task())
        return msg

    async with TestCluster(app_of(handler, plain=plain)) as t:
        ann = await t.connect()
        await ann.request("do", Word("a"), Word)
        await ann.request("plain", Word("a"), Word)
    assert seen == [None, None]


@on_a_loop
async def test_an_error_after_a_suspension_is_answered_and_shows_the_handlers_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(session: Session, msg: Word) -> Word:
        await asyncio.sleep(0.1)
        if msg.text == "refuse":
            raise Refused("no", why="because")
        raise ZeroDivisionError(msg.text)

    async with TestCluster(app_of(handler)) as t:
        ann = await t.connect()
        with pytest.raises(Refused) as refused:
            await ann.request("do", Word("refuse"), Word)
        assert refused.value.code == "no"
        with pytest.raises(Refused) as failed:
            await ann.request("do", Word("secret"), Word)
        assert "secret" not in str(failed.value)
        assert [type(error) for error in t.errors] == [ZeroDivisionError]
        t.errors.clear()
    assert "raise ZeroDivisionError(msg.text)" in caplog.text

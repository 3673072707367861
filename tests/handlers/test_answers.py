"""What an `async def` handler comes to is what the client gets, whether it suspends or not."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec import Struct

from photinus import App, Refused, Routes, Session
from photinus.testing import TestCluster


class Word(Struct):
    text: str


def app_of(handler: Callable[[Session, Word], Awaitable[Word]], **others: Any) -> App:
    routes = Routes()
    routes.on("do", public=True)(handler)
    for name, other in others.items():
        routes.on(name, public=True)(other)
    return App("game", routes=[routes])


async def test_a_cancelled_handler_is_answered_with_an_error_that_blames_nobody() -> None:
    async def handler(session: Session, msg: Word) -> Word:
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        if msg.text == "later":
            await asyncio.sleep(0.1)
        task.cancel()
        return msg

    async with TestCluster(app_of(handler)) as t:
        ann = await t.connect()
        for text in ("at once", "later", "at once"):
            with pytest.raises(Refused):
                await ann.request("do", Word(text), Word)
        assert t.errors == []


async def test_the_answer_comes_before_what_others_do_with_its_end() -> None:
    order: list[str] = []
    waiting: list[asyncio.Task[None]] = []

    async def follows(task: Awaitable[object]) -> None:
        await task
        order.append("awaited")

    async def handler(session: Session, msg: Word) -> Word:
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: order.append("called back"))
        waiting.append(asyncio.create_task(follows(task)))
        await asyncio.sleep(0.1)
        return msg

    def plain(session: Session, msg: Word) -> Word:
        order.append("next of the session")
        return msg

    async with TestCluster(app_of(handler, plain=plain)) as t:
        ann = await t.connect()
        await asyncio.gather(ann.request("do", Word("a"), Word), ann.request("plain", Word("b"), Word))
        await asyncio.gather(*waiting)
    assert order == ["next of the session", "called back", "awaited"]


async def test_an_error_shows_the_same_traceback_to_all_who_await_it() -> None:
    frames: list[list[str]] = []
    waiting: list[asyncio.Task[None]] = []

    async def follows(task: Awaitable[object]) -> None:
        for _ in range(2):
            try:
                await task
            except LookupError as error:
                frames.append([frame.name for frame in traceback.extract_tb(error.__traceback__)])

    async def handler(session: Session, msg: Word) -> Word:
        task = asyncio.current_task()
        assert task is not None
        waiting.append(asyncio.create_task(follows(task)))
        await asyncio.sleep(0.1)
        raise LookupError

    async with TestCluster(app_of(handler)) as t:
        ann = await t.connect()
        with pytest.raises(Refused):
            await ann.request("do", Word("a"), Word)
        await asyncio.gather(*waiting)
        t.errors.clear()
    assert frames == [["follows", "handler"]] * 2


async def test_names_belong_to_one_call() -> None:
    seen: list[str] = []

    async def handler(session: Session, msg: Word) -> Word:
        task = asyncio.current_task()
        assert task is not None
        seen.append(task.get_name().rpartition(".")[2])
        task.set_name(msg.text)
        logging.getLogger(__name__).info("the record asks the task for its name")
        if msg.text == "slow":
            await asyncio.sleep(0.1)
        return Word(task.get_name())

    async with TestCluster(app_of(handler)) as t:
        ann = await t.connect()
        for text in ("quick", "slow", "quick"):
            assert (await ann.request("do", Word(text), Word)).text == text
    assert seen == ["handler"] * 3


async def test_no_task_is_current_in_a_plain_handler() -> None:
    seen: list[object] = []

    async def handler(session: Session, msg: Word) -> Word:
        await asyncio.sleep(0.1)
        return msg

    def plain(session: Session, msg: Word) -> Word:
        seen.append(asyncio.current_task())
        return msg

    async with TestCluster(app_of(handler, plain=plain)) as t:
        ann = await t.connect()
        await ann.request("plain", Word("a"), Word)
        # The second one comes out of the mailbox, when the handler's task has just ended.
        await asyncio.gather(ann.request("do", Word("a"), Word), ann.request("plain", Word("a"), Word))
    assert seen == [None, None]


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
    # By us, once; asyncio has nothing to complain of.
    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == ["photinus"]

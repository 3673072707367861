"""Context variables in handlers: as in any task, and kept from one handler of a session to the next."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

from msgspec import Struct

from photinus import App, Closed, Routes, Session
from photinus.testing import TestCluster
from tests.handlers.stage import Stage, like_a_task

place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")


class Word(Struct):
    text: str


@like_a_task
async def test_they_last_across_a_suspension(stage: Stage) -> None:
    token = place.set("hall")
    await asyncio.sleep(0.1)
    stage.saw(place.get())
    place.reset(token)
    await asyncio.sleep(0.1)
    stage.saw(place.get())


@like_a_task
async def test_children_and_callbacks_get_a_copy(stage: Stage) -> None:
    async def child() -> None:
        stage.saw("child", place.get())
        place.set("cellar")

    place.set("hall")
    asyncio.get_running_loop().call_soon(lambda: stage.saw("callback", place.get()))
    await stage.aside(child())
    await asyncio.gather(child())
    stage.saw(place.get())
    place.set("roof")
    await stage.aside(child())


@like_a_task
async def test_an_error_leaves_them_as_they_were(stage: Stage) -> None:
    place.set("hall")
    try:
        async with asyncio.timeout(0.1):
            place.set("roof")
            await asyncio.sleep(10)
    except TimeoutError:
        stage.saw(place.get())


@like_a_task
async def test_the_context_of_a_task_can_be_given_on(stage: Stage) -> None:
    place.set("hall")
    context = contextvars.copy_context()
    await asyncio.create_task(asyncio.sleep(0.1), context=context)

    async def other() -> None:
        place.set("roof")

    await asyncio.create_task(other(), context=context)
    stage.saw(place.get(), context[place])


async def test_they_are_the_sessions_own_across_its_handlers() -> None:
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


async def test_what_is_set_after_a_suspension_is_seen_by_the_next_from_the_mailbox() -> None:
    async def handler(session: Session, msg: Word) -> Word:
        before = place.get()
        await asyncio.sleep(0.1)
        place.set(msg.text)
        return Word(f"{before}>{place.get()}")

    def plain(session: Session, msg: Word) -> Word:
        return Word(place.get())

    async with TestCluster(app_of(handler, plain=plain)) as t:
        ann = await t.connect()
        requests = [
            ann.request("do", Word("hall"), Word),
            ann.request("plain", Word(""), Word),
            ann.request("do", Word("roof"), Word),
            ann.request("do", Word("cellar"), Word),
        ]
        answers = await asyncio.gather(*requests)
        # A plain handler has no context of its own: it runs in the node's, also from the mailbox.
        assert [answer.text for answer in answers] == ["nowhere>hall", "nowhere", "hall>roof", "roof>cellar"]


async def test_the_goodbye_sees_them_too() -> None:
    seen: list[str] = []
    routes = Routes()

    @routes.on("do", public=True)
    async def handler(session: Session, msg: Word) -> Word:
        place.set(msg.text)
        return msg

    @routes.closed
    async def gone(session: Session, reason: Closed) -> None:
        seen.append(place.get())
        await asyncio.sleep(0.1)
        seen.append(place.get())

    async with TestCluster(App("game", routes=[routes])) as t:
        ann = await t.connect()
        await ann.request("do", Word("hall"), Word)
        ann.close()
        await t.advance(0.2)
    assert seen == ["hall", "hall"]


def app_of(handler: Any, **others: Any) -> App:
    routes = Routes()
    routes.on("do", public=True)(handler)
    for name, other in others.items():
        routes.on(name, public=True)(other)
    return App("game", routes=[routes])

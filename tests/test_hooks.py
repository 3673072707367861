"""Hooks around handlers, and what each gets to see, through a client's eyes."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Struct

from photinus import App, Call, Outcome, Refused, Routes, Session
from photinus.config import Config
from photinus.hooks import around
from photinus.testing import TestCluster


class Say(Struct):
    text: str


class Count(Struct):
    number: int


class Story:
    """Hooks and handlers that write down what happens, in `told`. Each kind suspends if it is asked to."""

    def __init__(self, *, before: str = "def", after: str = "def", handler: str = "def") -> None:
        self.told: list[str] = []
        self.outcomes: list[Outcome] = []
        self.routes = Routes(
            before=[self.before("first", before), self.before("second", before)],
            after=[self.after("first", after), self.after("second", after)],
        )
        told = self.told

        def say(session: Session, msg: Say) -> Say | None:
            told.append(f"say {msg.text}")
            if msg.text == "poor":
                raise Refused("too-poor", missing=3)
            if msg.text == "broken":
                raise RuntimeError("out of order")
            return None if msg.text == "nothing" else Say(msg.text.upper())

        async def say_later(session: Session, msg: Say) -> Say | None:
            await asyncio.sleep(0.01)
            return say(session, msg)

        async def say_at_once(session: Session, msg: Say) -> Say | None:
            return say(session, msg)

        handlers: dict[str, Callable[[Session, Say], Any]] = {
            "def": say,
            "async": say_at_once,
            "suspending": say_later,
        }
        self.routes.on("say", public=True)(handlers[handler])
        self.app = App("story", routes=[self.routes])

    def before(self, name: str, kind: str) -> Any:
        def before(session: Session, call: Call) -> None:
            assert isinstance(call.message, Say)
            self.told.append(f"{name} before {call.route}")
            if call.message.text == f"refused by {name}":
                raise Refused("not-now")
            if call.message.text == f"breaks {name}":
                raise RuntimeError("a hook out of order")

        async def before_later(session: Session, call: Call) -> None:
            if kind == "suspending":
                await asyncio.sleep(0.01)
            before(session, call)

        return before if kind == "def" else before_later

    def after(self, name: str, kind: str) -> Any:
        def after(session: Session, call: Call, outcome: Outcome) -> None:
            self.told.append(f"{name} after {call.route}")
            self.outcomes.append(outcome)

        async def after_later(session: Session, call: Call, outcome: Outcome) -> None:
            if kind == "suspending":
                await asyncio.sleep(0.01)
            after(session, call, outcome)

        return after if kind == "def" else after_later


KINDS = ("def", "async", "suspending")
AROUND = ["second after say", "first after say"]


@pytest.mark.parametrize("before", KINDS)
@pytest.mark.parametrize("after", KINDS)
@pytest.mark.parametrize("handler", KINDS)
async def test_before_in_order_after_in_reverse(before: str, after: str, handler: str) -> None:
    story = Story(before=before, after=after, handler=handler)
    async with TestCluster(story.app) as t:
        ann = await t.connect()
        assert await ann.request("say", Say("hi"), Say) == Say("HI")
        assert story.told == ["first before say", "second before say", "say hi", *AROUND]
        assert [outcome.reply for outcome in story.outcomes] == [Say("HI"), Say("HI")]
        assert [outcome.error for outcome in story.outcomes] == [None, None]
        # Packets keep their order, whoever suspends: the next is begun when the hooks are done.
        story.told.clear()
        await ann.notify("say", Say("a"))
        await ann.notify("say", Say("nothing"))
        await t.advance(1)
        once = ["first before say", "second before say", "say a", *AROUND]
        assert story.told == [*once, *(line.replace("say a", "say nothing") for line in once)]
        assert story.outcomes[-1].reply is None


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_raised_is_an_outcome(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    story = Story(before=kind, after=kind, handler=kind)
    async with TestCluster(story.app) as t:
        ann = await t.connect()
        for text, code, told in (
            ("poor", "too-poor", ["first before say", "second before say", "say poor", *AROUND]),
            ("broken", "internal", ["first before say", "second before say", "say broken", *AROUND]),
            ("refused by first", "not-now", ["first before say", *AROUND]),
            ("refused by second", "not-now", ["first before say", "second before say", *AROUND]),
            ("breaks second", "internal", ["first before say", "second before say", *AROUND]),
        ):
            story.told.clear()
            with caplog.at_level(logging.CRITICAL, "photinus"), pytest.raises(Refused) as raised:
                await ann.request("say", Say(text))
            assert raised.value.code == code
            assert story.told == told
            outcome = story.outcomes[-1]
            assert outcome.reply is None
            assert isinstance(outcome.error, RuntimeError if code == "internal" else Refused)
        statistics = t.statistics()["app"]
        assert (statistics["refused"], statistics["handler_errors"], statistics["hook_errors"]) == (3, 2, 0)
        assert [str(error) for error in t.errors] == ["out of order", "a hook out of order"]
        t.errors.clear()


@pytest.mark.parametrize("kind", ["def", "async"])
async def test_an_after_hook_that_fails_changes_nothing(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    looked: list[Outcome] = []

    def look(session: Session, call: Call, outcome: Outcome) -> None:
        looked.append(outcome)

    def failing(session: Session, call: Call, outcome: Outcome) -> None:
        raise ValueError("the log is full")

    async def failing_later(session: Session, call: Call, outcome: Outcome) -> None:
        failing(session, call, outcome)

    routes = Routes(after=(look, failing if kind == "def" else failing_later))

    @routes.on("count", public=True)
    def count(session: Session, msg: Count) -> Count:
        if msg.number < 0:
            raise Refused("negative")
        return msg

    async with TestCluster(App("game", routes=[routes])) as t:
        ann = await t.connect()
        with caplog.at_level(logging.ERROR, "photinus"):
            assert await ann.request("count", Count(1), Count) == Count(1)
            with pytest.raises(Refused, match="negative"):
                await ann.request("count", Count(-1))
        assert "test_hooks.py" in caplog.text
        assert "route 'count'" in caplog.text
        assert "the log is full" in caplog.text
        # The others are called all the same.
        assert [outcome.reply for outcome in looked] == [Count(1), None]
        statistics = t.statistics()["app"]
        assert (statistics["hook_errors"], statistics["handler_errors"]) == (2, 0)
        assert len(t.errors) == 2
        t.errors.clear()


async def test_which_calls_have_hooks() -> None:
    heard: list[Call] = []

    def note(session: Session, call: Call) -> None:
        heard.append(call)

    hooked, bare = Routes(before=note), Routes()

    @hooked.opened
    @bare.opened
    def opened(session: Session) -> None: ...

    @hooked.on("in")
    @bare.on("out", public=True)
    @hooked.on("public", public=True)
    @hooked.on(7, public=True)
    @hooked.default
    def count(session: Session, msg: Count) -> None: ...

    @bare.on("login", public=True)
    async def login(session: Session, msg: Count) -> None:
        await session.login(msg.number)

    async with TestCluster(App("game", routes=[hooked, bare])) as t:
        ann, bob = await t.connect(), await t.connect("firefly")
        # Whoever may not call, or says what cannot be understood, does not come to the hooks.
        for route, body in (("in", b'{"number": 1}'), ("public", b"{}"), ("nowhere", b"{}")):
            with pytest.raises(Refused):
                await ann.request(route, body)
        await ann.request("out", Count(1))
        assert heard == []
        await ann.request("login", Count(1))
        await ann.request("in", Count(2))
        await ann.request("public", Count(3))
        await bob.send(b"\x81\xa6number\x04", command=7)
        await bob.send(b"\x81\xa6number\x05", command=8)
        await t.settle()
        expected: list[tuple[str | int | None, int]] = [("in", 2), ("public", 3), (7, 4), (None, 5)]
        assert heard == [Call(route, Count(number)) for route, number in expected]


async def test_how_long_it_took() -> None:
    took: list[float] = []

    async def wait(session: Session, call: Call) -> None:
        await asyncio.sleep(1)

    def look(session: Session, call: Call, outcome: Outcome) -> None:
        took.append(outcome.seconds)

    routes = Routes(before=wait, after=look)

    @routes.on("count", public=True)
    async def count(session: Session, msg: Count) -> None:
        await asyncio.sleep(msg.number)

    async with TestCluster(App("game", routes=[routes])) as t:
        ann = await t.connect()
        await ann.request("count", Count(2), timeout=10)
        assert took == [pytest.approx(3)]


async def test_a_call_that_the_stop_cancels_has_an_outcome() -> None:
    outcomes: list[Outcome] = []

    async def look(session: Session, call: Call, outcome: Outcome) -> None:
        await asyncio.sleep(0)
        outcomes.append(outcome)

    routes = Routes(after=look)

    @routes.on("wait", public=True)
    async def wait(session: Session, msg: Count) -> None:
        await asyncio.Event().wait()

    async with TestCluster(App("game", routes=[routes]), config=Config()) as t:
        ann = await t.connect()
        await ann.notify("wait", Count(1))
        await t.settle()
        await t.node.stop(timeout=0.1)
        assert [type(outcome.error) for outcome in outcomes] == [asyncio.CancelledError]


def test_no_hooks_no_wrapper() -> None:
    routes = Routes()

    @routes.on("say")
    def say(session: Session, msg: Say) -> None: ...

    assert routes.declared["say"].hooks is None
    assert Routes(before=[], after=()).on("say")(say) is say


def test_what_is_all_def_stays_a_def() -> None:
    def check(session: Session, call: Call) -> None: ...
    async def look(session: Session, call: Call, outcome: Outcome) -> None: ...
    def say(session: Session, msg: Say) -> None: ...

    for hooks, suspends in ((Routes(before=check), False), (Routes(before=check, after=look), True)):
        hooks.on("say")(say)
        declared = hooks.declared["say"].hooks
        assert declared is not None
        wrapped = around(declared, "say", say, suspends=False, failed=lambda *_: None, now=lambda: 0.0)
        assert inspect.iscoroutinefunction(wrapped) == suspends
        assert wrapped.__qualname__ == say.__qualname__

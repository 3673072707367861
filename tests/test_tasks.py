from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING

import pytest
from msgspec import Struct

from photinus import App, Routes, Session
from photinus.errors import NoNode, UsageError
from photinus.testing import TestCluster

if TYPE_CHECKING:
    from collections.abc import Callable


class Empty(Struct):
    pass


def app_with(handler: Callable[[App], None]) -> App:
    """An app whose public route `go` calls the handler."""
    routes = Routes()
    app = App("game", routes=[routes])

    @routes.on("go", public=True)
    def go(session: Session, msg: Empty) -> None:
        handler(app)

    return app


async def test_every_beats_and_does_not_drift() -> None:
    app = App("game")
    beats: list[float] = []
    app.every(0.1, lambda: beats.append(t.now))
    t = TestCluster(app)
    async with t:
        start = t.now
        await t.advance(10)
        assert len(beats) == 100
        assert [round(beat - start, 9) for beat in beats] == [round(0.1 * n, 9) for n in range(1, 101)]


async def test_every_runs_one_at_a_time_and_skips_what_it_missed() -> None:
    app = App("game")
    beats: list[float] = []

    async def slow() -> None:
        beats.append(t.now)
        await asyncio.sleep(0.25)

    app.every(0.1, slow)
    t = TestCluster(app)
    async with t:
        start = t.now
        await t.advance(1)
        assert [round(beat - start, 6) for beat in beats] == [0.1, 0.4, 0.7, 1.0]
        assert t.statistics()["app"]["tasks"]["beats_skipped"] == 6


async def test_after() -> None:
    app = App("game")
    calls: list[str] = []
    app.after(1, lambda: calls.append("declared"))
    async with TestCluster(app) as t:
        app.after(2, lambda: calls.append("here"))
        await t.advance(0.99)
        assert calls == []
        await t.advance(0.01)
        assert calls == ["declared"]
        await t.advance(5)
        assert calls == ["declared", "here"]
        assert t.statistics()["app"]["tasks"]["running"] == 0
    async with TestCluster(app) as t:
        await t.advance(5)
        assert calls == ["declared", "here", "declared"]


async def test_in_a_handler() -> None:
    calls: list[str] = []

    async def work() -> None:
        await asyncio.sleep(1)
        calls.append("task")

    def handler(app: App) -> None:
        app.after(1, lambda: calls.append("after"))
        app.task(work())

    async with TestCluster(app_with(handler)) as t:
        ann = await t.connect()
        await ann.request("go", Empty())
        await t.advance(1)
        assert calls == ["after", "task"]


async def test_a_timer_can_be_cancelled() -> None:
    app = App("game")
    calls: list[int] = []
    declared = app.every(1, lambda: calls.append(1))

    def once() -> None:
        calls.append(2)
        own.cancel()

    own = app.every(1, once)
    async with TestCluster(app) as t:
        await t.advance(1.5)
        declared.cancel()
        await t.advance(3)
        assert sorted(calls) == [1, 2]


async def test_an_exception_is_logged_and_counted_and_ends_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    app = App("game")
    beats: list[int] = []

    def bad() -> None:
        beats.append(1)
        raise ValueError("oh")

    async def worse() -> None:
        raise KeyError("no")

    app.every(1, bad)
    app.task(worse)
    with caplog.at_level(logging.ERROR, "photinus"):
        async with TestCluster(app) as t:
            await t.advance(2)
            assert beats == [1, 1]
            assert [type(error) for error in t.errors] == [KeyError, ValueError, ValueError]
            t.errors.clear()
            assert t.statistics()["app"]["tasks"]["failed"] == 3
    assert "bad failed" in caplog.text
    assert "worse failed" in caplog.text
    assert 'raise ValueError("oh")' in caplog.text


async def test_all_are_cancelled_when_the_node_stops() -> None:
    app = App("game")
    ends: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ends.append("cancelled")

    app.task(work)
    app.every(1, work)
    async with TestCluster(app) as t:
        await t.advance(1.5)
    assert ends == ["cancelled", "cancelled"]


async def test_one_that_will_not_end_is_named(caplog: pytest.LogCaptureFixture) -> None:
    app = App("game")
    let_go = asyncio.Event()

    async def stubborn() -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    app.task(stubborn)
    t = TestCluster(app)
    with pytest.raises(BaseExceptionGroup) as raised:
        async with t:
            await t.settle()
    assert "did not end within 5 s" in str(raised.value.exceptions[0])
    assert "stubborn" in caplog.text
    let_go.set()
    await asyncio.sleep(0)


async def test_a_coroutine_needs_a_node() -> None:
    app = App("game")

    async def work() -> None: ...

    with pytest.raises(NoNode, match=r"give app\.task the async function itself"):
        app.task(work())


async def test_another_thread_is_told_so() -> None:
    app = App("game")
    async with TestCluster(app):
        with pytest.raises(UsageError, match="on the node's own thread"):
            await asyncio.to_thread(app.every, 1, print)


async def test_a_task_has_a_result() -> None:
    app = App("game")

    async def work() -> int:
        return 7

    async with TestCluster(app):
        assert await app.task(work()) == 7


async def test_another_app_s_node_is_not_meant() -> None:
    calls: list[int] = []
    async with TestCluster(App("one")) as t:
        two = App("two")
        two.after(1, lambda: calls.append(1))
        await t.advance(2)
        assert calls == []
    async with TestCluster(two) as t:
        await t.advance(2)
        assert calls == [1]


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf])
def test_what_is_no_time(seconds: float) -> None:
    with pytest.raises(ValueError, match="finite, positive number of seconds"):
        App("game").after(seconds, print)


def test_what_is_no_function() -> None:
    with pytest.raises(ValueError, match="not 0"):
        App("game").every(0, print)
    with pytest.raises(TypeError, match="a function without arguments"):
        App("game").every(1, None)  # type: ignore[arg-type]

"""One and the same coroutine as a task of asyncio's and as a handler: what it sees must be the same.

`@like_a_task` makes a test of a coroutine function that takes a [`Stage`]. The coroutine runs four times as a
bare asyncio task and four times as an `async def` handler: from its first step on and after a suspension, with the
loop in debug mode and without. What it told the stage, and how its task ended, is compared pairwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from photinus import App, Refused, Routes, Session
from photinus.testing import TestCluster

Scenario = Callable[["Stage"], Coroutine[Any, Any, object]]


class Stage:
    """What a scenario tells of itself. `later`: it begins after a suspension."""

    def __init__(self, scenario: Scenario, *, later: bool) -> None:
        self._scenario = scenario
        self._later = later
        self._seen: list[object] = []
        self._aside: list[asyncio.Task[Any]] = []
        self.started = asyncio.Event()
        self.frames = True

    def saw(self, *what: object) -> None:
        """With the time at which it was seen."""
        now = asyncio.get_running_loop().time()
        self._seen.append((round(now - self._began, 6), *(shown(each) for each in what)))

    def aside(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Something else that goes on meanwhile, as a task of asyncio's; the scenario's end waits for it."""
        task = asyncio.create_task(coroutine)
        self._aside.append(task)
        return task

    async def run(self) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self.task: asyncio.Task[Any] = task
        self.started.set()
        self._began = asyncio.get_running_loop().time()
        if self._later:
            await asyncio.sleep(0.01)
        return await self._scenario(self)

    async def observations(self) -> list[object]:
        """All that was seen, when everything is over."""
        await self.started.wait()
        await asyncio.wait({self.task})
        if self._aside:
            await asyncio.wait(self._aside)
        # Whoever was to be called at the end is called in the next turn.
        await asyncio.sleep(0)
        return [*self._seen, *(ending(task, self.frames) for task in (self.task, *self._aside))]


def shown(what: object) -> object:
    """What can be compared between two runs."""
    if isinstance(what, BaseExceptionGroup):
        return (type(what), what.message, [shown(each) for each in what.exceptions])
    if isinstance(what, tuple):
        return tuple(shown(each) for each in what)
    return (type(what), what.args) if isinstance(what, BaseException) else what


def ending(task: asyncio.Future[Any], with_frames: bool) -> object:
    if task.cancelled():
        with pytest.raises(asyncio.CancelledError) as cancelled:
            task.result()
        return ("cancelled", cancelled.value.args)
    error = task.exception()
    if error is None:
        return ("returned", shown(task.result()))
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    # Whatever is above the scenario is the test's own.
    frames = frames[frames.index("run") + 1 :] if "run" in frames else frames
    return ("raised", shown(error), shown(error.__cause__), shown(error.__context__), with_frames and frames)


def like_a_task(scenario: Scenario) -> Callable[..., Awaitable[None]]:
    @pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
    @pytest.mark.parametrize("later", [False, True], ids=["at-once", "later"])
    async def test(later: bool, debug: bool) -> None:
        asyncio.get_running_loop().set_debug(debug)
        bare, handled = Stage(scenario, later=later), Stage(scenario, later=later)
        routes = Routes()

        @routes.on("do", public=True)
        async def handler(session: Session, body: bytes) -> bytes | None:
            result: bytes | None = await handled.run()
            return result

        async with TestCluster(App("game", routes=[routes])) as t:
            as_task = asyncio.create_task(bare.run())
            expected = await bare.observations()
            assert bare.task is as_task
            ann = await t.connect()
            request = asyncio.create_task(ann.request("do", b"", timeout=100))
            seen = await handled.observations()
            with contextlib.suppress(Refused):
                await request
            assert seen == expected
            t.errors.clear()

    test.__name__ = scenario.__name__
    test.__doc__ = scenario.__doc__
    return test

from __future__ import annotations

import asyncio
import math

import pytest

from photinus import App
from photinus.cluster.deadlines import STEP_SECONDS, Deadlines
from photinus.testing import TestCluster


class Looker:
    """Remembers when it looked, and gives the deadlines that are left."""

    def __init__(self, *deadlines: float) -> None:
        self.left = sorted(deadlines)
        self.looked: list[float] = []

    def look(self, now: float) -> float:
        self.looked.append(now)
        self.left = [each for each in self.left if each > now]
        return self.left[0] if self.left else math.inf


async def test_it_looks_when_one_is_due_and_at_the_next() -> None:
    async with TestCluster(App("x")) as t:
        start = t.now
        looker = Looker(start + 1, start + 3)
        deadlines = Deadlines(asyncio.get_running_loop(), looker.look)
        deadlines.hear(start + 3)
        deadlines.hear(start + 1)
        deadlines.hear(start + 2)
        assert deadlines.next == start + 1
        await t.advance(10)
        assert looker.looked == pytest.approx([start + 1, start + 3])
        assert deadlines.next == math.inf


async def test_it_does_not_look_all_the_time() -> None:
    async with TestCluster(App("x")) as t:
        start = t.now
        looker = Looker(*(start + 1 + number / 10_000 for number in range(1000)))
        deadlines = Deadlines(asyncio.get_running_loop(), looker.look)
        deadlines.hear(start + 1)
        await t.advance(2)
        assert not looker.left
        assert len(looker.looked) <= 0.1 / STEP_SECONDS + 2


async def test_after_its_stop_it_looks_no_more() -> None:
    async with TestCluster(App("x")) as t:
        looker = Looker(t.now + 1)
        deadlines = Deadlines(asyncio.get_running_loop(), looker.look)
        deadlines.hear(t.now + 1)
        deadlines.stop()
        await t.advance(2)
        assert looker.looked == []

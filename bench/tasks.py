"""Row `tasks`: what an `async def` handler costs beside a `def` and a bare asyncio task."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from statistics import median

from photinus import App, Routes, Session
from photinus.config import Config
from photinus.node import Node, engine_for

from .plan import Plan

ROW, SUBJECT, SHAPE = "tasks", "photinus-async", "memory"

SESSIONS = 200
TURNS = 60
PACKET = b"\0\0\0\4abcd"

# What one turn of a subject took this thread: nanoseconds of CPU.
Turn = Callable[[], Awaitable[int]]

_waiting: list[asyncio.Future[None]] = []


def plain(session: Session, body: bytes) -> None:
    pass


async def stays(session: Session, body: bytes) -> None:
    pass


async def suspends(session: Session, body: bytes) -> None:
    await _later()


async def _later() -> None:
    future = asyncio.get_running_loop().create_future()
    _waiting.append(future)
    await future


def run(plan: Plan) -> None:
    if not plan.wants(ROW, SHAPE, SUBJECT):
        return
    for round_ in range(plan.rounds):
        plan.say(f"{ROW} {SHAPE}, round {round_ + 1} of {plan.rounds}")
        plan.results.add(ROW, SUBJECT, SHAPE, round_, asyncio.run(_measure()))


async def _measure() -> dict[str, float]:
    nodes = [await _node(handler) for handler in (plain, stays, suspends)]
    turns: list[Turn] = [*(turn for _, turn in nodes), _bare_tasks]
    took: list[list[int]] = [[] for _ in turns]
    gc.collect()
    for _ in range(TURNS):
        for turn, times in zip(turns, took, strict=True):
            times.append(await turn())
    for node, _ in nodes:
        await node.stop(timeout=0)
    of_def, of_async, of_suspending, of_task = (median(times) / SESSIONS / 1e3 for times in took)
    return {
        "async_over_def_us": of_async - of_def,
        "suspending_us": of_suspending - of_def,
        "task_us": of_task,
        "suspending_over_task": (of_suspending - of_def) / of_task,
    }


async def _node(handler: Callable[[Session, bytes], Awaitable[None] | None]) -> tuple[Node, Turn]:
    """A node on the memory back, and its turn: a packet of each session, handled to the end."""
    routes = Routes()
    routes.default(handler)
    engine = engine_for(Config(), memory=True)
    node = Node(App("bench", routes=[routes]), listen=(), engine=engine)
    await node.start()
    url = engine.listen("tcp://127.0.0.1:1?protocol=length4")
    now = 0.0

    def settle() -> None:
        nonlocal now
        now += 0.001
        engine.flush()
        engine.turn(now)

    settle()
    connections = [engine.connect(url) for _ in range(SESSIONS)]

    def drain() -> None:
        while engine.drain():
            pass

    async def turn() -> int:
        for connection in connections:
            connection.write(PACKET)
        settle()
        handled = int(engine.statistics()["loop"]["handled"])
        took = await _timed(drain)
        if engine.statistics()["loop"]["handled"] - handled != SESSIONS or engine.suspended():
            raise RuntimeError("not every packet was handled to its end")
        return took

    settle()
    drain()  # the sessions open
    return node, turn


async def _bare_tasks() -> int:
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[None]] = []
    took = await _timed(lambda: tasks.extend([loop.create_task(_later()) for _ in range(SESSIONS)]))
    if not all(task.done() for task in tasks):
        raise RuntimeError("not every task is done")
    return took


def _timed(begin: Callable[[], None]) -> asyncio.Future[int]:
    """`begin`, outside of any task, and the turns of the loop until nobody waits any more."""
    loop = asyncio.get_running_loop()
    took: asyncio.Future[int] = loop.create_future()
    began = 0

    def first() -> None:
        nonlocal began
        began = time.thread_time_ns()
        begin()
        loop.call_soon(then)

    def then() -> None:
        if not _waiting:
            took.set_result(time.thread_time_ns() - began)
            return
        for future in _waiting:
            future.set_result(None)
        _waiting.clear()
        loop.call_soon(then)

    loop.call_soon(first)
    return took

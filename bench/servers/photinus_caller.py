"""Photinus: a node that calls another one for a while and says how that went: `BENCH_CALL=SHAPE SECONDS WARMUP`.

Shapes: `1`, a call after the other; `64`, so many under way; `saturated`, a call after the other while
messages to sessions keep the link full; `stuck`, while a space on the other node answers nobody who calls it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from bench.servers.photinus_callee import Desk, Stuck, app
from bench.servers.reporting import add
from photinus import CallTimeout, SessionRef, Unreachable

SHAPE, SECONDS, WARMUP = os.environ["BENCH_CALL"].split()
CALLEE = "world-1"
IN_FLIGHT = 64

# Messages to a session that is not there: its engine drops them, so that it is the link that is full, and not the
# other node's Python. Each of these tasks sends so many and waits until they are there, so that what waits for the
# link does not wait for this node's reactor, in front of which there is one order for all.
BULK = bytes(16 * 1024)
BULK_A_TURN = 2
BULK_TASKS = 2
NOBODY = 1

# What a space gets that does not answer: a few times what it may hold of one sender.
STUCK_CALLS = 256
STUCK_TIMEOUT = 1.0
STUCK_BLOB = bytes(1024)

found: dict[str, float] = {}


async def measure() -> None:
    desk = Desk.at_node(CALLEE)
    await _reach(desk)
    async with _disturbed(desk):
        await _calls(desk, float(WARMUP))
        began = time.perf_counter()
        took = sorted(await _calls(desk, float(SECONDS)))
        seconds = time.perf_counter() - began
        links = app.statistics()["links"]
    found["link_mb_per_s"] = sum(link["bytes_out"] for link in links) / (seconds + float(WARMUP)) / 1e6
    found["calls_per_s"] = len(took) / seconds
    found["p50_us"] = took[len(took) // 2] * 1e6
    found["p99_us"] = took[int(len(took) * 0.99)] * 1e6


async def _reach(desk: Desk) -> None:
    while True:
        try:
            await desk.echo(0)
        except Unreachable:
            # The link is not up yet; whoever started this node has the patience.
            await asyncio.sleep(0.02)
        else:
            return


async def _calls(desk: Desk, seconds: float) -> list[float]:
    """How long each took, in seconds."""
    took: list[float] = []
    clock = time.perf_counter
    until = clock() + seconds

    async def one_after_the_other() -> None:
        number = 0
        while (began := clock()) < until:
            number += 1
            if await desk.echo(number) != number:
                raise RuntimeError("an answer is another call's")
            took.append(clock() - began)

    await asyncio.gather(*(one_after_the_other() for _ in range(IN_FLIGHT if SHAPE == "64" else 1)))
    return took


@asynccontextmanager
async def _disturbed(desk: Desk) -> AsyncGenerator[None]:
    disturb = {"saturated": (_bulk, BULK_TASKS), "stuck": (_stick, STUCK_CALLS)}.get(SHAPE)
    tasks = [asyncio.create_task(disturb[0](desk)) for _ in range(disturb[1])] if disturb else []
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _bulk(desk: Desk) -> None:
    (generation,) = {link["generation"] for link in app.statistics()["links"] if link["node"] == CALLEE}
    nobody = SessionRef(CALLEE, generation, NOBODY)
    while True:
        for _ in range(BULK_A_TURN):
            nobody.send("bulk", BULK)
        await desk.there()


async def _stick(_desk: Desk) -> None:
    stuck = Stuck.at("stuck", timeout=STUCK_TIMEOUT)
    while True:
        try:
            await stuck.enter(STUCK_BLOB)
        except CallTimeout:
            continue


app.task(measure)
add(lambda: found)
__all__ = ["app"]

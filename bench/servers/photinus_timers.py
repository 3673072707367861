"""Photinus: the echo, and beside it a timer that says how late it was called."""

from __future__ import annotations

import asyncio

from bench.servers.photinus_bytes import app
from bench.servers.reporting import add

# A tick of 200 Hz: many enough for a p99, few enough to cost nothing.
EVERY = 0.005

late_us: list[float] = []


async def tick() -> None:
    loop = asyncio.get_running_loop()
    turned = asyncio.Event()
    while True:
        due = loop.time() + EVERY

        def called(due: float = due) -> None:
            late_us.append((loop.time() - due) * 1e6)
            turned.set()

        loop.call_at(due, called)
        await turned.wait()
        turned.clear()


def lateness() -> dict[str, float]:
    """Since it was last asked for."""
    late = sorted(late_us)
    late_us.clear()
    return {"timer_late_p99_us": late[int(len(late) * 0.99)]} if late else {}


app.task(tick)
add(lateness)
__all__ = ["app"]

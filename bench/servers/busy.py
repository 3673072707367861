"""Python that keeps a proxy's process busy: a thread of its own, or the loop's thread in pieces.

`BENCH_BUSY` in the environment says how: `thread`, or `loop EVERY BUSY`: of every so many seconds so many are computed.
With `BENCH_BUSY_CPU` the thread that computes moves to that CPU; whatever else the process runs stays where it was
started.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

# What a thread that only computes is called, for whoever adds up the others (bench/forward.py).
NAME = "bench-busy"


def begin() -> None:
    """From the loop's thread, once the threads that are not to move have been started."""
    kind, *words = os.environ.get("BENCH_BUSY", "none").split()
    if kind == "thread":
        threading.Thread(target=_spin, daemon=True).start()
    elif kind == "loop":
        every, busy = (float(word) for word in words)
        _move()
        loop = asyncio.get_running_loop()
        loop.call_soon(_piece, loop, every, busy)


def _spin() -> None:
    _move()
    Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(NAME)
    while True:
        pass


def _piece(loop: asyncio.AbstractEventLoop, every: float, busy: float) -> None:
    began = time.perf_counter()
    until = began + busy
    while time.perf_counter() < until:
        pass
    loop.call_at(loop.time() + max(0.0, every - (time.perf_counter() - began)), _piece, loop, every, busy)


def _move() -> None:
    # Of the calling thread alone: 0 is not the process here (sched_setaffinity(2)).
    if cpu := os.environ.get("BENCH_BUSY_CPU"):
        os.sched_setaffinity(0, {int(cpu)})

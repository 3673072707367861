"""Photinus: the echo, in a process whose Python is busy with something else again and again."""

from __future__ import annotations

import os
import time

from bench.servers.photinus_bytes import app

# Of so many seconds so many are spent in a computation that does not let go.
EVERY, BUSY = (float(word) for word in os.environ["BENCH_BUSY"].split())


def compute() -> None:
    until = time.perf_counter() + BUSY
    while time.perf_counter() < until:
        pass


app.every(EVERY, compute)
__all__ = ["app"]

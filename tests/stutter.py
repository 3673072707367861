"""A command whose processes are stopped for a moment, again and again, as a crowded host does it to them.

    .venv/bin/python -m tests.stutter .venv/bin/pytest -n 4 tests/client
    .venv/bin/python -m tests.stutter --pause 0.005 --longest 0.05 make test-rust

A test that fails here and not otherwise depends on how fast it is run, or has found a fault that does. Linux alone.
What stops processes itself (bench/pace.py) may find them going on too early.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

SHORTEST_SECONDS = 0.001
# One time in so many all of them stand still, and not one.
ALL_OF = 8
# <linux/prctl.h>: whose parent has ended becomes this process's child, and is found.
PR_SET_CHILD_SUBREAPER = 36


def running() -> list[int]:
    """The descendants of this process that are neither ended nor stopped."""
    children: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name, in parentheses, may have anything in it.
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            children[int(parent)].append((int(stat.parent.name), state))
    found: list[int] = []
    parents = [os.getpid()]
    while parents:
        for pid, state in children[parents.pop()]:
            parents.append(pid)
            if state not in "ZTt":
                found.append(pid)
    return found


def stop_for(seconds: float, pids: list[int]) -> None:
    stopped: list[int] = []
    try:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)
        time.sleep(seconds)
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stutter", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="whom it hits, when, and for how long [%(default)s]")
    parser.add_argument(
        "--pause", type=float, default=0.05, metavar="SECONDS", help="between two stops, on average [%(default)s]"
    )
    parser.add_argument("--longest", type=float, default=0.15, metavar="SECONDS", help="the longest stop [%(default)s]")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="with its arguments")
    asked = parser.parse_args()
    if not asked.command:
        parser.error("a command is missing")
    if asked.pause <= 0 or asked.longest < SHORTEST_SECONDS:
        parser.error(f"--pause must be above 0, and --longest at least {SHORTEST_SECONDS}")
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    dice = random.Random(asked.seed)
    stops = 0
    with subprocess.Popen(asked.command) as command:
        while command.poll() is None:
            time.sleep(dice.expovariate(1 / asked.pause))
            pids = running()
            if pids:
                longest = asked.longest / SHORTEST_SECONDS
                hit = pids if dice.randrange(ALL_OF) == 0 else [dice.choice(pids)]
                stop_for(SHORTEST_SECONDS * longest ** dice.random(), hit)
                stops += 1
    sys.stderr.write(f"stopped {stops} times, seed {asked.seed}\n")
    return command.returncode


if __name__ == "__main__":
    sys.exit(main())

"""Row `call`: calls from one world node to another, over loopback."""

from __future__ import annotations

import time
from dataclasses import replace

from .chain import Chain
from .load import LoadFailed
from .plan import Plan
from .results import DISTURBED_CALLS, ONE_CALL
from .server import Server, ServerFailed
from .subjects import CALL, Subject

ROW = "call"

# What the caller does (servers/photinus_caller.py).
SHAPES = (ONE_CALL, "64", *DISTURBED_CALLS)

# Some thousands of calls: a p99 wants hundreds.
SECONDS = 2.0
# To find the other node, and to get going; and for a machine under other load.
PATIENCE_SECONDS = 30.0
ASK_SECONDS = 0.25


def run(plan: Plan) -> None:
    plan.measure(ROW, SHAPES, CALL, _window)


def _window(plan: Plan, subject: Subject, shape: str, round_: int) -> None:
    seconds = max(plan.seconds, SECONDS)
    environment = {**subject.environment, "BENCH_CALL": f"{shape} {seconds} {plan.warmup}"}
    try:
        with Chain(plan, replace(subject, environment=environment)) as chain:
            values = _wait(chain.front, seconds)
    except (ServerFailed, LoadFailed) as error:
        plan.results.problem(f"{ROW}/{shape}: {error}")
        return
    plan.results.add(ROW, subject.name, shape, round_, values)


def _wait(caller: Server, seconds: float) -> dict[str, float]:
    """Until it says what it found. Asking wakes it, so nobody asks before it can be done."""
    end = time.monotonic() + seconds + PATIENCE_SECONDS
    time.sleep(seconds)
    while time.monotonic() < end:
        own: dict[str, float] = (caller.statistics() or {})["own"]
        if own:
            return own
        time.sleep(ASK_SECONDS)
    raise LoadFailed(f"{caller.subject.name}: the calls did not end")

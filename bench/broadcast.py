"""Row `broadcast`: one 200-byte frame to each of 1,000 connections, once or four times in a turn."""

from __future__ import annotations

from . import load
from .counters import engine_figures
from .load import LoadFailed
from .plan import Plan
from .server import Server, ServerFailed
from .subjects import BROADCAST, Subject

ROW = "broadcast"
MEMBERS = 1000
# A burst takes some 5 ms: a window of an echo would hold a hundred, too few for a ratio of 1.05.
WINDOWS = 3

# Members x broadcasts in one turn of the server.
SHAPES = {"1000x1": 1, "1000x4": 4}


def run(plan: Plan) -> None:
    plan.measure(ROW, tuple(SHAPES), BROADCAST, _window)


def _window(plan: Plan, subject: Subject, shape: str, round_: int) -> None:
    arguments = ["receive", "--connections", str(MEMBERS), "--broadcasts", str(SHAPES[shape])]
    arguments += ["--seconds", str(WINDOWS * plan.seconds), "--warmup", str(plan.warmup), "--cpu", str(plan.load_cpu)]
    try:
        with Server(subject, plan.server_cpu, plan.bots) as server:
            before = server.statistics()
            report = load.run(plan.bots, arguments, server)
            after = server.statistics()
        values = report.given("deliveries_per_s", "p50_us", "p99_us")
        values |= report.cpu_figures(report.number("deliveries"))
        if before is not None and after is not None:
            values |= engine_figures(before, after, per="packets_out")
    except (ServerFailed, LoadFailed) as error:
        plan.results.problem(f"{ROW}/{shape}: {error}")
        return
    plan.results.add(ROW, subject.name, shape, round_, values)

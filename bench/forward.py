"""Row `forward`: 64-byte frames through a proxy to what gives them back, and through it again."""

from __future__ import annotations

from . import load
from .chain import Chain
from .counters import growth
from .load import LoadFailed, Report
from .plan import Plan
from .server import ServerFailed
from .servers import busy
from .subjects import FORWARD, Subject

ROW = "forward"

# Connections x frames under way on each.
SHAPES = {"2x1": (2, 1), "50x1": (50, 1), "50x16": (50, 16)}

# Some hundreds of a hundredth of a window's frames, and ten pieces of a busy loop.
SECONDS = 1.0


def run(plan: Plan) -> None:
    plan.measure(ROW, tuple(SHAPES), FORWARD, _window)


def _window(plan: Plan, subject: Subject, shape: str, round_: int) -> None:
    connections, depth = SHAPES[shape]
    arguments = ["echo", "--connections", str(connections), "--depth", str(depth), *load.payload_arguments(typed=False)]
    arguments += ["--seconds", str(max(plan.seconds, SECONDS)), "--warmup", str(plan.warmup)]
    arguments += ["--cpu", str(plan.load_cpu)]
    try:
        with Chain(plan, subject) as chain:
            chain.wait_for_links()
            before = chain.front.statistics()
            report = load.run(plan.bots, arguments, chain.front)
            after = chain.front.statistics()
    except (ServerFailed, LoadFailed) as error:
        plan.results.problem(f"{ROW}/{shape}: {error}")
        return
    values = report.given("p50_us", "p99_us") | {"packets_per_s": report.number("echoes_per_s")}
    values |= _cpu(report, subject, chain.front.process)
    if before is not None and after is not None:
        values["gil_us"] = growth(before, after, "gil_ns") / 1e3 / max(1.0, report.number("echoes"))
    plan.results.add(ROW, subject.name, shape, round_, values)
    if report.values["errors"]:
        plan.results.problem(f"{ROW}/{shape}: {subject.name}: {report.values['errors']} frames unanswered or wrong")


def _cpu(report: Report, subject: Subject, process: int) -> dict[str, float]:
    """Without what a busy Python takes for itself; where that is the thread that forwards, there is no telling."""
    watched = report.values["watched"]
    own = 0.0
    if subject.busy.startswith("loop"):
        if not subject.is_photinus:
            return {}
        own = watched["main_cpu_us"]
    elif subject.busy:
        own = sum(thread["cpu_us"] for thread in watched["threads"] if thread["name"] == busy.NAME)
    return {"proxy_cpu_us": (watched["cpu_us"] - own) / max(1.0, report.number("echoes"))}

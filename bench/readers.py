"""Row `readers`: broadcasts, while a few of those who are sent them read one byte a second."""

from __future__ import annotations

from . import load
from .load import LoadFailed
from .plan import Plan, rotated
from .results import CALM
from .server import Server, ServerFailed
from .subjects import BROADCAST, Subject

ROW = "readers"

MEMBERS = 200
# Large frames, so that what the kernel keeps for a slow reader (some megabytes) is full within seconds.
LOAD = ("--connections", str(MEMBERS), "--broadcasts", "4", "--size", "4096")
SECONDS = 5.0

# Readers of a byte a second.
SHAPES = {CALM: 0, "slow": 4}


def run(plan: Plan) -> None:
    shapes = [shape for shape in SHAPES if plan.wants(ROW, shape)]
    subjects = [subject for subject in BROADCAST if subject.is_photinus and plan.wants(ROW, "*", subject.name)]
    if not shapes or not subjects:
        return
    with plan.progress() as progress:
        task = progress.add_task(ROW, total=plan.rounds * len(shapes) * len(subjects))
        for round_ in range(plan.rounds):
            for subject in rotated(subjects, round_):
                for shape in rotated(shapes, round_):
                    label = f"{ROW} {shape}, round {round_ + 1} of {plan.rounds}: {subject.name}"
                    plan.say(label)
                    progress.update(task, description=label)
                    _window(plan, subject, shape, round_)
                    progress.advance(task)


def _window(plan: Plan, subject: Subject, shape: str, round_: int) -> None:
    arguments = ["receive", *LOAD, "--slow", str(SHAPES[shape]), "--seconds", str(max(plan.seconds, SECONDS))]
    arguments += ["--warmup", str(plan.warmup), "--cpu", str(plan.load_cpu)]
    try:
        with Server(subject, plan.server_cpu, plan.bots) as server:
            report = load.run(plan.bots, arguments, server)
            statistics = server.statistics() or {}
    except (ServerFailed, LoadFailed) as error:
        plan.results.problem(f"{ROW}/{shape}: {error}")
        return
    values = report.given("deliveries_per_s", "p50_us", "p99_us")
    if SHAPES[shape]:
        values["slow_ended"] = float(statistics["engine"]["closed_slow"])
    plan.results.add(ROW, subject.name, shape, round_, values)

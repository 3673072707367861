"""Row `resume`: all players are cut off at once, while pushes and requests run, and come back."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass

from .load import LoadFailed
from .plan import Plan, rotated
from .server import Server, ServerFailed
from .subjects import RESUME, Subject

ROW = "resume"

# Before the cut and after: some pushes and requests of each player.
BEFORE_SECONDS = AFTER_SECONDS = 2.0
# The load has its own time limits, a minute and a half in all.
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Shape:
    name: str
    subject: str
    players: int
    push_every: float
    """Seconds between two pushes to everybody: 20,000 deliveries a second."""


SHAPES = (
    Shape("1000", "photinus-wss", 1_000, 0.05),
    Shape("10000", "photinus-tcp", 10_000, 0.5),
)


def run(plan: Plan) -> None:
    subjects = {subject.name: subject for subject in RESUME}
    shapes = [shape for shape in SHAPES if plan.wants(ROW, shape.name, shape.subject)]
    if not shapes:
        return
    with plan.progress() as progress:
        task = progress.add_task(ROW, total=plan.rounds * len(shapes))
        for round_ in range(plan.rounds):
            for shape in rotated(shapes, round_):
                label = f"{ROW} {shape.name}, round {round_ + 1} of {plan.rounds}"
                plan.say(label)
                progress.update(task, description=f"{label}: {shape.subject}")
                _once(plan, subjects[shape.subject], shape, round_)
                progress.advance(task)


def _once(plan: Plan, subject: Subject, shape: Shape, round_: int) -> None:
    subject = subject.running("photinus_pushes.py", {"BENCH_EVERY": str(shape.push_every)})
    try:
        with Server(subject, plan.server_cpu, plan.bots) as server:
            report = _cut(plan, server, shape)
            statistics = server.statistics() or {}
    except (ServerFailed, LoadFailed) as error:
        plan.results.problem(f"{ROW}/{shape.name}: {error}")
        return
    wrong = report["gaps"] + report["lost"] + report["doubled"] + report["failed"] + statistics["own"]["said_wrong"]
    values = {"all_back_s": report["all_back_s"], "back_p50_ms": report["p50_us"] / 1000, "wrong": wrong}
    plan.results.add(ROW, subject.name, shape.name, round_, {name: float(value) for name, value in values.items()})
    if wrong:
        plan.results.problem(f"{ROW}/{shape.name}: {wrong} messages lost, doubled or refused: {report['first_error']}")


def _cut(plan: Plan, server: Server, shape: Shape) -> dict[str, float]:
    command = [str(plan.bots), "resume", "--to", server.address, "--connections", str(shape.players)]
    command += ["--before", str(BEFORE_SECONDS), "--after", str(AFTER_SECONDS), "--cpu", str(plan.load_cpu)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(f"{server.subject.name}: the load did not end") from error
    if done.returncode != 0:
        raise LoadFailed(f"{server.subject.name}: {done.stderr.strip() or done.returncode}")
    report: dict[str, float] = json.loads(done.stdout)
    return report

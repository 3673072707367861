"""Row `echo`: 64-byte frames there and back."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass

from rich.progress import Progress, TaskID

from . import load
from .counters import engine_figures
from .load import LoadFailed, Report
from .machine import BUILD, perf_counts_system_calls
from .plan import Plan, rotated
from .server import Server, ServerFailed
from .subjects import ECHO, Subject

ROW = "echo"


@dataclass(frozen=True)
class Shape:
    name: str
    connections: int
    depth: int = 1
    rate: int | None = None
    """Packets a second in all (open loop)."""
    one_core: bool = False
    """The load runs on the server's CPU."""
    one_message: bool = False
    """Over WebSocket: what is sent at once is one message."""
    windows: int = 1
    """Its window is so many of the others': a tail wants more packets."""
    system_calls: bool = False
    """Whether they are counted, in a window of their own that is not timed."""

    def arguments(self) -> tuple[str, ...]:
        pace = ("--depth", str(self.depth)) if self.rate is None else ("--rate", str(self.rate))
        joined = ("--one-message",) if self.one_message else ()
        return ("--connections", str(self.connections), *pace, *joined)


SHAPES = (
    Shape("1x1", 1),
    Shape("1x1-onecore", 1, one_core=True),
    Shape("4x1-onecore", 4, one_core=True),
    Shape("50x1", 50, system_calls=True),
    Shape("50x16", 50, depth=16, system_calls=True),
    Shape("1000x1", 1000, system_calls=True),
    Shape("1000x16", 1000, depth=16, system_calls=True),
    Shape("open20k", 1000, rate=20_000, windows=3),
    Shape("open60k", 1000, rate=60_000, windows=3),
)


def run(plan: Plan) -> None:
    measure(plan, ROW, SHAPES, ECHO)


def measure(plan: Plan, row: str, shapes: Sequence[Shape], subjects: Sequence[Subject]) -> None:
    """Echoes of these subjects in these shapes, as a row of this name."""
    wanted = [shape for shape in shapes if plan.wants(row, shape.name)]
    chosen = plan.chosen(row, [shape.name for shape in wanted], subjects)
    if not wanted or not chosen:
        return
    with plan.progress() as progress:
        task = progress.add_task(row, total=plan.rounds * len(wanted) * len(chosen))
        broken: set[str] = set()
        for round_ in range(plan.rounds):
            _Round(plan, row, round_, progress, task, broken).run(wanted, chosen)


class _Round:
    """Every subject in every shape, once; servers live as long as the round, so that what is luck
    in a process's start differs from round to round."""

    def __init__(self, plan: Plan, row: str, number: int, progress: Progress, task: TaskID, broken: set[str]) -> None:
        self.plan = plan
        self.row = row
        self.number = number
        self.progress = progress
        self.task = task
        self.broken = broken
        self.servers: dict[str, Server] = {}

    def run(self, shapes: list[Shape], subjects: list[Subject]) -> None:
        try:
            for index, shape in enumerate(shapes):
                label = f"{self.row} {shape.name}, round {self.number + 1} of {self.plan.rounds}"
                self.plan.say(label)
                for subject in rotated(subjects, self.number + index):
                    self.progress.update(self.task, description=f"{label}: {subject.name}")
                    self._try(subject, shape)
                    self.progress.advance(self.task)
        finally:
            for server in self.servers.values():
                server.stop()

    def _try(self, subject: Subject, shape: Shape) -> None:
        if subject.name in self.broken or not self.plan.wants(self.row, shape.name, subject.name):
            return
        try:
            if subject.name not in self.servers:
                self.servers[subject.name] = Server(subject, self.plan.server_cpu, self.plan.bots)
            self._window(self.servers[subject.name], shape)
        except ServerFailed as error:
            self.broken.add(subject.name)
            self.plan.results.problem(f"{self.row}: {error}")
        except LoadFailed as error:
            self.plan.results.problem(f"{self.row}/{shape.name}: {error}")
            if subject.name in self.servers:
                self.servers.pop(subject.name).stop()

    def _window(self, server: Server, shape: Shape) -> None:
        plan, subject = self.plan, server.subject
        before = server.statistics()
        report = load.run(plan.bots, arguments(plan, subject, shape), server)
        after = server.statistics()
        values = _figures(report)
        if before is not None and after is not None:
            values |= engine_figures(before, after)
        if shape.system_calls and perf_counts_system_calls():
            # One way of counting for all; the engine's own is for where the kernel's is not to be had.
            values.pop("syscalls_per_1000", None)
            if self.number == 0:
                values |= {"syscalls_per_1000": _system_calls(plan, server, shape)}
        plan.results.add(self.row, subject.name, shape.name, self.number, values)
        if report.values["errors"]:
            plan.results.problem(
                f"{self.row}/{shape.name}: {subject.name}: {report.values['errors']} packets unanswered or wrong"
                f" ({report.values['first_error'] or 'in time'})"
            )


def arguments(plan: Plan, subject: Subject, shape: Shape) -> list[str]:
    cpu = plan.server_cpu if shape.one_core else plan.load_cpu
    return [
        "echo",
        *shape.arguments(),
        *load.payload_arguments(typed=subject.typed),
        "--seconds",
        str(plan.seconds * shape.windows),
        "--warmup",
        str(plan.warmup),
        "--cpu",
        str(cpu),
    ]


def _figures(report: Report) -> dict[str, float]:
    return report.given("echoes_per_s", "p50_us", "p99_us") | report.cpu_figures(report.number("echoes"))


def _system_calls(plan: Plan, server: Server, shape: Shape) -> float:
    """Counted by the kernel, for all subjects alike. Without warm-up, so that all that is counted
    belongs to echoes that are counted, but for the accepting."""
    output = BUILD / "perf-stat.csv"
    command = arguments(plan, server.subject, shape)
    command[command.index("--warmup") + 1] = "0"
    perf = ["perf", "stat", "-x,", "-o", str(output), "-e", "raw_syscalls:sys_enter", "-p", str(server.process), "--"]
    report = load.run(plan.bots, command, server, prefix=perf)
    rows = csv.reader(line for line in output.read_text().splitlines() if not line.startswith("#"))
    count = next(float(row[0]) for row in rows if len(row) > 2 and "sys_enter" in row[2])
    return 1e3 * count / report.number("echoes")

"""Row `forward`: 64-byte frames through a proxy to what gives them back, and through it again."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from . import load
from .chain import Chain
from .counters import growth
from .load import LoadFailed, Report
from .plan import Plan, rotated
from .results import PLAIN
from .server import ServerFailed
from .servers import busy
from .subjects import FORWARD, Subject

ROW = "forward"

# Connections x frames under way on each.
SHAPES = {"2x1": (2, 1), "50x1": (50, 1), "50x16": (50, 16)}

# Some hundreds of a hundredth of a window's frames, and ten pieces of a busy loop.
SECONDS = 1.0


@dataclass(frozen=True)
class Turns:
    """Subjects that run at once, one of them awake at a time: short windows, in turn, so many times. What a busy Python
    does to forwarding is less than what a host's speed changes by within a second."""

    subjects: tuple[Subject, ...]
    turns: int
    seconds: float

    @staticmethod
    def of(prefix: str, turns: int, seconds: float) -> Turns:
        apart = tuple(subject for subject in FORWARD if subject.apart and subject.name.startswith(prefix))
        return Turns(apart, turns, seconds)


# Three pieces of a busy loop are in a window of the one; the other's are so long since some have no frame at all.
BY_TURNS = (Turns.of("photinus", 7, 0.3), Turns.of("uvloop", 1, SECONDS))


def run(plan: Plan) -> None:
    plan.measure(ROW, tuple(SHAPES), [subject for subject in FORWARD if not subject.apart], _window)
    shapes = [shape for shape in SHAPES if plan.wants(ROW, shape)]
    chosen = [(turns, plan.chosen(ROW, shapes, turns.subjects)) for turns in BY_TURNS]
    wanted = [(turns, subjects) for turns, subjects in chosen if subjects]
    with plan.progress() as progress:
        task = progress.add_task(ROW, total=plan.rounds * len(shapes) * len(wanted))
        for round_ in range(plan.rounds):
            for shape in shapes:
                for turns, subjects in wanted:
                    label = f"{ROW} {shape} by turns, round {round_ + 1} of {plan.rounds}: {subjects[0].name}"
                    plan.say(label)
                    progress.update(task, description=label)
                    _by_turns(plan, turns, subjects, shape, round_)
                    progress.advance(task)


def _window(plan: Plan, subject: Subject, shape: str, round_: int) -> None:
    try:
        with Chain(plan, subject) as chain:
            values = _through(plan, chain, shape, max(plan.seconds, SECONDS))
    except (ServerFailed, LoadFailed) as error:
        plan.results.problem(f"{ROW}/{shape}: {error}")
        return
    plan.results.add(ROW, subject.name, shape, round_, values)


def _by_turns(plan: Plan, turns: Turns, subjects: list[Subject], shape: str, round_: int) -> None:
    measured: dict[str, list[dict[str, float]]] = {subject.name: [] for subject in subjects}
    try:
        with ExitStack() as stack:
            chains = {subject.name: stack.enter_context(Chain(plan, subject, paused=True)) for subject in subjects}
            for turn in range(turns.turns):
                for name in rotated(list(chains), round_ + turn):
                    with chains[name].awake() as chain:
                        measured[name].append(_through(plan, chain, shape, turns.seconds))
    except (ServerFailed, LoadFailed) as error:
        plan.results.problem(f"{ROW}/{shape}: {error}")
        return
    for name, windows in measured.items():
        values = {metric: median(of[metric] for of in windows if metric in of) for metric in windows[0]}
        if name in PLAIN:
            values |= over_idle(windows, measured[PLAIN[name]])
        plan.results.add(ROW, name, shape, round_, values)


def over_idle(windows: list[dict[str, float]], idle: list[dict[str, float]]) -> dict[str, float]:
    """Each over its neighbour in the same turn."""
    values: dict[str, float] = {}
    for metric, ratio in (("packets_per_s", "packets_over_idle"), ("p99_us", "p99_over_idle")):
        pairs = [
            of[metric] / base[metric]
            for of, base in zip(windows, idle, strict=True)
            if metric in of and base.get(metric)
        ]
        if pairs:
            values[ratio] = median(pairs)
    return values


def _through(plan: Plan, chain: Chain, shape: str, seconds: float) -> dict[str, float]:
    """One window."""
    connections, depth = SHAPES[shape]
    arguments = ["echo", "--connections", str(connections), "--depth", str(depth), *load.payload_arguments(typed=False)]
    arguments += ["--seconds", str(seconds), "--warmup", str(plan.warmup), "--cpu", str(plan.load_cpu)]
    subject = chain.subject
    chain.wait_for_links()
    before = chain.front.statistics()
    report = load.run(plan.bots, arguments, chain.front)
    after = chain.front.statistics()
    values = report.given("p50_us", "p99_us") | {"packets_per_s": report.number("echoes_per_s")}
    values |= _cpu(report, subject)
    if before is not None and after is not None:
        values["gil_us"] = growth(before, after, "gil_ns") / 1e3 / max(1.0, report.number("echoes"))
    if report.values["errors"]:
        plan.results.problem(f"{ROW}/{shape}: {subject.name}: {report.values['errors']} frames unanswered or wrong")
    return values


def _cpu(report: Report, subject: Subject) -> dict[str, float]:
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

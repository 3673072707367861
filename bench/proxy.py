"""Row `proxy`: users of a game come and go through a proxy; what they cost, and what it adds to their latency.

The traffic is that of CCP's own measurement of BlueNet, as near as it was told: docs/bench.md, row `proxy`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from . import load
from .chain import Chain
from .counters import growth
from .load import LoadFailed
from .machine import idle_seconds, wakes
from .plan import Plan, rotated
from .plot import DOWN
from .server import Server, ServerFailed
from .subjects import ANSWERS, PROXY, Subject

ROW = "proxy"

# Users at a time; on the way down shapes have a mark behind.
RAMP = (0, 200, 400, 800, 1200, 1600, 800, 200, 0)
SECONDS = 1.0
WARMUP = 0.4

# How many users a proxy holds: more and more of them, until what it adds is felt in so many steps in a row. In one
# alone it may be the host that stood still.
HELD = "held"
LADDER = tuple(round(800 * 1.25**step) for step in range(14))
HELD_P99_US = 50_000.0
FELT = 3
HOLDERS = ("native", "uvloop", "photinus", "uvloop-half-busy", "photinus-half-busy")
# Less of its bundles than that, and the chain is behind.
LEAST_DELIVERED = 0.97
# Of the load's core: with less than this the load, or the world beside it, may be what is late.
LEAST_IDLE = 0.05

BUNDLES_PER_S = 10
# Of an answer, with what the world puts around it.
ANSWER_BYTES = 600
AROUND_BYTES = 60


@dataclass(frozen=True)
class Step:
    """What one step of the load found, and what the proxy did meanwhile."""

    users: int
    report: dict[str, Any]
    wakes_per_s: float
    load_idle: float
    gil_us: float | None

    @property
    def delivered(self) -> float:
        """Of what its users were to be sent, the share that has come."""
        return float(self.report["bundles"] / max(1.0, self.users * BUNDLES_PER_S * self.report["seconds"]))


def run(plan: Plan) -> None:
    steps = shapes()
    ramps = [each for each in PROXY if any(plan.wants(ROW, shape, each.name) for shape in steps)]
    holders = [each for each in PROXY if each.name in HOLDERS and plan.wants(ROW, HELD, each.name)]
    if not any(plan.wants(ROW, shape) for shape in (*steps, HELD)) or not (ramps or holders):
        return
    ANSWERS.parent.mkdir(parents=True, exist_ok=True)
    ANSWERS.write_text("".join(f"{answer(random.Random(number))}\n" for number in range(64)))
    with plan.progress() as progress:
        task = progress.add_task(ROW, total=plan.rounds * (len(ramps) + len(holders)))
        for round_ in range(plan.rounds):
            for what, subjects, measure in ((f"{ROW} ramp", ramps, _ramp), (f"{ROW} {HELD}", holders, _hold)):
                for subject in rotated(subjects, round_):
                    label = f"{what}, round {round_ + 1} of {plan.rounds}: {subject.name}"
                    plan.say(label)
                    progress.update(task, description=label)
                    try:
                        measure(plan, subject, round_)
                    except (ServerFailed, LoadFailed) as error:
                        plan.results.problem(f"{what}: {error}")
                    progress.advance(task)


def shapes() -> list[str]:
    """Of the ramp's steps, in their order."""
    top = RAMP.index(max(RAMP))
    return [str(users) if at <= top else f"{users}{DOWN}" for at, users in enumerate(RAMP)]


def _ramp(plan: Plan, subject: Subject, round_: int) -> None:
    with Chain(plan, subject) as chain, closing(_steps(plan, chain.front, RAMP)) as steps:
        for shape, step in zip(shapes(), steps, strict=True):
            plan.results.add(ROW, subject.name, shape, round_, _figures(subject, step))
            if step.report["unanswered"]:
                plan.results.problem(f"{ROW}/{shape}: {subject.name}: {step.report['unanswered']} were not answered")


def _hold(plan: Plan, subject: Subject, round_: int) -> None:
    with Chain(plan, subject) as chain, closing(_steps(plan, chain.front, LADDER)) as steps:
        held, bound = most_held(steps)
    plan.results.add(ROW, subject.name, HELD, round_, {"users_held": float(held), "load_bound": float(bound)})


def most_held(steps: Iterator[Step]) -> tuple[int, bool]:
    """The most users whose step was in order; and whether, in the one after that, it may have been the load that could
    do no more, or there was none."""
    held, felt, bound = 0, 0, True
    while felt < FELT:
        try:
            step = next(steps)
        except StopIteration:
            break
        except LoadFailed:
            if not felt:
                raise
            break  # more users than it holds are not all let in, or answered
        p99 = step.report["p99_us"]
        if p99 is not None and p99 < HELD_P99_US and step.delivered >= LEAST_DELIVERED:
            held, felt, bound = step.users, 0, True
        else:
            if not felt:
                bound = step.load_idle < LEAST_IDLE
            felt += 1
    return held, bound


def _figures(subject: Subject, step: Step) -> dict[str, float]:
    report, watched = step.report, step.report["watched"]
    seconds = report["seconds"]
    values = {"wakes_per_s": step.wakes_per_s}
    named = {"added_p50_us": "p50_us", "added_p99_us": "p99_us", "asked_p99_us": "ask_p99_us"}
    values |= {name: report[said] for name, said in named.items() if report[said] is not None}
    if step.users:
        values["delivered"] = step.delivered
    # What half of a proxy's time is spent on besides is not to be told from the rest.
    if not subject.busy:
        values["cpu_share"] = watched["cpu_us"] / seconds / 1e6
        if step.users:
            values["cpu_us_per_user_s"] = watched["cpu_us"] / seconds / step.users
            if subject.is_photinus:
                values["gil_us"] = (step.gil_us or 0.0) / seconds / step.users
            elif subject.python == "main":
                # Its thread holds the GIL in all that it does but the system calls.
                values["gil_us"] = watched["main_cpu_us"] / seconds / step.users
    return values


def _steps(plan: Plan, front: Server, users: tuple[int, ...]) -> Generator[Step]:
    """Runs the load, and looks at the proxy at both edges of each of its windows."""
    photinus, compress = front.subject.is_photinus, front.subject.scheme == "tls"
    arguments = ["users", "--protocol", "photinus" if photinus else "length4"]
    if compress:
        by_protocol = any("compress" in protocol for protocol in front.subject.protocols)
        arguments += ["--zlib", "protocol" if by_protocol else "payload"]
    seconds = max(plan.seconds, SECONDS)
    arguments += ["--ramp", ",".join(map(str, users)), "--seconds", str(seconds), "--warmup", str(WARMUP)]
    arguments += ["--cpu", str(plan.load_cpu)]
    before: tuple[dict[str, Any] | None, int, float] | None = None
    for said in load.follow(plan.bots, arguments, front):
        now = (front.statistics(), wakes(front.process), idle_seconds(plan.load_cpu))
        if "begins" in said:
            before = now
        elif before is not None:
            gil = growth(before[0], now[0], "gil_ns") / 1e3 if before[0] and now[0] else None
            took = float(said["seconds"])
            yield Step(said["users"], said, (now[1] - before[1]) / took, (now[2] - before[2]) / took, gil)


def answer(dice: random.Random) -> str:
    """What the world tells who asks: an inventory, say, in JSON."""
    things: list[dict[str, object]] = []
    text = ""
    while len(text) < ANSWER_BYTES - AROUND_BYTES:
        things.append(
            {
                "id": dice.randrange(100_000, 999_999),
                "name": dice.choice(("lantern", "ember", "hull plate", "comet dust", "drive")),
                "count": dice.randrange(1, 500),
                "worth": round(dice.uniform(1, 900), 2),
            }
        )
        text = json.dumps({"things": things}, separators=(",", ":"))
    return text

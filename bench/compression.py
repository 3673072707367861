"""Row `compression`: requests of 1 KB of JSON and their answers, with zlib and without."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path

from . import load
from .counters import engine_figures
from .load import LoadFailed
from .machine import BUILD
from .plan import Plan
from .server import Server, ServerFailed
from .subjects import COMPRESSION, Subject

ROW = "compression"
SHAPES = {
    "50x16": ("--depth", "16"),
    # The same load for all, and far from what any of them can do: turns of the loop differ less.
    "open10k": ("--rate", "10000"),
}
CONNECTIONS = 50

BYTES = 1024
# Different payloads, so that none is in every cache.
PAYLOADS = 64


def run(plan: Plan) -> None:
    plan.measure(ROW, tuple(SHAPES), COMPRESSION, _window)


def _window(plan: Plan, subject: Subject, shape: str, round_: int) -> None:
    protocol, _, options = subject.protocols[0].partition("&")
    arguments = ["ask", "--protocol", protocol, "--payloads", str(payloads()), *SHAPES[shape]]
    arguments += ["--connections", str(CONNECTIONS)]
    arguments += ["--compress"] if options else []
    arguments += ["--seconds", str(plan.seconds), "--warmup", str(plan.warmup), "--cpu", str(plan.load_cpu)]
    try:
        with Server(subject, plan.server_cpu, plan.bots) as server:
            before = server.statistics()
            report = load.run(plan.bots, arguments, server)
            after = server.statistics()
        values = report.given("echoes_per_s", "p50_us", "p99_us") | report.cpu_figures(report.number("echoes"))
        if before is not None and after is not None:
            values |= engine_figures(before, after)
    except (ServerFailed, LoadFailed) as error:
        plan.results.problem(f"{ROW}/{shape}: {error}")
        return
    plan.results.add(ROW, subject.name, shape, round_, values)


@cache
def payloads() -> Path:
    """What a client of a game is told some times a second: who is where, in JSON; the same in each run."""
    dice = random.Random(7)
    path = BUILD / "payloads.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{_snapshot(dice, tick)}\n" for tick in range(PAYLOADS)))
    return path


def _snapshot(dice: random.Random, tick: int) -> str:
    players: list[dict[str, object]] = []
    text = ""
    while len(text) < BYTES:
        players.append(
            {
                "id": dice.randrange(100_000, 999_999),
                "name": dice.choice(("firefly", "lantern", "ember", "comet")) + str(dice.randrange(1000)),
                "x": round(dice.uniform(-512, 512), 2),
                "y": round(dice.uniform(-512, 512), 2),
                "hp": dice.randrange(101),
                "state": dice.choice(("idle", "walking", "fighting", "trading")),
            }
        )
        text = json.dumps({"tick": 1_000_000 + tick, "players": players}, separators=(",", ":"))
    return text

"""`python -m bench`: all rows, or those that --row matches; one table, and build/bench.json."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from . import (
    broadcast,
    call,
    compression,
    dev,
    doors,
    echo,
    forward,
    handshakes,
    memory,
    multicast,
    pace,
    plot,
    profile,
    proxy,
    readers,
    resume,
    table,
    tasks,
)
from .machine import allow_files
from .plan import Plan

OUTPUT = Path("build/bench.json")
FEWEST_ROUNDS = 5
ROWS = (
    echo,
    doors,
    handshakes,
    compression,
    resume,
    pace,
    tasks,
    broadcast,
    readers,
    forward,
    proxy,
    multicast,
    call,
    memory,
    dev,
)


def main() -> int:
    options = _parser().parse_args()
    if not Path("bench/floor.c").exists():
        print("bench: to be run from the repository's root", file=sys.stderr)
        return 2
    if options.draw:
        # What was measured last, where it is shown.
        return 0 if OUTPUT.exists() and plot.draw(OUTPUT, options.draw) else _nothing_to_draw()
    allow_files()
    plan = Plan(_bots(options.bots), options.row, options.rounds, options.seconds)
    if options.profile:
        subject, shape = options.profile
        return profile.run(plan, subject, shape)
    if plan.rounds < FEWEST_ROUNDS:
        plan.results.problem(f"{plan.rounds} rounds are a trial: values that are compared want {FEWEST_ROUNDS}")
    try:
        for row in ROWS:
            row.run(plan)
    except KeyboardInterrupt:
        plan.results.problem("interrupted: what was measured until then")
    plan.results.compare()
    if not plan.results.measured():
        print(f"bench: nothing measured for {plan.pattern!r}", file=sys.stderr)
    table.show(plan.results, Console())
    plan.results.write(OUTPUT)
    print(f"written: {OUTPUT}")
    if drawn := plot.draw(OUTPUT, OUTPUT.parent):
        print(f"written: {drawn}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--row", default="*", metavar="GLOB", help="ROW, ROW/SHAPE or ROW/SHAPE/SUBJECT: echo/50x16")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("BENCH_ROUNDS", "5")))
    parser.add_argument(
        "--seconds", type=float, default=float(os.environ.get("BENCH_SECONDS", "0.6")), help="one measured window"
    )
    parser.add_argument("--bots", type=Path, help="the photinus-bots binary; built by cargo if not given")
    parser.add_argument(
        "--profile", nargs=2, metavar=("SUBJECT", "SHAPE"), help="one echo subject under perf record, instead"
    )
    parser.add_argument("--draw", type=Path, metavar="FOLDER", help="the plots of the last run into there, instead")
    return parser


def _nothing_to_draw() -> int:
    print(f"bench: {OUTPUT} has nothing of the row proxy: make bench ROW=proxy", file=sys.stderr)
    return 2


def _bots(given: Path | None) -> Path:
    if given is not None:
        return given
    subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "photinus-bots"], check=True)
    return Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "release" / "photinus-bots"


if __name__ == "__main__":
    sys.exit(main())

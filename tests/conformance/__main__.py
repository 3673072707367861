"""`python -m tests.conformance WSTEST`: Autobahn's fuzzing client against a node; one table, and an exit code.

WSTEST is the program of Autobahn's test suite. `--cases quick` leaves out sections 12 and 13 (compression), which take
ten minutes; without it all are run, and docs/conformance.md is written.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from . import results, server

OUTPUT = Path("build/conformance")
DOCUMENT = Path("docs/conformance.md")
# Many times what it takes.
SECONDS = {"quick": 600, "all": 3600}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance")
    parser.add_argument("wstest", type=Path)
    parser.add_argument("--cases", choices=sorted(SECONDS), default="all")
    options = parser.parse_args()
    sections = results.QUICK if options.cases == "quick" else results.ALL
    with serving() as address:
        run(options.wstest, address, sections, SECONDS[options.cases])
    cases = results.read((OUTPUT / "index.json").read_bytes())
    console = Console()
    console.print(table(cases, sections))
    problems = results.problems(cases, sections)
    for problem in problems:
        console.print(problem, markup=False)
    console.print(f"reports of all cases: {OUTPUT}/index.html")
    if options.cases == "all":
        version = subprocess.run([options.wstest, "-a"], capture_output=True, text=True, check=True)
        DOCUMENT.write_text(results.document(cases, version.stdout.split("\n")[1]))
    return 1 if problems else 0


@contextmanager
def serving() -> Iterator[str]:
    """A node in a process of its own; its address, without the query."""
    program = [sys.executable, "-m", "tests.conformance.server"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdin is not None
        assert node.stdout is not None
        yield node.stdout.readline().partition("?")[0]
        node.stdin.close()
    assert node.returncode == 0, f"{server.__name__} ended with {node.returncode}"


def run(wstest: Path, address: str, sections: Sequence[int], seconds: int) -> None:
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "index.json").unlink(missing_ok=True)
    specification = OUTPUT / "specification.json"
    specification.write_text(
        json.dumps(
            {
                "outdir": str(OUTPUT),
                "servers": [{"agent": "photinus", "url": address}],
                "cases": [f"{section}.*" for section in sections],
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
        )
    )
    with (OUTPUT / "log").open("w") as log:
        subprocess.run(
            [wstest.absolute(), "-m", "fuzzingclient", "-s", specification],
            stdout=log,
            stderr=log,
            timeout=seconds,
            check=True,
        )


def table(cases: dict[str, results.Case], sections: Sequence[int]) -> Table:
    shown = Table("", "section", title="Autobahn's fuzzing client")
    for column in ("cases", "OK", "not judged", "failed"):
        shown.add_column(column, justify="right")
    for row in results.rows(cases, sections):
        shown.add_row(*map(str, row))
    return shown


if __name__ == "__main__":
    sys.exit(main())

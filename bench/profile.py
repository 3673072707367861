"""`python -m bench --profile SUBJECT SHAPE`: where an echo server's CPU goes, by perf."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace

from . import load
from .echo import SHAPES, arguments
from .load import LoadFailed
from .machine import BUILD
from .plan import Plan
from .server import Server, ServerFailed
from .subjects import ECHO

SECONDS = 3.0


def run(plan: Plan, subject_name: str, shape_name: str) -> int:
    subject = next((each for each in ECHO if each.name == subject_name), None)
    shape = next((each for each in SHAPES if each.name == shape_name), None)
    if subject is None or shape is None:
        subjects, shapes = ", ".join(each.name for each in ECHO), ", ".join(each.name for each in SHAPES)
        print(f"bench: --profile takes one of {subjects}; and one of {shapes}", file=sys.stderr)
        return 2
    if shutil.which("perf") is None:
        print("bench: --profile needs perf: apt-get install linux-perf", file=sys.stderr)
        return 2
    output = BUILD / "perf.data"
    perf = ["perf", "record", "--quiet", "-g", "-F", "1999", "-o", str(output)]
    # A server in Python tells perf the names of its functions from 3.12 on.
    subject = replace(subject, environment={**subject.environment, "PYTHONPERFSUPPORT": "1"})
    plan = replace(plan, seconds=max(plan.seconds, SECONDS))
    try:
        with Server(subject, plan.server_cpu, plan.bots) as server:
            prefix = [*perf, "-p", str(server.process), "--"]
            report = load.run(plan.bots, arguments(plan, subject, shape), server, prefix=prefix)
    except (ServerFailed, LoadFailed) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    threads = report.values["watched"]["threads"]
    for thread in threads:
        print(f"{thread['name']:<16} {thread['cpu_us'] / report.number('echoes'):8.3f} us an echo")
    show = ["perf", "report", "--stdio", "--no-children", "-g", "none", "--percent-limit", "0.7", "-i", str(output)]
    return subprocess.run([*show, "--sort", "comm,dso,symbol"], check=False).returncode

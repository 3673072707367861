"""Row `memory`: what an idle session costs the server, and what remains of a burst."""

from __future__ import annotations

import resource
import subprocess
import time
from typing import IO, cast

from .machine import forget_peak, peak_resident_bytes, resident_bytes
from .plan import Plan
from .server import Server, ServerFailed
from .subjects import MEMORY, Subject

ROW = "memory"
SESSIONS = 15_000

# Descriptors of a server beside its sessions.
SPARE_FILES = 200

# Allocators give back, and interpreters free, a little after the fact.
SETTLE_SECONDS = 2.0

# Less than this a burst has not taken: a few pages come and go all the time.
NOISE_BYTES = 1_000_000


def run(plan: Plan) -> None:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    sessions = SESSIONS if files == resource.RLIM_INFINITY else min(SESSIONS, files - SPARE_FILES)
    shape = str(sessions)
    if not plan.wants(ROW, shape):
        return
    if sessions < SESSIONS:
        plan.results.problem(f"{ROW}: {sessions} sessions instead of {SESSIONS}: only {files} files may be open")
    with plan.progress() as progress:
        task = progress.add_task(ROW, total=len(MEMORY))
        for subject in MEMORY:
            if plan.wants(ROW, shape, subject.name):
                label = f"{ROW} {shape}: {subject.name}"
                plan.say(label)
                progress.update(task, description=label)
                try:
                    _measure(plan, subject, sessions, shape)
                except (ServerFailed, _Silent) as error:
                    plan.results.problem(f"{ROW}: {error}")
            progress.advance(task)


class _Silent(Exception):
    """The load said something else than was waited for; the text is what."""


def _measure(plan: Plan, subject: Subject, sessions: int, shape: str) -> None:
    with Server(subject, plan.server_cpu, plan.bots) as server:
        time.sleep(SETTLE_SECONDS)
        before = resident_bytes(server.process)
        command = [str(plan.bots), "idle", "--to", server.address, "--connections", str(sessions)]
        command += ["--cpu", str(plan.load_cpu), "--hold", "120"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as bots:
            try:
                _expect(bots, f"ready {sessions}")
                time.sleep(SETTLE_SECONDS)
                idle = resident_bytes(server.process)
                forget_peak(server.process)
                _tell(bots, "burst")
                _expect(bots, "burst done")
                peak = peak_resident_bytes(server.process)
                time.sleep(SETTLE_SECONDS)
                after = resident_bytes(server.process)
            finally:
                bots.terminate()
    values = {
        "rss_before": before,
        "rss_idle": idle,
        "rss_burst": peak,
        "rss_after": after,
        "bytes_per_session": (idle - before) / sessions,
        "burst_kept": max(0, after - idle) / (peak - idle) if peak - idle > NOISE_BYTES else 0,
    }
    plan.results.add(ROW, subject.name, shape, 0, {name: float(value) for name, value in values.items()})


def _tell(bots: subprocess.Popen[str], line: str) -> None:
    words = cast("IO[str]", bots.stdin)
    words.write(f"{line}\n")
    words.flush()


def _expect(bots: subprocess.Popen[str], expected: str) -> None:
    # photinus-bots has its own time limits, so that this ends.
    line = cast("IO[str]", bots.stdout).readline().strip()
    if line != expected:
        raise _Silent(f"waiting for {expected!r}: {line or cast('IO[str]', bots.stderr).read().strip()}")

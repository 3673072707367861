"""What is measured on: which CPUs, how many files, how much memory a process holds."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

BUILD = Path("build/bench")


def cores() -> tuple[int, int]:
    """The server's CPU and the load's: the same one where there is no second."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


@contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """Processes that are started inside stay on this CPU, with every thread they make."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_files() -> None:
    """As many open files as may be, for the servers that are started from here."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def resident_bytes(process: int) -> int:
    return _status_bytes(process, "VmRSS")


def peak_resident_bytes(process: int) -> int:
    """The most since the process started, or since forget_peak."""
    return _status_bytes(process, "VmHWM")


def forget_peak(process: int) -> None:
    # 5 resets the high-water mark only: proc(5), clear_refs.
    Path(f"/proc/{process}/clear_refs").write_text("5")


def _status_bytes(process: int, field: str) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{process}/status has no {field}")


@cache
def perf_counts_system_calls() -> bool:
    """Whether perf is there and allowed to count another process's system calls."""
    if shutil.which("perf") is None:
        return False
    probe = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "true"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stderr.split(",", 1)[0].strip().isdigit()


def floor_program() -> Path:
    """The C servers of floor.c, compiled if they are older than their source."""
    source, program = Path(__file__).with_name("floor.c"), BUILD / "floor"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-o", program, source], check=True)
    return program

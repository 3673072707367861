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


def wakes(process: int) -> int:
    """Of all its threads: one that sleeps gives the CPU up once a wake."""
    states = (path.read_text() for path in Path(f"/proc/{process}/task").glob("*/status"))
    lines = (line for state in states for line in state.splitlines() if line.startswith("voluntary_ctxt_switches"))
    return sum(int(line.split()[1]) for line in lines)


def idle_seconds(cpu: int) -> float:
    """How long this CPU has had nothing to do, since the machine started."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{cpu} "):
            # user, nice, system, idle, iowait: proc(5).
            return (int(line.split()[4]) + int(line.split()[5])) / os.sysconf("SC_CLK_TCK")
    raise RuntimeError(f"/proc/stat has no cpu{cpu}")


@cache
def perf_counts_system_calls() -> bool:
    """Whether perf is there and allowed to count another process's system calls."""
    if shutil.which("perf") is None:
        return False
    probe = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "true"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stderr.split(",", 1)[0].strip().isdigit()


def compiled(name: str) -> Path:
    """The program in C of this name, compiled if it is older than its source."""
    source, program = Path(__file__).with_name(f"{name}.c"), BUILD / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-o", program, source], check=True)
    return program

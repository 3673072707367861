"""Row `pace`: what a server does on time while its Python, or nothing at all, keeps it busy."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress, TaskID

from . import load
from .load import LoadFailed
from .machine import wakes as wakes_of
from .plan import Plan, rotated
from .server import Server, ServerFailed
from .subjects import PACE, Subject

ROW = "pace"

# Long enough for a p99 of what happens some hundred times a second.
SECONDS = 3.0

# Connections that say nothing, of an idle server.
QUIET = 100
SETTLE_SECONDS = 1.0

# Time between two handshakes of the prober.
PROBE_SECONDS = 0.002
PROBE_TIMEOUT = 5.0


@dataclass(frozen=True)
class Shape:
    name: str
    script: str
    rate: int
    """Packets a second in all, on 1,000 connections."""
    busy: str = ""
    """Python of every so many seconds so many."""
    probe: bool = False
    """Whether handshakes, which the engine answers by itself, are timed."""


SHAPES = (
    Shape("busy5ms", "photinus_busy.py", 20_000, busy="0.025 0.005"),
    Shape("busy100ms", "photinus_busy.py", 20_000, busy="1.0 0.1", probe=True),
    Shape("calm", "photinus_bytes.py", 20_000, probe=True),
    Shape("timers60k", "photinus_timers.py", 60_000),
    Shape("idle", "photinus_bytes.py", 0),
)


def run(plan: Plan) -> None:
    shapes = [shape for shape in SHAPES if plan.wants(ROW, shape.name)]
    if not shapes or not plan.chosen(ROW, [shape.name for shape in shapes], PACE):
        return
    with plan.progress() as progress:
        task = progress.add_task(ROW, total=plan.rounds * len(shapes) * len(PACE))
        for round_ in range(plan.rounds):
            for index, shape in enumerate(shapes):
                label = f"{ROW} {shape.name}, round {round_ + 1} of {plan.rounds}"
                plan.say(label)
                for subject in rotated(PACE, round_ + index):
                    _try(plan, round_, shape, subject, progress, task, label)


def _try(plan: Plan, round_: int, shape: Shape, subject: Subject, progress: Progress, task: TaskID, label: str) -> None:
    progress.update(task, description=f"{label}: {subject.name}")
    if plan.wants(ROW, shape.name, subject.name):
        try:
            plan.results.add(ROW, subject.name, shape.name, round_, _measure(plan, shape, subject))
        except (ServerFailed, LoadFailed) as error:
            plan.results.problem(f"{ROW}/{shape.name}: {error}")
    progress.advance(task)


def _measure(plan: Plan, shape: Shape, subject: Subject) -> dict[str, float]:
    environment = {"BENCH_BUSY": shape.busy} if shape.busy else {}
    with Server(subject.running(shape.script, environment), plan.server_cpu, plan.bots) as server:
        if shape.rate == 0:
            return _idle(server)
        server.statistics()  # figures begin here, where they begin anew when they are asked for
        prober = _Prober(server.port("pomelo")) if shape.probe else None
        report = load.run(plan.bots, _arguments(plan, shape), server)
        values = {"p99_us": report.number("p99_us")} if report.values["p99_us"] is not None else {}
        if prober is not None:
            values["native_p99_us"] = prober.stop()
        return values | _figures(server.statistics() or {})


def _arguments(plan: Plan, shape: Shape) -> list[str]:
    seconds = str(max(plan.seconds, SECONDS))
    pace = ["--connections", "1000", "--rate", str(shape.rate), "--size", "64"]
    return ["echo", *pace, "--seconds", seconds, "--warmup", str(plan.warmup), "--cpu", str(plan.load_cpu)]


def _figures(statistics: dict[str, Any]) -> dict[str, float]:
    values = dict(statistics.get("own", {}))
    take_over = statistics["stages"]["take_over"]
    if take_over["count"]:
        values["take_over_p99_us"] = take_over["p99_us"]
    return values


def _idle(server: Server) -> dict[str, float]:
    """With clients that say nothing: how often its threads wake, and what that costs."""
    address = ("127.0.0.1", server.port("length4"))
    quiet = [socket.create_connection(address) for _ in range(QUIET)]
    try:
        time.sleep(SETTLE_SECONDS)
        wakes, cpu_ns, began = wakes_of(server.process), _cpu_ns(server.process), time.monotonic()
        time.sleep(SECONDS)
        seconds = time.monotonic() - began
        return {
            "wakes_per_s": (wakes_of(server.process) - wakes) / seconds,
            "idle_cpu_us_per_s": (_cpu_ns(server.process) - cpu_ns) / 1e3 / seconds,
        }
    finally:
        for connection in quiet:
            connection.close()


def _cpu_ns(process: int) -> int:
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{process}/task").glob("*/schedstat"))


class _Prober:
    """Times pomelo handshakes, one after the other, from the request to the answer."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._stopping = threading.Event()
        self._took: list[float] = []
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> float:
        """The 99th percentile, in microseconds."""
        self._stopping.set()
        self._thread.join()
        if self._failure is not None or not self._took:
            raise LoadFailed(f"handshakes: {self._failure or 'none was answered'}")
        return sorted(self._took)[int(len(self._took) * 0.99)] * 1e6

    def _run(self) -> None:
        body = json.dumps({"sys": {"type": "bench", "version": "1"}}).encode()
        request = b"\x01" + struct.pack(">I", len(body))[1:] + body
        try:
            while not self._stopping.wait(PROBE_SECONDS):
                with socket.create_connection(self._address, PROBE_TIMEOUT) as connection:
                    began = time.perf_counter()
                    connection.sendall(request)
                    answer = connection.recv(4096)
                    self._took.append(time.perf_counter() - began)
                if not answer.startswith(b"\x01"):
                    self._failure = f"{answer!r} came for an answer"
                    return
        except OSError as error:
            self._failure = str(error)

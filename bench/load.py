"""The load generator: photinus-bots (crates/bots), asked once a window."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from .machine import BUILD
from .server import Server
from .subjects import Subject

# Besides warm-up and window: connecting, draining, and a machine under other load.
SPARE_SECONDS = 40.0


class LoadFailed(Exception):
    """The load could not be carried through; the text is what photinus-bots said."""


@dataclass(frozen=True)
class Report:
    """What photinus-bots said of a window."""

    subject: Subject
    values: dict[str, Any]

    def number(self, name: str) -> float:
        return float(self.values[name])

    def given(self, *names: str) -> dict[str, float]:
        """Those of the values that there are; of no packet at all there is no latency."""
        return {name: float(self.values[name]) for name in names if self.values[name] is not None}

    def cpu_figures(self, packets: float) -> dict[str, float]:
        """What the window cost the server, in microseconds of CPU a packet."""
        if packets == 0:
            raise LoadFailed(f"{self.subject.name}: nothing came in the whole window")
        watched = self.values["watched"]
        figures = {"cpu_us": watched["cpu_us"] / packets}
        if self.subject.python != "none":
            running = "main_cpu_us" if self.subject.python == "main" else "cpu_us"
            figures["python_us"] = watched[running] / packets
        return figures


class Move(msgspec.Struct):
    """What the typed subject is sent: 60 bytes of msgpack, so 64 with the frame's length."""

    id: int
    x: float
    y: float
    name: str


def run(bots: Path, arguments: Sequence[str], server: Server, prefix: Sequence[str] = ()) -> Report:
    """One window against one server; `prefix` is a command to run it under."""
    command = [*prefix, str(bots), *arguments, "--to", server.address, "--watch", str(server.process)]
    seconds = sum(float(value) for name, value in pairwise(arguments) if name in _DURATIONS)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + SPARE_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(f"{server.subject.name}: the load did not end") from error
    if done.returncode != 0:
        words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise LoadFailed(f"{server.subject.name}: {words[-1]}")
    return Report(server.subject, json.loads(done.stdout))


def follow(bots: Path, arguments: Sequence[str], server: Server) -> Generator[dict[str, Any]]:
    """Each line that the load says, as it says it; closing this ends the load. It has its own time limits."""
    command = [str(bots), *arguments, "--to", server.address, "--watch", str(server.process)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            for line in cast("IO[str]", process.stdout):
                yield json.loads(line)
            words = cast("IO[str]", process.stderr).read().strip().splitlines()
            if process.wait() != 0:
                raise LoadFailed(f"{server.subject.name}: {words[-1] if words else process.returncode}")
        finally:
            process.terminate()


_DURATIONS = ("--seconds", "--warmup")


def payload_arguments(*, typed: bool) -> tuple[str, ...]:
    if not typed:
        return ("--size", "64")
    path, mark = _typed_payload()
    return ("--payload-file", str(path), "--sequence-at", str(mark))


@cache
def _typed_payload() -> tuple[Path, int]:
    """A Move in msgpack, and where in it the id's eight bytes lie."""
    number = 2**40 + 7
    payload = msgspec.msgpack.encode(Move(number, 12.5, -3.25, "firefly-of-the-mead"))
    path = BUILD / "move.msgpack"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(payload)
    return path, payload.index(struct.pack(">Q", number))

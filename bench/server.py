"""One server process under measurement."""

from __future__ import annotations

import json
import re
import select
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from .machine import BUILD, pinned
from .subjects import Subject

START_SECONDS = 20.0
STOP_SECONDS = 10.0
ANSWER_SECONDS = 10.0

_ADDRESS = re.compile(r"127\.0\.0\.1:(\d+)")


class ServerFailed(Exception):
    """The server did not start, died, or fell silent. The text says which, and its last words."""


class Server:
    """Runs from `Server(...)` to `stop`; what it writes to stderr is kept in build/bench/log."""

    def __init__(self, subject: Subject, cpu: int, bots: Path) -> None:
        self.subject = subject
        self.log = BUILD / "log" / f"{subject.name}.{Path(subject.script).stem}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._pending = b""
        self.ports: list[int] = []
        try:
            with pinned(cpu), self.log.open("wb") as log:
                self._process = subprocess.Popen(
                    subject.command(bots),
                    env=subject.full_environment(),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    bufsize=0,
                    # A Ctrl-C in the terminal is for the benchmark, which then stops its servers. No session of
                    # its own: the scheduler shares CPUs out between sessions (sched(7), autogroup), and a server
                    # with a busy thread on one CPU would get less of another.
                    process_group=0,
                )
        except OSError as error:
            advice = " (make setup installs it)" if subject.is_photinus else ""
            raise ServerFailed(f"{subject.name} cannot be started: {error}{advice}") from error
        try:
            self.address = self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    @property
    def process(self) -> int:
        return self._process.pid

    def port(self, protocol: str) -> int:
        return self.ports[self.subject.protocols.index(protocol)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def statistics(self) -> dict[str, Any] | None:
        """What the engine counts, at this moment; None from a server that is not Photinus."""
        if not self.subject.is_photinus:
            return None
        try:
            cast("IO[bytes]", self._process.stdin).write(b"statistics\n")
        except OSError as error:
            raise self._failed("is gone") from error
        return cast("dict[str, Any]", json.loads(self._line(time.monotonic() + ANSWER_SECONDS)))

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        process = self._process
        if process.poll() is None:
            process.terminate()
            self.go_on()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _wait_until_ready(self) -> str:
        deadline = time.monotonic() + START_SECONDS
        while True:
            line = self._line(deadline)
            if found := _ADDRESS.search(line):
                self.ports.append(int(found[1]))
            if line.startswith("ready"):
                if not self.subject.protocols:
                    return ""
                if not self.ports:
                    raise self._failed("was ready without saying where")
                return f"{self.subject.scheme}://127.0.0.1:{self.ports[0]}"

    def _line(self, deadline: float) -> str:
        output = cast("IO[bytes]", self._process.stdout)
        while b"\n" not in self._pending:
            ready, _, _ = select.select([output], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise self._failed("said nothing in time")
            piece = output.read(65536)
            if not piece:
                raise self._failed("ended")
            self._pending += piece
        line, self._pending = self._pending.split(b"\n", 1)
        return line.decode(errors="replace")

    def _failed(self, what: str) -> ServerFailed:
        words = self.log.read_text(errors="replace").strip().splitlines()
        last = f": {words[-1]}" if words else ""
        return ServerFailed(f"{self.subject.name} {what}{last} (see {self.log})")

"""The demo: the world on loopback in this process, native bots in another, and a live table.

Ctrl-C ends it, and DEMO_SECONDS=10 by itself, with a line that sums up and the exit code 0.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from photinus import Node
from photinus.node import run

from .table import Sample, line, table
from .world import app, lobby

# The bots speak pomelo, as many clients do.
BOTS_LISTENER = "tcp://127.0.0.1:0?protocol=pomelo"
# Often enough to look alive, seldom enough to be read.
REFRESH_SECONDS = 1.0
# Bots that are told to stop have only their last line to print.
BOTS_STOP_SECONDS = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.chat", description=__doc__)
    parser.add_argument("--bots", type=Path, required=True, help="the program photinus-bots")
    parser.add_argument("--count", type=int, default=200, help="how many bots play (%(default)s)")
    parser.add_argument("--listen", default="tcp://127.0.0.1:0", help="where to listen for people (%(default)s)")
    arguments = parser.parse_args()
    seconds = os.environ.get("DEMO_SECONDS")
    try:
        limit = None if seconds is None else float(seconds)
    except ValueError:
        parser.error(f"DEMO_SECONDS: expected a number of seconds, got {seconds!r}")
    if not arguments.bots.is_file():
        parser.error(f"--bots {arguments.bots}: no such file (cargo build --release -p photinus-bots)")
    demo = Demo(arguments.bots, arguments.count, limit)
    sys.exit(run(app, demo.play, listen=[arguments.listen, BOTS_LISTENER]))


class Demo:
    """One run, from the first bot to the line that sums up."""

    def __init__(self, bots: Path, count: int, limit: float | None) -> None:
        self.bots = bots
        self.count = count
        self.limit = limit
        self.console = Console()
        self.latency: dict[str, Any] = {}

    async def play(self, node: Node) -> int:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        self.explain(node.addresses[0])
        bots = await self.start_bots(node.addresses[1])
        reading = asyncio.create_task(self.read_bots(bots))
        started = Sample.of(node, len(lobby))
        try:
            await self.watch(node, stop, reading)
        finally:
            failed = reading.done()
            ended = Sample.of(node, len(lobby))
            await self.stop_bots(bots, reading)
        if failed:
            self.console.print(f"the bots have stopped, with exit code {bots.returncode}", style="red")
            return 1
        seconds = ended.at - started.at
        self.console.print(f"done after {seconds:.0f} s: {line(started, ended, {})}", soft_wrap=True, highlight=False)
        return 0

    async def watch(self, node: Node, stop: asyncio.Event, bots: asyncio.Task[None]) -> None:
        """Shows what happens until it is time to stop, or the bots have."""
        end = time.monotonic() + self.limit if self.limit is not None else float("inf")
        before = Sample.of(node, len(lobby))
        stopping = asyncio.create_task(stop.wait())
        with Live(console=self.console, auto_refresh=False, transient=False) as live:
            while not stop.is_set() and not bots.done() and (left := end - time.monotonic()) > 0:
                await asyncio.wait(
                    [stopping, bots], timeout=min(REFRESH_SECONDS, left), return_when=asyncio.FIRST_COMPLETED
                )
                now = Sample.of(node, len(lobby))
                if self.console.is_terminal:
                    live.update(table(before, now, self.latency), refresh=True)
                else:
                    print(line(before, now, self.latency), flush=True)
                before = now
        stopping.cancel()

    def explain(self, address: str) -> None:
        self.console.print(f"The world is at {address}, and {self.count} bots are on their way. Join them:\n")
        self.console.print(
            f"    {sys.executable} -m examples.chat.play {shlex.quote(address)} --name Ann\n",
            soft_wrap=True,
            highlight=False,
        )
        self.console.print("Ctrl-C ends it.\n")

    async def start_bots(self, address: str) -> asyncio.subprocess.Process:
        # A session of its own, so that Ctrl-C ends this process first and the bots see a clean end.
        return await asyncio.create_subprocess_exec(
            self.bots,
            *("game", "--to", address, "--count", str(self.count)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )

    async def read_bots(self, bots: asyncio.subprocess.Process) -> None:
        """Keeps the latency that the bots saw last; returns when they have ended."""
        if bots.stdout is not None:
            while report := await bots.stdout.readline():
                self.latency = json.loads(report)
        await bots.wait()

    async def stop_bots(self, bots: asyncio.subprocess.Process, reading: asyncio.Task[None]) -> None:
        if bots.stdin is not None:
            bots.stdin.close()
        _, late = await asyncio.wait([reading], timeout=BOTS_STOP_SECONDS)
        if late:
            bots.kill()
            await reading

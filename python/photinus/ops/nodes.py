"""`photinus dev --nodes N`: a proxy and N world nodes, each a process of its own, linked on loopback.

Each world node reloads the application by itself. One that ends is told of, and the others go on: that
is what a cluster is for. Without the proxy, or the last world node, nobody can play, and all end.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from ..config import Config
from ..errors import ConfigError
from ..node import STOP_SECONDS, STOPPING_SECONDS

PROXY = "proxy-1"
# What a process gets to end by itself: what its node takes at most, and as much again on a busy machine.
END_SECONDS = 2 * (STOP_SECONDS + STOPPING_SECONDS)


def run_nodes(target: str, count: int, config: Config, file: Path | None) -> int:
    """Runs them until a signal, and gives the exit code. ConfigError if the configuration has nodes of its own."""
    if config.cluster.nodes:
        raise ConfigError(f"{file}: [cluster.nodes]: --nodes makes a table of its own; run each of these by itself")
    with TemporaryDirectory(prefix="photinus-") as folder:
        table = Path(folder) / "nodes.toml"
        worlds = [f"world-{number + 1}" for number in range(count)]
        table.write_text(_table(worlds, "" if file is None else file.read_text()))
        return asyncio.run(_Nodes(target, worlds, table, config.node.listen).run())


class _Nodes:
    def __init__(self, target: str, worlds: Sequence[str], table: Path, listen: Sequence[str]) -> None:
        self._target = target
        self._worlds = worlds
        self._table = table
        self._listen = listen
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._addresses: list[str] = []
        self._stop = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        watching: list[asyncio.Task[int]] = []
        stopping = asyncio.create_task(self._stop.wait())
        try:
            ready = [await self._start(name, watching) for name in (*self._worlds, PROXY)]
            all_ready = asyncio.gather(*ready)
            waited: list[asyncio.Future[Any]] = [all_ready, stopping, *watching]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not all_ready.done():
                all_ready.cancel()
                return 0 if self._stop.is_set() else 1
            self._show_ready()
            return await self._until_the_end(watching, stopping)
        finally:
            stopping.cancel()
            await self._end(watching)

    async def _start(self, name: str, watching: list[asyncio.Task[int]]) -> asyncio.Future[None]:
        """Gives what is done when the node is ready."""
        arguments = ["run", *(word for url in self._listen for word in ("--listen", url))]
        if name != PROXY:
            arguments = ["dev", self._target, "--no-playground"]
        # Not in our group: Ctrl-C is ours alone to hear, and we say it to them once.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-u", "-m", "photinus", *arguments, "--config", str(self._table), "--node", name),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        self._processes[name] = process
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        watching.append(asyncio.create_task(self._watch(name, process, ready)))
        return ready

    async def _watch(self, name: str, process: asyncio.subprocess.Process, ready: asyncio.Future[None]) -> int:
        """Shows what it says, until it has ended; gives its exit code."""
        if process.stdout is None:
            raise RuntimeError("the process has no output to read")
        async for line in process.stdout:
            text = line.decode(errors="replace").rstrip("\n")
            click.echo(f"{name} | {text}")
            if name == PROXY and text.startswith("listening on "):
                self._addresses.append(text.removeprefix("listening on "))
            if text.startswith("ready") and not ready.done():
                ready.set_result(None)
        return await process.wait()

    def _show_ready(self) -> None:
        for address in self._addresses:
            click.echo(f"listening on {address}")
        worlds = f"{len(self._worlds)} world node" + "s" * (len(self._worlds) != 1)
        click.echo(f"ready: {PROXY} and {worlds} run {self._target}; Ctrl-C ends them")

    async def _until_the_end(self, watching: list[asyncio.Task[int]], stopping: asyncio.Task[bool]) -> int:
        names = dict(zip(watching, (*self._worlds, PROXY), strict=True))
        left = set(watching)
        while True:
            ended, _ = await asyncio.wait([stopping, *left], return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set():
                click.echo("stopping")
                return 0
            for task in left & ended:
                left.discard(task)
                click.echo(f"{names[task]} has ended, with {task.result()}")
                if names[task] == PROXY or len(left) == 1:
                    return 1

    async def _end(self, watching: list[asyncio.Task[int]]) -> None:
        # The proxy first, so that its clients hear of the end while their homes are there.
        for name in reversed([*self._worlds, PROXY]):
            process = self._processes.get(name)
            if process is not None and process.returncode is None:
                process.terminate()
        if not watching:
            return
        _, late = await asyncio.wait(watching, timeout=END_SECONDS)
        for process in self._processes.values():
            if late and process.returncode is None:
                process.kill()
        await asyncio.gather(*watching)


def _table(worlds: Sequence[str], more: str) -> str:
    """The configuration of all of them: what there is, and a table of nodes on free ports."""
    names = [*worlds, PROXY]
    with ExitStack() as stack:
        # All are held until each has its own.
        sockets = [stack.enter_context(socket.socket()) for _ in names]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in sockets]
    roles = ["proxy" if name == PROXY else "world" for name in names]
    entries = [
        f'[cluster.nodes.{name}]\nlink = "tcp://127.0.0.1:{port}"\nroles = ["{role}"]\n'
        for name, port, role in zip(names, ports, roles, strict=True)
    ]
    return "\n".join([more, *entries])

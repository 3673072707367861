"""A cluster of real processes, `photinus run` of the public configuration: a proxy and two world nodes, each on a
machine of its own, and a door through which a test gets to the proxy."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from photinus.config import Config, NodeSection
from photinus.node import threads_for
from tests.integration.game import Seen
from tests.integration.machines import Machine, machines

HERE = Path(__file__).parent
# Whoever waits so long waits for what will not come.
DEADLINE = 20.0
PROXY, WORLDS = "proxy", ("world-1", "world-2")
# Each machine has its own, so they may all be the same.
LINK_PORT, PHOTINUS_PORT, LENGTH_PORT = 7801, 7000, 7001
PORTS = (PHOTINUS_PORT, LENGTH_PORT)

CONFIG = """
[node]
listen = ["tcp://127.0.0.1:{photinus}", "tcp://127.0.0.1:{length}?protocol=length4"]
[cluster]
name = "realm"
secret = "of the tests, and long enough"
plain_links = true
"""
NODE = """
[cluster.nodes.{name}]
link = "{scheme}://{address}:{port}"
roles = ["{role}"]
"""

Tls = Callable[[str], str] | None
"""Makes links mutual TLS: it gives the section [tls] of a machine with this address."""


class Node:
    """A node's process, which can be killed and started again."""

    def __init__(self, machine: Machine, folder: Path, *arguments: str, reactors: int | None = None) -> None:
        self.name = machine.name
        self._environment = {} if reactors is None else {"PHOTINUS_ENGINE__THREADS": str(reactors)}
        self.machine = machine
        self._folder = folder
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None
        self._ready = threading.Event()

    async def start(self) -> None:
        """It is ready when this returns."""
        assert self._process is None
        self._ready.clear()
        self._run("run", *self._arguments, "--config", str(self._folder / "realm.toml"), "--node", self.name)
        await until(lambda: self._ready.is_set() or self.ended(), self.log)
        assert not self.ended(), self.log()

    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        """As the kernel kills what takes too much memory: it has no time for anything."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def seen(self) -> Seen:
        """What this process of it told last; nothing yet, if it has told nothing."""
        try:
            seen = msgspec.json.decode((self._folder / f"{self.name}.json").read_bytes(), type=Seen)
        except FileNotFoundError:
            return Seen()
        return seen if self._process is not None and seen.process == self._process.pid else Seen()

    def log(self) -> str:
        path = self._folder / f"{self.name}.log"
        return f"{self.name}: {path.read_text()[-4000:] if path.exists() else 'has not been started'}"

    def _run(self, *arguments: str) -> None:
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.machine.command(sys.executable, "-m", "photinus", *arguments),
                env={**os.environ, **self._environment, "GAME_FOLDER": str(self._folder)},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if line.startswith("ready"):
                    self._ready.set()


class Realm:
    """The running cluster. `photinus` and `length` are where clients find its proxy."""

    def __init__(self, nodes: dict[str, Node], listeners: list[socket.socket], reactors: int | None) -> None:
        self.nodes = nodes
        # A proxy dials each world node from each of its reactors, of which it has one for each core but one.
        self._links = threads_for(Config(node=NodeSection(roles=("proxy",)))) if reactors is None else reactors
        self.proxy = nodes[PROXY]
        self.worlds = [nodes[name] for name in WORLDS]
        ports = [int(listener.getsockname()[1]) for listener in listeners]
        self.photinus, self.length = f"tcp://127.0.0.1:{ports[0]}", ports[1]

    async def until(self, what: Callable[[], object]) -> None:
        await until(what, self.told)

    async def linked(self, *nodes: Node) -> None:
        """All links between the proxy and these have a connection; with none named, those of all world nodes."""
        await self.until(lambda: all(self._linked(node) for node in nodes or self.worlds))

    def _linked(self, world: Node) -> bool:
        links = world.seen().links(PROXY)
        return len(links) == self._links and all(link["connected"] for link in links)

    def told(self) -> str:
        """For whoever reads of a failure."""
        worlds = [f"{node.name}: {node.seen()}" for node in self.worlds]
        return "\n".join([*(node.log() for node in self.nodes.values()), *worlds])


@asynccontextmanager
async def realm(folder: Path, *, tls: Tls = None, reactors: int | None = None) -> AsyncIterator[Realm]:
    """Runs it, and ends all of it. `reactors` are the proxy's, if not as many as it makes by itself."""
    with ExitStack() as stack:
        there = stack.enter_context(machines(PROXY, *WORLDS))
        config = CONFIG.format(photinus=PHOTINUS_PORT, length=LENGTH_PORT)
        for name, machine in there.items():
            role, scheme = "proxy" if name == PROXY else "world", "tcp" if tls is None else "tls"
            config += NODE.format(name=name, scheme=scheme, address=machine.address, port=LINK_PORT, role=role)
        nodes: dict[str, Node] = {}
        for name, machine in there.items():
            own = folder / name
            own.mkdir()
            (own / "realm.toml").write_text(config + ("" if tls is None else tls(machine.address)))
            is_proxy = name == PROXY
            nodes[name] = (
                Node(machine, own, reactors=reactors) if is_proxy else Node(machine, own, str(HERE / "game.py"))
            )
            stack.callback(nodes[name].kill)
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in PORTS]
        _open_door(stack, there[PROXY], listeners)
        running = Realm(nodes, listeners, reactors)
        await asyncio.gather(*(node.start() for node in nodes.values()))
        await running.linked()
        yield running


def _open_door(stack: ExitStack, machine: Machine, listeners: list[socket.socket]) -> None:
    descriptors = [listener.fileno() for listener in listeners]
    pairs = [str(number) for pair in zip(descriptors, PORTS, strict=True) for number in pair]
    command = machine.command(sys.executable, str(HERE / "door.py"), *pairs)
    door = stack.enter_context(subprocess.Popen(command, pass_fds=descriptors, stdin=subprocess.PIPE))
    stack.callback(door.kill)


async def until(what: Callable[[], object], told: Callable[[], str] = str) -> None:
    """Waits until it is true."""
    deadline = time.monotonic() + DEADLINE
    while not what():
        assert time.monotonic() < deadline, f"waited in vain; {told()}"
        await asyncio.sleep(0.01)

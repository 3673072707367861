"""A server under measurement, and those behind it."""

from __future__ import annotations

import socket
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Self

from .load import LoadFailed
from .machine import BUILD
from .plan import Plan
from .server import Server
from .subjects import CROWD, Subject

CONFIG = BUILD / "cluster.toml"

# Nodes are ready before their links are up.
LINK_SECONDS = 10.0
TRY_SECONDS = 0.5
FRAME = b"\0\0\0\1\0"


class Chain:
    """Runs from `Chain(...)` to `stop`. What is behind is started first, on the load's CPU; then the front on the
    server's, or, where it is to be apart from its own Python, on the load's, too. Several fronts are alike. One that is
    paused does nothing but when it is awake: not even keep its CPU busy."""

    def __init__(self, plan: Plan, subject: Subject, fronts: int = 1, *, paused: bool = False) -> None:
        self.subject = subject
        self.behind: list[Server] = []
        self.fronts: list[Server] = []
        self._crowd: list[Server] = []
        named = iter(names((*subject.behind, *([subject] * fronts))))
        try:
            for each in subject.behind:
                self.behind.append(Server(joined(each, next(named)), plan.load_cpu, plan.bots))
            ports = [port for server in self.behind[:1] for port in server.ports[:1]]
            front = told(subject, ports[0] if ports else None, plan.server_cpu)
            for _ in range(fronts):
                member = joined(front, next(named))
                self.fronts.append(Server(member, plan.load_cpu if subject.apart else plan.server_cpu, plan.bots))
            if subject.crowded:
                self._crowd.append(Server(CROWD, plan.server_cpu, plan.bots))
            if paused:
                self.wait_for_links()
                self._pause()
        except BaseException:
            self.stop()
            raise

    @property
    def front(self) -> Server:
        return self.fronts[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        for server in (*self._crowd, *self.fronts, *self.behind):
            server.stop()

    @contextmanager
    def awake(self) -> Generator[Self]:
        """For so long a paused one is not. Links that fell silent meanwhile are to be waited for."""
        for server in (*self.fronts, *self._crowd):
            server.go_on()
        try:
            yield self
        finally:
            self._pause()

    def _pause(self) -> None:
        for server in (*self._crowd, *self.fronts):
            server.pause()

    def wait_for_links(self) -> None:
        """Until each front gives back a frame from behind it: where clients speak length4, and 0 is echoed."""
        for front in self.fronts:
            end = time.monotonic() + LINK_SECONDS
            while not _comes_back(front.ports[0]):
                if time.monotonic() > end:
                    raise LoadFailed(f"{front.subject.name}: nothing came back through it within {LINK_SECONDS:g} s")


def told(subject: Subject, port: int | None, busy_cpu: int) -> Subject:
    """With where what is behind it is, and with what keeps it busy, there if that is to be apart."""
    where = "" if port is None else str(port)
    environment = {name: value.replace("{port}", where) for name, value in subject.environment.items()}
    if subject.busy:
        environment["BENCH_BUSY"] = subject.busy
    if subject.busy and subject.apart:
        environment["BENCH_BUSY_CPU"] = str(busy_cpu)
    arguments = tuple(argument.replace("{port}", where) for argument in subject.arguments)
    return replace(subject, arguments=arguments, environment=environment)


def joined(subject: Subject, name: str) -> Subject:
    """As the node of this name of the cluster, if it is one."""
    if not name:
        return subject
    member = ("--config", str(CONFIG), "--node", name, "--role", subject.role)
    return replace(subject, arguments=(*subject.arguments, *member))


def names(members: Sequence[Subject]) -> list[str]:
    """Of its nodes, in this order, "" for what is none; and writes the configuration that they share: who there is, and
    where each takes links."""
    lines = ["[cluster]", 'name = "bench"']
    names: list[str] = []
    for each in members:
        number = sum(name.startswith(each.role) for name in names) + 1
        names.append(f"{each.role}-{number}" if each.role else "")
        if each.role:
            lines += [f"[cluster.nodes.{names[-1]}]", f'roles = ["{each.role}"]']
            lines.append(f'link = "tcp://127.0.0.1:{_free_port()}"')
    CONFIG.parent.mkdir(parents=True, exist_ok=True)
    CONFIG.write_text("\n".join(lines) + "\n")
    return names


def _comes_back(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), TRY_SECONDS) as probe:
            probe.sendall(FRAME)
            return probe.recv(len(FRAME)) == FRAME
    except OSError:
        # Refused, perhaps at once: not to be asked for again in the same moment.
        time.sleep(0.02)
        return False


def _free_port() -> int:
    """Free now; the table of a cluster has no place for a port that a node finds by itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

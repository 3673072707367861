"""A server under measurement, and those behind it."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from .machine import BUILD
from .plan import Plan
from .server import Server
from .subjects import Subject


class Chain:
    """Runs from `Chain(...)` to `stop`: what is behind the front first, on the load's CPU, then the front on the server's, or,
    if it is to be apart from its own Python, on the load's, too. Several fronts are alike."""

    def __init__(self, plan: Plan, subject: Subject, fronts: int = 1) -> None:
        self.behind: list[Server] = []
        self.fronts: list[Server] = []
        members = (*subject.behind, *([subject] * fronts))
        config = _cluster(members) if any(each.role for each in members) else None
        try:
            for number, each in enumerate(subject.behind):
                joined = _joined(each, config, f"{each.role}-{number + 1}")
                self.behind.append(Server(joined, plan.load_cpu, plan.bots))
            for number in range(fronts):
                joined = _joined(self._busy(plan, subject), config, f"{subject.role}-{number + 1}")
                self.fronts.append(Server(joined, plan.load_cpu if subject.apart else plan.server_cpu, plan.bots))
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
        for server in (*self.fronts, *self.behind):
            server.stop()

    def _busy(self, plan: Plan, subject: Subject) -> Subject:
        """With the address of what is behind it, and with what keeps it busy."""
        port = str(self.behind[0].ports[0]) if self.behind and self.behind[0].ports else ""
        environment = {name: value.replace("{port}", port) for name, value in subject.environment.items()}
        if subject.busy:
            environment["BENCH_BUSY"] = subject.busy
        if subject.busy and subject.apart:
            environment["BENCH_BUSY_CPU"] = str(plan.server_cpu)
        arguments = tuple(argument.replace("{port}", port) for argument in subject.arguments)
        return replace(subject, arguments=arguments, environment=environment)


def _joined(subject: Subject, config: Path | None, name: str) -> Subject:
    """As a node of this cluster, if it is one."""
    if config is None or not subject.role:
        return subject
    member = ("--config", str(config), "--node", name, "--role", subject.role)
    return replace(subject, arguments=(*subject.arguments, *member))


def _cluster(members: Sequence[Subject]) -> Path:
    """The configuration that its nodes share: who there is, and where each world takes links."""
    lines = ["[cluster]", 'name = "bench"']
    numbers: dict[str, int] = {}
    for each in members:
        if each.role:
            number = numbers[each.role] = numbers.get(each.role, 0) + 1
            lines += [f"[cluster.nodes.{each.role}-{number}]", f'roles = ["{each.role}"]']
            if each.role == "world":
                lines.append(f'link = "tcp://127.0.0.1:{_free_port()}"')
    path = BUILD / "cluster.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def _free_port() -> int:
    """Free now; the table of a cluster has no place for a port that a node finds by itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""Nodes linked over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from photinus import App, Node, Service, Unreachable, call
from photinus.config import ClusterSection, Config, Member, NodeSection, TlsSection
from photinus.errors import ConfigError
from photinus.scope import current
from tests.adversity.doors import authority, issue

PATIENCE = 20.0
SECRET = "0123456789abcdef"


class Desk(Service):
    @call
    async def where(self) -> str:
        return current().name


def table(scheme: str, *names: str) -> dict[str, Member]:
    """Of world nodes on ports that were free just now."""
    sockets = [socket.socket() for _ in names]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return {name: Member(f"{scheme}://127.0.0.1:{port}", ("world",)) for name, port in zip(names, ports, strict=True)}


def config(name: str, cluster: ClusterSection, tls: TlsSection | None = None) -> Config:
    return Config(node=NodeSection(name=name), cluster=cluster, tls=tls or TlsSection())


@asynccontextmanager
async def nodes(*configs: Config) -> AsyncIterator[list[Node]]:
    async with AsyncExitStack() as stack:
        app = App("game", services=[Desk])
        yield [await stack.enter_async_context(Node(app, config=each)) for each in configs]


async def where(asker: Node, node: str) -> str:
    work = Desk.at_node(node).where()
    return await asyncio.get_running_loop().create_task(work, context=asker.scope.context.copy())


async def linked(first: Node, second: Node) -> None:
    async with asyncio.timeout(PATIENCE):
        while not (first.reaches(second.name) and second.reaches(first.name)):  # noqa: ASYNC110 - a link has no event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
async def test_two_nodes_call_each_other(tmp_path: Path, scheme: str) -> None:
    cluster = ClusterSection(nodes=table(scheme, "a", "b"), secret=SECRET)
    tls = None
    if scheme == "tls":
        tls = msgspec.structs.replace(issue(tmp_path), client_ca=authority(tmp_path))
    async with nodes(config("a", cluster, tls), config("b", cluster, tls)) as (a, b):
        await linked(a, b)
        assert await where(a, "b") == "b"
        assert await where(b, "a") == "a"
        assert [link["node"] for link in a.statistics()["links"]] == ["b"]


@pytest.mark.parametrize("change", [{"secret": "fedcba9876543210"}, {"name": "another"}])
async def test_a_node_of_another_cluster_is_no_peer(change: dict[str, str]) -> None:
    cluster = ClusterSection(nodes=table("tcp", "a", "b"), secret=SECRET)
    other = msgspec.structs.replace(cluster, **change)
    async with nodes(config("a", cluster), config("b", other)) as (a, b):

        def refusals() -> int:
            counts = {**a.statistics()["wire_errors"], **b.statistics()["wire_errors"]}
            return sum(count for name, count in counts.items() if name.startswith(("link-", "refused-")))

        async with asyncio.timeout(PATIENCE):
            while not refusals():  # noqa: ASYNC110 - a count has no event
                await asyncio.sleep(0.01)
        assert not a.reaches("b")
        with pytest.raises(Unreachable, match="no link to b") as raised:
            await where(a, "b")
        assert not raised.value.sent


async def test_an_address_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        link = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        cluster = ClusterSection(nodes={"a": Member(link)})
        with pytest.raises(OSError, match="in use") as raised:
            async with nodes(config("a", cluster)):
                pass
        assert str(raised.value.filename).startswith(link)


async def test_a_link_that_cannot_be_is_named() -> None:
    cluster = ClusterSection(nodes={"a": Member("tcp://127.0.0.1:1?smoke=1")})
    with pytest.raises(ConfigError, match="smoke"):
        async with nodes(config("a", cluster)):
            pass

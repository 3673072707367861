"""`photinus dev --nodes N`: real processes, as a terminal's user sees them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

from photinus.client import connect
from photinus.config import Config, load
from photinus.errors import ConfigError
from photinus.ops.nodes import _table, run_nodes
from tests.ops.development import PATIENCE, developing

if TYPE_CHECKING:
    from pathlib import Path

GAME = """
from photinus import App, Routes, Service, Session, call
from photinus.scope import current
routes = Routes()

class Desk(Service):
    @call
    async def where(self) -> str:
        return current().name

@routes.on("where", public=True)
def where(session: Session, body: bytes) -> bytes:
    return b"WORD " + current().name.encode()

@routes.on("all", public=True)
async def all_of_them(session: Session, body: bytes) -> bytes:
    return ",".join(sorted((await Desk.at_all(lambda desk: desk.where())))).encode()

app = App("game", routes=[routes], services=[Desk])
"""


async def ask(address: str, route: str) -> str:
    async with connect(address) as client:
        return (await client.request(route, b"")).decode()


async def test_a_cluster_of_processes_reloads_and_ends(folder: Path) -> None:
    (folder / "game.py").write_text(GAME.replace("WORD", "first"))
    async with developing(folder, "--nodes", "2") as development:
        homes = {await ask(development.address, "where") for _ in range(12)}
        assert homes <= {"first world-1", "first world-2"}
        async with asyncio.timeout(PATIENCE):
            # They serve before they are linked with each other.
            while await ask(development.address, "all") != "world-1,world-2":
                pass
        (folder / "game.py").write_text(GAME.replace("WORD", "second"))
        for _ in range(2):
            await development.until_word("reloaded")
        assert (await ask(development.address, "where")).startswith("second")
        assert await development.end() == 0


async def test_one_that_dies_leaves_the_others(folder: Path) -> None:
    (folder / "game.py").write_text(GAME)
    async with developing(folder, "--nodes", "2") as development:
        (line,) = [line for line in development.lines if line.startswith("world-1 | ready")]
        found = re.search(r"process (\d+)", line)
        assert found is not None
        os.kill(int(found[1]), signal.SIGKILL)
        await development.until("world-1 has ended")
        async with asyncio.timeout(PATIENCE):
            # The proxy gives it up after 3 s; until then it may send somebody there.
            while True:
                try:
                    async with asyncio.timeout(2):
                        if await ask(development.address, "where") == "WORD world-2":
                            break
                except (TimeoutError, ConnectionError):
                    continue
        assert await development.end() == 0


async def test_a_game_that_cannot_be_imported_ends_it(folder: Path) -> None:
    (folder / "game.py").write_text("from photinus import App\napp = App('game')\nraise ValueError('no such luck')\n")
    with pytest.raises(AssertionError, match="no such luck"):
        async with developing(folder, "--nodes", "1"):
            pass


def test_the_table_is_one_that_nodes_take(tmp_path: Path) -> None:
    file = tmp_path / "nodes.toml"
    file.write_text(_table(["world-1", "world-2"], "[limits]\nsessions = 10\n[cluster]\nname = 'mine'\n"))
    config = load(file, {})
    assert config.cluster.name == "mine"
    assert {name: node.roles for name, node in config.cluster.nodes.items()} == {
        "world-1": ("world",),
        "world-2": ("world",),
        "proxy-1": ("proxy",),
    }
    assert len({node.link for node in config.cluster.nodes.values()}) == 3
    with pytest.raises(ConfigError, match="--nodes makes a table of its own"):
        run_nodes("game.py", 1, config, file)
    assert Config().cluster.nodes == {}

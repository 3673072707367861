"""Row `dev`: how soon a new game answers, and how soon an edit is in play while many play on."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from photinus.client import connect

from .plan import Plan

ROW = "dev"
SUBJECT = "photinus"
PLAYERS = 500
PACKETS_A_SECOND = 5_000
EDITS = 4
# Between two edits; longer than a reload takes.
PAUSE_SECONDS = 0.5
SECONDS = EDITS * (PAUSE_SECONDS + 0.5)

PHOTINUS = str(Path(sys.executable).with_name("photinus"))
GAME = Path("examples/echo.py")
# What is edited: a route that tells which edit it is of.
VERSION = """

VERSION = 0


@routes.on("version", public=True)
def version(session: Session, body: bytes) -> bytes:
    return b"%d" % VERSION
"""


def run(plan: Plan) -> None:
    shapes = {"new": _first_answer, f"save{PLAYERS}": _saves}
    for shape, measure in shapes.items():
        for round_ in range(plan.rounds):
            if plan.wants(ROW, shape, SUBJECT):
                plan.say(f"{ROW} {shape}, round {round_ + 1}")
                with tempfile.TemporaryDirectory(prefix="photinus-bench-") as folder:
                    values = asyncio.run(measure(plan, Path(folder)))
                plan.results.add(ROW, SUBJECT, shape, round_, values)


async def _first_answer(_plan: Plan, folder: Path) -> dict[str, float]:
    began = time.perf_counter()
    new = await asyncio.create_subprocess_exec(PHOTINUS, "new", "game", cwd=folder, stdout=subprocess.DEVNULL)
    await new.wait()
    async with _developing(folder / "game", "pomelo") as addresses, connect(addresses[0]) as client:
        await client.request("login", b'{"name":"Ann"}')
        return {"first_answer_ms": (time.perf_counter() - began) * 1000}


async def _saves(plan: Plan, folder: Path) -> dict[str, float]:
    file = folder / "game.py"
    _make_game(file)
    took: list[float] = []
    async with _developing(folder, "pomelo", "length4") as addresses, connect(addresses[0]) as client:
        # Every answer is compared with what was sent, and must be the next one of its connection.
        load = ("echo", "--connections", str(PLAYERS), "--rate", str(PACKETS_A_SECOND), "--seconds", str(SECONDS))
        to = ("--to", addresses[1], "--cpu", str(plan.load_cpu))
        bots = await asyncio.create_subprocess_exec(str(plan.bots), *load, *to, stdout=subprocess.PIPE)
        for edit in range(EDITS):
            await asyncio.sleep(PAUSE_SECONDS)
            file.write_text(file.read_text().replace(f"VERSION = {edit}\n", f"VERSION = {edit + 1}\n"))
            saved = time.perf_counter()
            while int(await client.request("version", b"{}")) != edit + 1:  # noqa: ASYNC110 - that is the user's wait
                await asyncio.sleep(0.001)
            took.append((time.perf_counter() - saved) * 1000)
        out, _ = await bots.communicate()
    report = json.loads(out)
    if bots.returncode != 0 or report["errors"]:
        plan.results.problem(f"{ROW}: players lost something: {report['errors']} errors, first {report['first_error']}")
    return {"save_to_handler_ms": max(took), "longest_answer_ms": report["max_us"] / 1000}


def _make_game(file: Path) -> None:
    file.write_text(GAME.read_text() + VERSION)


@asynccontextmanager
async def _developing(folder: Path, *protocols: str) -> AsyncGenerator[list[str]]:
    """Its addresses, in this order."""
    listen = [word for protocol in protocols for word in ("--listen", f"tcp://127.0.0.1:0?protocol={protocol}")]
    server = await asyncio.create_subprocess_exec(PHOTINUS, "dev", *listen, cwd=folder, stdout=subprocess.PIPE)
    output = cast(asyncio.StreamReader, server.stdout)
    addresses: list[str] = []
    try:
        while not (line := (await output.readline()).decode()).startswith("ready"):
            addresses += re.findall(r"tcp://\S+", line)
        yield addresses
    finally:
        server.terminate()
        await server.wait()

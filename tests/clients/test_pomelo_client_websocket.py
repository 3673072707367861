"""The world of the demo, played with a client that nobody here wrote: npm's pomelo-client-websocket 1.0.13."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from examples.chat.world import app
from photinus import Node
from tests.clients import programs

SECONDS = 30


@pytest.mark.parametrize("options", ["", "&deflate=1"], ids=["plain", "deflate"])
async def test_two_players(options: str) -> None:
    async with Node(app, listen=[f"ws://127.0.0.1:0?protocol=pomelo&heartbeat=1{options}"]) as node:
        heard = await play(node.addresses[0])
        assert node.statistics()["wire_errors"] == {}
    assert heard == [
        ["ann logs in", {"name": "Ann", "players": 1}],
        ["bob logs in", {"name": "Bob", "players": 2}],
        ["no such route", "unknown-route"],
        ["bob sees", {"moves": [{"name": "Ann", "x": 1.5, "y": -2.0}]}],
        ["ann is answered", {}],
        ["both hear", [{"name": "Ann", "text": "Grüße ☀"}] * 2],
        ["answers", 300],
        ["bob is kicked", 1008],
        ["ann is kept by heartbeats", 3],
    ]


async def play(address: str) -> list[Any]:
    process = await asyncio.create_subprocess_exec(
        programs.node(),
        "play.js",
        address.partition("?")[0],
        cwd=programs.POMELO,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return [json.loads(line) for line in output.splitlines()]

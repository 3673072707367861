from __future__ import annotations

from typing import Literal

import pytest

from examples.echo import app
from photinus.testing import TestCluster

BODIES = [b"", b"{}", b"\x00\xff", b"x" * 60_000]


@pytest.mark.parametrize("protocol", ["photinus", "pomelo"])
async def test_with_routes(protocol: Literal["photinus"]) -> None:
    async with TestCluster(app) as t:
        client = await t.connect(protocol)
        for body in BODIES:
            assert await client.request("echo", body) == body


@pytest.mark.parametrize("command", [0, 1, 77, 2**32 - 1])
async def test_firefly_under_any_command(command: int) -> None:
    async with TestCluster(app) as t:
        client = await t.connect("firefly")
        for body in BODIES:
            await client.send(body, command=command)
            packet = await client.receive()
            assert (packet.command, packet.body) == (command, body)


async def test_length() -> None:
    async with TestCluster(app) as t:
        client = await t.connect("length4")
        for body in BODIES:
            assert await client.request(body) == body
        for body in BODIES:
            await client.send(body)
        assert [(await client.receive()).body for _ in BODIES] == BODIES

"""Native applications: what they answer without Python, and what they tell it."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import Struct

from photinus import App, Routes, Session
from photinus.config import Config, NativeSection
from photinus.errors import ConfigError
from photinus.testing import TestCluster

ECHO = Config(native=NativeSection(apps=("echo",)))


class Text(Struct):
    text: str


def game(heard: list[bytes], gate: asyncio.Event) -> App:
    routes = Routes()

    @routes.on("wait", public=True)
    async def wait(session: Session, msg: Text) -> Text:
        await gate.wait()
        heard.append(b"waited")
        return msg

    @routes.told
    async def told(session: Session, body: bytes) -> None:
        heard.append(body)

    return App("game", routes=[routes])


@pytest.mark.parametrize("proxies", [0, 1])
async def test_echo_answers_past_python_and_tells_in_order(proxies: int) -> None:
    heard: list[bytes] = []
    gate = asyncio.Event()
    async with TestCluster(game(heard, gate), proxies=proxies, config=ECHO) as t:
        ann = await t.connect()
        handled = t.node.statistics()["loop"]["handled"]
        assert await ann.request("native.echo", Text("there and back"), Text) == Text("there and back")
        assert t.node.statistics()["loop"]["handled"] == handled
        waiting = asyncio.ensure_future(ann.request("wait", Text("x"), Text))
        await t.advance(0.1)
        await ann.notify("native.tell", Text("behind it"))
        await t.advance(0.1)
        assert heard == []
        gate.set()
        assert await waiting == Text("x")
        await t.advance(0.1)
        assert heard[0] == b"waited"
        assert b"behind it" in heard[1]


async def test_one_that_there_is_not() -> None:
    config = Config(native=NativeSection(apps=("physics",)))
    with pytest.raises(ConfigError, match="physics"):
        TestCluster(game([], asyncio.Event()), config=config)

"""A game for clients to play on, and doors to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from msgspec import Struct

from photinus import App, Closed, Node, Refused, Routes, Session
from photinus.config import Config, EngineSection, Limits
from tests.adversity.doors import certified

SCHEMES = ("tcp", "tls", "ws", "wss")


class Text(Struct):
    text: str


class Number(Struct):
    number: int


class World:
    """What the server saw."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.resumed: list[bool] = []
        self.ends: list[str] = []
        self.counted: list[int] = []
        self.dropped: list[int] = []
        self.go_on = asyncio.Event()
        self.app = App("game", routes=[self._routes()])

    def _routes(self) -> Routes:
        routes = Routes()

        @routes.opened
        def opened(session: Session) -> None:
            self.sessions.append(session)

        @routes.resumed
        def resumed(session: Session, gap: bool) -> None:
            self.resumed.append(gap)

        @routes.closed
        def closed(session: Session, reason: Closed) -> None:
            self.ends.append(reason.reason)

        @routes.on("echo", public=True)
        def echo(session: Session, body: bytes) -> bytes:
            return body

        @routes.on("count", public=True)
        def count(session: Session, msg: Number) -> Number:
            self.counted.append(msg.number)
            return msg

        @routes.on("place", public=True)
        def place(session: Session, msg: Number) -> None:
            self.dropped.append(msg.number)

        @routes.on("wait", public=True)
        async def wait(session: Session, msg: Text) -> Text:
            await self.go_on.wait()
            return msg

        @routes.on("refuse", public=True)
        def refuse(session: Session, msg: Text) -> None:
            raise Refused("too-poor", missing=3)

        @routes.on("push", public=True)
        def push(session: Session, msg: Text) -> None:
            for number in range(10):
                session.send("pushed", Text(f"{msg.text} {number}"))

        @routes.on("kick", public=True)
        def kick(session: Session, msg: Text) -> None:
            session.send("pushed", Text("bye"))
            session.kick(msg.text)

        @routes.on("go", public=True)
        def go(session: Session, msg: Text) -> None:
            session.redirect(msg.text)

        @routes.on("login", public=True)
        async def login(session: Session, msg: Text) -> Text:
            await session.login(msg.text, replace=True)
            return msg

        @routes.on("mine")
        def mine(session: Session, body: bytes) -> Text:
            return Text(str(session.player))

        return routes


@asynccontextmanager
async def serving(
    world: World, *urls: str, limits: Limits | None = None, engine: EngineSection | None = None
) -> AsyncIterator[Node]:
    config = Config(tls=certified(), limits=limits or Limits(), engine=engine or EngineSection())
    async with Node(world.app, listen=urls, config=config) as node:
        yield node


async def until(condition: Callable[[], object], *, timeout: float = 10.0) -> None:
    """Looks again and again; there is no event for what is waited for."""
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)

"""Photinus: the node that is called."""

from __future__ import annotations

import asyncio

from bench.servers.reporting import report
from photinus import App, Service, Space, call


class Desk(Service):
    @call(priority="high")
    async def echo(self, number: int) -> int:
        return number

    @call(priority="bulk")
    async def there(self) -> None:
        """All that was sent before it has come."""


class Stuck(Space):
    """Whatever comes in does not come out again."""

    @call
    async def enter(self, _blob: bytes) -> None:
        await asyncio.Event().wait()


app = App("bench", services=[Desk], spaces=[Stuck])
report(app)

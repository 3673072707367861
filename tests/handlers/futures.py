"""A future of somebody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any


class Future:
    """A future that is none of asyncio's: it only follows the protocol."""

    _asyncio_future_blocking = False

    def __init__(self, loop: asyncio.AbstractEventLoop, *, remembers: bool) -> None:
        self._loop = loop
        self._remembers = remembers
        self._callbacks: list[Any] = []
        self._answer: Any = None
        self.cancellations: list[object] = []

    def add_done_callback(self, callback: Any, *, context: Any) -> None:
        self._callbacks.append((callback, context))

    def cancel(self, msg: object = None) -> bool:
        self.cancellations.append(msg)
        return False

    def result(self) -> Any:
        return self._answer

    def done(self, answer: object) -> None:
        self._answer = answer
        for callback, context in self._callbacks:
            self._loop.call_soon(callback, self, context=context)
        if not self._remembers:
            self._callbacks.clear()

    def __await__(self) -> Generator[Any, Any, Any]:
        self._asyncio_future_blocking = True
        yield self
        return self.result()

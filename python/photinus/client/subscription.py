"""What a client's application iterates over: pushes of a route, and changes of the connection."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, cast

from ..errors import ConnectionFailed

T = TypeVar("T")


class Subscription(Generic[T]):
    """The pushes of one route, or other news, to be iterated over by one task.

    Iteration ends when this client closes, and raises Kicked or ConnectionLost when the server or
    the network ended it, after what came before. Over a cut that the client mends it just goes on.
    """

    def __init__(self, limit: int) -> None:
        self.dropped = 0
        """Items that came while as many as the limit were waiting."""
        self.closing: Callable[[], object] | None = None
        self._waiting: deque[Any] = deque(maxlen=limit)
        self._wake = asyncio.Event()
        self._ended = False
        self._failure: ConnectionFailed | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._waiting:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self.read(self._waiting.popleft())

    def close(self) -> None:
        """Takes no more; iteration ends after what waits."""
        if not self._ended:
            if self.closing is not None:
                self.closing()
            self.end(None)

    def put(self, item: Any) -> None:
        if len(self._waiting) == self._waiting.maxlen:
            self.dropped += 1
        self._waiting.append(item)
        self._wake.set()

    def read(self, item: Any) -> T:
        """An item when its turn has come: what nobody looks at is not decoded."""
        return cast(T, item)

    def end(self, failure: ConnectionFailed | None) -> None:
        self._ended = True
        self._failure = failure
        self._wake.set()

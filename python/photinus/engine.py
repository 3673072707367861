"""The native engine, and the event loops that it runs under.

The only module that imports `photinus._native`. Under a loop made by [`new_event_loop`] the engine is
part of the loop's sleep: what has come in is handled when the loop wakes, what was sent is handed
over when it goes to sleep, so a turn of the loop is a batch both ways. Under any other loop
([`attach`]) it is a reader like all others.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable

from ._native import Engine, Handler, MemoryConnection, Session

__all__ = [
    "Engine",
    "Handler",
    "MemoryConnection",
    "Session",
    "attach",
    "new_event_loop",
    "stop",
]


class _EngineSelector(selectors.DefaultSelector):
    """The selector of a loop whose sleep is the engine's."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        engine.sleep_with(self.fileno())

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # asyncio passes None, 0 or a positive time; a negative one means 0 to selectors.
        if self._engine.wait(timeout):
            return super().select(0)
        return []


def new_event_loop(engine: Engine) -> asyncio.AbstractEventLoop:
    """Makes an asyncio loop whose every turn is a turn of the engine."""
    return asyncio.SelectorEventLoop(_EngineSelector(engine))


def attach(engine: Engine, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """Runs the engine under a loop that is not ours (uvloop, a test runner's); call it in that loop.

    Returns what takes it off again. Does nothing under a loop of `new_event_loop`.
    """
    if isinstance(getattr(loop, "_selector", None), _EngineSelector):
        return lambda: None

    def call_soon() -> None:
        loop.call_soon(engine.flush)

    engine.follow(call_soon)
    loop.add_reader(engine.fileno(), engine.drain)
    loop.call_soon(engine.drain)

    def detach() -> None:
        loop.remove_reader(engine.fileno())
        engine.follow(None)

    return detach


async def stop(engine: Engine, *, timeout: float) -> None:
    """Stops gracefully: accepts no more, gives every session what waits for it and its kick
    ("shutdown"), and shuts down when all are gone, or after `timeout` seconds at the latest.
    """
    loop = asyncio.get_running_loop()
    drained = asyncio.Event()
    engine.close_sessions("shutdown", lambda: loop.call_soon(drained.set))
    try:
        async with asyncio.timeout(timeout):
            await drained.wait()
            while tasks := engine.suspended():
                await asyncio.wait(tasks)
    except TimeoutError:
        tasks = engine.suspended()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
    finally:
        engine.flush()
        engine.shut_down()

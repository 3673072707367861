"""The native engine, and the event loops that it runs under.

The only module that imports `photinus._native`. Under a loop made by [`new_event_loop`] the engine is
part of the loop's sleep: what has come in is handled when the loop wakes, what was sent is handed
over when it goes to sleep, so a turn of the loop is a batch both ways. Under any other loop
([`attach`]) it is a reader like all others.
"""

from __future__ import annotations

import asyncio
import selectors
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

from ._native import Engine, Handler, MemoryConnection, MemoryNetwork, Session

__all__ = [
    "Engine",
    "Handler",
    "MemoryConnection",
    "MemoryNetwork",
    "Session",
    "attach",
    "new_event_loop",
    "stop",
    "woken_by_signals",
]


class _EngineSelector(selectors.DefaultSelector):
    """The selector of a loop whose sleep is the engine's."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.poll = super().select
        # In the instance, so that asyncio calls the engine without a function of ours in between.
        vars(self)["select"] = engine.select


def new_event_loop(engine: Engine) -> asyncio.AbstractEventLoop:
    """Makes an asyncio loop whose every turn is a turn of the engine."""
    selector = _EngineSelector(engine)
    loop = asyncio.SelectorEventLoop(selector)
    engine.sleep_for(loop, selector.fileno(), selector.poll)
    return loop


@contextmanager
def woken_by_signals(loop: asyncio.AbstractEventLoop) -> Generator[None]:
    """Lets a signal end the loop's sleep however it falls; not for a loop that is running.

    A signal handler in Python runs when the interpreter comes to it. One that arrives when the
    interpreter has looked for the last time, but the poll has not begun, would have to wait for the
    next packet. Does nothing outside the main thread, which gets no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    receiving, sending = socket.socketpair()
    with receiving, sending:
        receiving.setblocking(False)
        sending.setblocking(False)
        loop.add_reader(receiving, receiving.recv, 4096)
        # A full buffer holds a wake already.
        before = signal.set_wakeup_fd(sending.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            loop.remove_reader(receiving)


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


# How long handlers may take to be cancelled, and then the `closed` handlers of sessions that were cut
# off, when a stop has run out of time. Long enough for a write to a store that works.
GOODBYE_SECONDS = 1.0


async def stop(engine: Engine, *, timeout: float, last: Callable[[], Awaitable[None]] | None = None) -> None:
    """Stops gracefully: accepts no more, gives every session what waits for it and its kick
    ("shutdown"), and shuts down when all are gone; `last` is awaited right before that.

    After `timeout` seconds the handlers that still wait are cancelled and the sessions that are
    still there are cut off; their `closed` handlers run all the same, and get GOODBYE_SECONDS.
    """
    loop = asyncio.get_running_loop()
    drained = asyncio.Event()
    engine.close_sessions("shutdown", lambda: loop.call_soon(drained.set))
    try:
        async with asyncio.timeout(timeout):
            await drained.wait()
            while tasks := engine.suspended() + engine.suspended(closing=True):
                await asyncio.wait(tasks)
    except TimeoutError:
        await _cancel_handlers(engine, loop)
    finally:
        try:
            if last is not None:
                await last()
        finally:
            engine.flush()
            engine.shut_down()
            await _until(loop, lambda: not engine.sessions())
            for task in engine.suspended() + engine.suspended(closing=True):
                task.cancel()
            engine.release()


async def _cancel_handlers(engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
    told: set[asyncio.Task[Any]] = set()

    def done() -> bool:
        # Behind a cancelled handler the next of its session may begin; none is cancelled twice,
        # so that it can clean up.
        suspended = set(engine.suspended())
        for task in suspended - told:
            task.cancel()
        told.update(suspended)
        return not suspended

    await _until(loop, done)


async def _until(loop: asyncio.AbstractEventLoop, done: Callable[[], bool]) -> None:
    """Turns the loop, which handles what the engine still has to tell, until this is so."""
    end = loop.time() + GOODBYE_SECONDS
    # What is waited for has no event of its own: sessions end one by one, handlers begin others.
    while not done() and loop.time() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.005)

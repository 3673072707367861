"""What the demo shows: rates between two looks at the node's statistics."""

from __future__ import annotations

import time
from typing import Any

from msgspec import Struct
from rich.table import Table

from photinus import Node


class Sample(Struct, frozen=True):
    """The node's counters at one moment (seconds of a clock that never goes back)."""

    at: float
    players: int
    packets_in: int
    packets_out: int
    handled: int
    python_ns: int
    errors: int
    queues: dict[str, int]
    handler_p99_us: float

    @classmethod
    def of(cls, node: Node, players: int) -> Sample:
        seen = node.statistics()
        return cls(
            at=time.monotonic(),
            players=players,
            packets_in=seen["engine"]["packets_in"],
            packets_out=seen["engine"]["packets_out"],
            handled=seen["loop"]["handled"],
            python_ns=seen["loop"]["gil_ns"],
            errors=seen["app"]["handler_errors"] + seen["app"]["tasks"]["failed"],
            queues=seen["queues"],
            handler_p99_us=seen["stages"]["handler"]["p99_us"],
        )


def table(before: Sample, now: Sample, bots: dict[str, Any]) -> Table:
    """The live table of one look."""
    shown = Table("", "now", title="the world")
    shown.add_row("players", f"{now.players:,}")
    shown.add_row("packets in", f"{_rate(before, now, 'packets_in'):,.0f} /s")
    shown.add_row("packets out", f"{_rate(before, now, 'packets_out'):,.0f} /s")
    shown.add_row("Python a packet", f"{_python_us(before, now):.2f} us")
    shown.add_row("handlers, p99", f"{now.handler_p99_us:,.1f} us")
    if bots.get("p99_us") is not None:
        shown.add_row("answers as bots see them", f"p50 {bots['p50_us']:,.0f} us, p99 {bots['p99_us']:,.0f} us")
    for name, depth in now.queues.items():
        shown.add_row(f"waiting: {name.replace('_', ' ')}", f"{depth:,}")
    shown.add_row("errors", f"{now.errors:,}")
    return shown


def line(before: Sample, now: Sample, bots: dict[str, Any]) -> str:
    """The same in one line, for a log."""
    latency = f", answers p99 {bots['p99_us']:,.0f} us" if bots.get("p99_us") is not None else ""
    waiting = ", ".join(f"{name} {depth}" for name, depth in now.queues.items())
    return (
        f"{now.players} players, {_rate(before, now, 'packets_in'):,.0f} packets/s in, "
        f"{_rate(before, now, 'packets_out'):,.0f} out, {_python_us(before, now):.2f} us of Python a packet"
        f"{latency}, {now.errors} errors, waiting: {waiting}"
    )


def _rate(before: Sample, now: Sample, counter: str) -> float:
    more: int = getattr(now, counter) - getattr(before, counter)
    return more / max(now.at - before.at, 1e-9)


def _python_us(before: Sample, now: Sample) -> float:
    """Time with the GIL held in turns that handled packets, ticks and timers of those turns included."""
    return (now.python_ns - before.python_ns) / 1000 / max(now.handled - before.handled, 1)

"""What the engine's own statistics say of a window."""

from __future__ import annotations

from typing import Any


def engine_figures(before: dict[str, Any], after: dict[str, Any]) -> dict[str, float]:
    """Of two `statistics()` around a load: figures a packet, from the engine's own count of packets,
    so that the load's warm-up, which lies between the two as well, does no harm."""

    def grown(*names: str) -> float:
        return sum(_total(after, name) - _total(before, name) for name in names)

    packets = grown("packets_in")
    if packets <= 0:
        return {}
    figures = {
        "gil_per_1000": 1e3 * grown("gil_acquisitions") / packets,
        "gil_us": grown("gil_ns") / 1e3 / packets,
        "syscalls_per_1000": 1e3 * grown("polls", "reads", "writes", "wakes") / packets,
    }
    drains = grown("drains")
    if drains > 0:
        figures["packets_per_wake"] = packets / drains
    return {name: value for name, value in figures.items() if value > 0}


def _total(statistics: object, name: str) -> float:
    """The sum of all numbers under this name, however deep: one for each reactor, say."""
    if isinstance(statistics, dict):
        own = statistics.get(name)
        inner = sum(_total(part, name) for part in statistics.values())
        return inner + (own if isinstance(own, int | float) else 0)
    if isinstance(statistics, list):
        return sum(_total(part, name) for part in statistics)
    return 0

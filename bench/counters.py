"""What the engine's own statistics say of a window."""

from __future__ import annotations

from typing import Any


def engine_figures(before: dict[str, Any], after: dict[str, Any], per: str = "packets_in") -> dict[str, float]:
    """Of two `statistics()` around a load: figures a packet (`per="packets_out"`: a delivery), from
    the engine's own count of them, so that the load's warm-up, which lies between the two as well,
    does no harm."""

    def grown(*names: str) -> float:
        return sum(growth(before, after, name) for name in names)

    packets = grown(per)
    if packets <= 0:
        return {}
    return {
        # Turns of the loop that found packets: each is one wake, or none where it was awake already.
        "packets_per_wake": packets / max(1.0, grown("turns_with_packets")),
        "gil_per_1000": 1e3 * grown("gil_acquisitions") / packets,
        "gil_us": grown("gil_ns") / 1e3 / packets,
        # The reactors' (polls, reads, writes), the loop's (waits), and either's wakes of the other.
        "syscalls_per_1000": 1e3 * grown("polls", "reads", "writes", "waits", "wakes") / packets,
    }


def growth(before: dict[str, Any], after: dict[str, Any], name: str) -> float:
    """How much the numbers under this name, in all sections, have grown."""
    return _total(after, name) - _total(before, name)


def _total(statistics: object, name: str) -> float:
    """The sum of all numbers under this name, in whatever section they stand."""
    if isinstance(statistics, dict):
        own = statistics.get(name)
        inner = sum(_total(part, name) for part in statistics.values())
        return inner + (own if isinstance(own, int | float) else 0)
    return 0

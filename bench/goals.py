"""The numbers that are asked for, in one place. Falling short of one is told, and ends nothing."""

from __future__ import annotations

from dataclasses import dataclass

from .results import Results

PHOTINUS = "photinus-native-led"


@dataclass(frozen=True)
class Goal:
    text: str
    row: str
    subject: str
    shape: str
    metric: str
    at_most: float

    def measured(self, results: Results) -> float | None:
        return results.value(self.row, self.subject, self.shape, self.metric)


def _cpu(shape: str, at_most: float) -> Goal:
    return Goal(f"CPU of an echo, {shape}, x floor", "echo", PHOTINUS, shape, "cpu_ratio", at_most)


GOALS = (
    _cpu("50x1", 1.15),
    _cpu("1000x1", 1.15),
    _cpu("50x16", 1.35),
    _cpu("1000x16", 1.35),
    Goal("Python of a packet, bytes def, us", "echo", PHOTINUS, "50x16", "python_us", 0.12),
    Goal("Python of a packet, typed, us", "echo", "photinus-typed", "50x16", "python_us", 0.35),
    Goal("async def above def, us", "echo", "photinus-async", "50x16", "python_over_bytes_us", 0.2),
    Goal("Python of a delivery, us", "broadcast", PHOTINUS, "1000x1", "python_us", 0.02),
    Goal("CPU of a delivery, x C write loop", "broadcast", PHOTINUS, "1000x1", "cpu_ratio", 1.05),
    Goal("the same, four in one turn", "broadcast", PHOTINUS, "1000x4", "cpu_ratio", 0.4),
    Goal("resident bytes of an idle session", "memory", PHOTINUS, "15000", "bytes_per_session", 2048),
    Goal("share of a burst's memory not given back", "memory", PHOTINUS, "15000", "burst_kept", 0.1),
)

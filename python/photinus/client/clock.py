"""The server's clock, as its heartbeats tell it (docs/protocol.md, 5.8).

Times are in seconds, the clocks on the wire in microseconds.
"""

from __future__ import annotations

MICROSECONDS = 1_000_000


class ServerClock:
    """An estimate of another clock: what it said, plus half of the way there and back, going on at its rate."""

    def __init__(self) -> None:
        self.round_trip: float | None = None
        self.rate = 1.0
        self._said = 0.0
        self._at: float | None = None
        self._told = 0.0
        self._clock = 0

    def begin(self) -> None:
        """A new connection: nothing of what came over the one before may be echoed."""
        self._clock = 0

    def heard(self, clock: int, rate: int, now: float, round_trip: float | None) -> None:
        """The server's clock and rate have come; and how long the way is, where that is known anew."""
        said = clock / MICROSECONDS
        if round_trip is not None:
            self.round_trip = round_trip
        if round_trip is not None or self._at is None:
            self._said = said + (self.round_trip or 0.0) / 2
        else:
            # It may have been on its way for long: it is so late there at least, and what was known stays.
            self._said = max(said, self._said + (now - self._at) * self.rate)
        self._clock = clock
        self._at = now
        self.rate = rate / MICROSECONDS

    def time(self, now: float) -> float | None:
        """The server's clock, None before it has been heard. It never goes back: when it is ahead, it waits."""
        if self._at is None:
            return None
        self._told = max(self._told, self._said + (now - self._at) * self.rate)
        return self._told

    def forget(self) -> None:
        """Another server's clock may be earlier."""
        self._at, self._told = None, 0.0

    def echo(self, now: float) -> tuple[int, int]:
        """The clock that came last over this connection, and for how long it is here; both in microseconds."""
        if self._clock == 0 or self._at is None:
            return 0, 0
        return self._clock, microseconds(now - self._at)


def microseconds(seconds: float) -> int:
    return max(0, round(seconds * MICROSECONDS))

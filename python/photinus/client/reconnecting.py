"""When a client whose connection was cut tries again: at once, then ever later, and never all clients together."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

# The first try comes within this: a server that lost a thousand connections at once gets them back spread over it.
FIRST_SECONDS = 0.1
# Twice as long each time, up to this: a server that is back is found soon, one that is not is left alone.
LONGEST_SECONDS = 5.0


def pauses(random: Random) -> Iterator[float]:
    """Seconds before each try. All are drawn between nothing and their bound, which spreads clients best."""
    bound = FIRST_SECONDS
    while True:
        yield random.uniform(0, bound)
        bound = min(2 * bound, LONGEST_SECONDS)

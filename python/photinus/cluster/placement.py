"""Placement by a static table: which node holds a service or space.

A key that is pinned is where its pin says. All others are spread by rendezvous hashing: each node
draws a number for each address, and the greatest wins. So every node comes to the same answer
without asking, and when a node is added or taken away only those keys move that it wins or held.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b

from ..errors import UsageError

# Addresses whose node is remembered; a hash for each world node costs microseconds, this a look-up.
REMEMBERED = 65_536


class Placement:
    """Where services and spaces are, among these world nodes and with these pins."""

    def __init__(self, worlds: Iterable[str], pins: Mapping[str, str]) -> None:
        self.worlds = tuple(sorted(worlds))
        self._pins = dict(pins)
        self._remembered: dict[str, str] = dict(pins)

    def node_of(self, address: str) -> str:
        """The node of `Class/key`, or of `Class@node`, which names it; UsageError if there is no world node."""
        node = self._remembered.get(address)
        if node is not None:
            return node
        kind, at, named = address.partition("@")
        if at and "/" not in kind:
            return named
        if not self.worlds:
            raise UsageError(f"{address}: there is no world node that it could be on")
        node = max(self.worlds, key=lambda world: _weight(world, address))
        if len(self._remembered) >= REMEMBERED:
            self._remembered = dict(self._pins)
        self._remembered[address] = node
        return node


def _weight(node: str, address: str) -> bytes:
    # Not hash(): that differs from process to process.
    return blake2b(f"{node}\0{address}".encode(), digest_size=8).digest()

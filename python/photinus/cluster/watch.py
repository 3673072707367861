"""What the log says of a node's links: which there are, which are lost, and why one does not come about."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ..config import Member

# How often it is looked for links that are missing. Nodes that are started together have met by then.
LOOK_SECONDS = 5.0

_log = logging.getLogger("photinus")


class Watch:
    """Tells of each change once. `statistics` are the engine's, and `nodes` those of the cluster's table."""

    def __init__(self, nodes: Mapping[str, Member], statistics: Callable[[], Mapping[str, Any]]) -> None:
        self._nodes = nodes
        self._statistics = statistics
        # A node has a link from each of its reactors.
        self._links: dict[int, str] = {}
        self._missing: set[str] = set()
        self._refusals: dict[str, int] = {}
        self._refusing: set[str] = set()

    def linked(self, link: int, node: str) -> None:
        """There is a new link to that node."""
        if node not in self._links.values():
            _log.info("linked to %s", node)
        self._links[link] = node
        self._missing.discard(node)

    def unlinked(self, link: int, reason: str) -> None:
        """That link is lost."""
        node = self._links.pop(link, None)
        if node is not None and node not in self._links.values():
            _log.warning("lost %s (%s)", node, reason)
            # That is told, and that it stays away needs no more words.
            self._missing.add(node)

    def look(self) -> None:
        """Tells of nodes to which this one has no link, and of what was refused since it looked last."""
        statistics = self._statistics()
        for report in statistics["links"]:
            node = report["node"]
            if report["dialled"] and not report["connected"] and node not in {*self._links.values(), *self._missing}:
                self._missing.add(node)
                _log.warning("no link to %s (%s) so far: %d attempts", node, self._nodes[node].link, report["dials"])
        refusals = {name: count for name, count in statistics["wire_errors"].items() if _who(name)}
        grown = {name for name, count in refusals.items() if count > self._refusals.get(name, 0)}
        # Whoever is refused tries again and again.
        for name in sorted(grown - self._refusing):
            _log.warning("%s (%s): docs/bluenet.md, 3.3", _who(name), name.partition("-")[2])
        self._refusals, self._refusing = refusals, grown


def _who(reason: str) -> str:
    """Who refused a link for this reason, if it is one for which links are refused."""
    if reason.startswith("refused-"):
        return "another node refuses links from here"
    return "links from another node are refused here" if reason.startswith("link-") else ""

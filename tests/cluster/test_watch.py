from __future__ import annotations

from typing import Any

import pytest

from photinus.cluster.watch import Watch
from photinus.config import Member


class Told:
    """A watch, the statistics that it looks at, and what it has said since it was asked last."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", "photinus")
        self._caplog = caplog
        self.links: list[dict[str, Any]] = []
        self.wire_errors: dict[str, int] = {}
        self.watch = Watch(
            {"world-1": Member("tcp://127.0.0.1:7801")},
            lambda: {"links": self.links, "wire_errors": self.wire_errors},
        )

    def said(self) -> list[str]:
        messages = list(self._caplog.messages)
        self._caplog.clear()
        return messages


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    return Told(caplog)


def test_a_node_is_linked_and_lost_once_however_many_links_it_has(told: Told) -> None:
    told.watch.linked(1, "proxy-1")
    told.watch.linked(2, "proxy-1")
    assert told.said() == ["linked to proxy-1"]
    told.watch.unlinked(1, "silence")
    assert told.said() == []
    told.watch.unlinked(2, "silence")
    assert told.said() == ["lost proxy-1 (silence)"]
    told.watch.linked(3, "proxy-1")
    assert told.said() == ["linked to proxy-1"]


def test_a_node_that_cannot_be_reached(told: Told) -> None:
    told.links = [{"node": "world-1", "dialled": True, "connected": False, "dials": 9}]
    told.watch.look()
    assert told.said() == ["no link to world-1 (tcp://127.0.0.1:7801) so far: 9 attempts"]
    told.watch.look()
    assert told.said() == []
    told.watch.linked(1, "world-1")
    told.watch.unlinked(1, "restarted")
    assert told.said() == ["linked to world-1", "lost world-1 (restarted)"]
    told.watch.look()
    assert told.said() == []


def test_one_that_is_cut_for_a_moment_is_not_missing(told: Told) -> None:
    told.watch.linked(1, "world-1")
    told.said()
    told.links = [{"node": "world-1", "dialled": True, "connected": False, "dials": 2}]
    told.watch.look()
    assert told.said() == []


def test_refusals(told: Told) -> None:
    told.wire_errors = {"refused-secret": 3, "link-cluster": 1, "bad-frame": 7}
    told.watch.look()
    assert told.said() == [
        "links from another node are refused here (cluster): docs/bluenet.md, 3.3",
        "another node refuses links from here (secret): docs/bluenet.md, 3.3",
    ]
    # It tries again, and then no more, and then again.
    told.wire_errors = {"refused-secret": 6, "link-cluster": 1}
    told.watch.look()
    told.watch.look()
    assert told.said() == []
    told.wire_errors = {"refused-secret": 7, "link-cluster": 1}
    told.watch.look()
    assert told.said() == ["another node refuses links from here (secret): docs/bluenet.md, 3.3"]

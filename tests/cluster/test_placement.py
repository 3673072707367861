from __future__ import annotations

import pytest

from photinus.cluster.placement import REMEMBERED, Placement
from photinus.errors import UsageError

KEYS = [f"Bank/{number}" for number in range(3000)]


def test_pins_come_first() -> None:
    placement = Placement(["a", "b"], {"Bank/1": "b", "Bank/2": "a"})
    assert [placement.node_of(f"Bank/{n}") for n in (1, 2, 1)] == ["b", "a", "b"]


def test_an_address_with_a_node_is_there() -> None:
    assert Placement(["a"], {}).node_of("Bank@elsewhere") == "elsewhere"
    # A key may hold what it likes.
    assert Placement(["a"], {}).node_of("Bank/ann@example") == "a"


def test_every_node_comes_to_the_same() -> None:
    first, second = Placement(["a", "b", "c"], {}), Placement(["c", "a", "b"], {})
    assert [first.node_of(key) for key in KEYS] == [second.node_of(key) for key in KEYS]


def test_they_are_spread_evenly() -> None:
    placement = Placement(["a", "b", "c"], {})
    placed = [placement.node_of(key) for key in KEYS]
    for node in "abc":
        # A thousand each, give or take six times the deviation of that many lots.
        assert 850 < placed.count(node) < 1150


def test_a_node_more_takes_only_its_own() -> None:
    before, after = Placement(["a", "b"], {}), Placement(["a", "b", "c"], {})
    moved = [key for key in KEYS if before.node_of(key) != after.node_of(key)]
    assert {after.node_of(key) for key in moved} == {"c"}
    assert 850 < len(moved) < 1150


def test_without_a_world_node_there_is_no_place() -> None:
    with pytest.raises(UsageError, match="no world node"):
        Placement([], {}).node_of("Bank/1")


def test_what_is_remembered_is_bounded() -> None:
    placement = Placement(["a"], {"Bank/pinned": "b"})
    for number in range(REMEMBERED + 10):
        placement.node_of(f"Bank/{number}")
    assert len(placement._remembered) <= REMEMBERED
    assert placement.node_of("Bank/pinned") == "b"

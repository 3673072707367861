from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from photinus.errors import ReloadError
from photinus.ops.reload import Code
from photinus.ops.renew import Renewal

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """\
from __future__ import annotations
import enum
from dataclasses import dataclass, field
from typing import NamedTuple
from msgspec import Struct
from photinus import App
app = App("game")
"""


class Edited:
    """A module before and after an edit."""

    def __init__(self, folder: Path, before: str, after: str) -> None:
        file = folder / "ops_data.py"
        file.write_text(HEAD + before)
        code = Code("ops_data.py")
        code.import_app()
        self.old: Any = sys.modules["ops_data"]
        file.write_text(HEAD + after)
        with code.afresh():
            self.new: Any = sys.modules["ops_data"]
        self.renewal = Renewal({"ops_data"})

    def one(self, value: Any) -> Any:
        return self.renewal([value])[0]


HERO = """\
class Item(Struct):
    name: str
class Hero(Struct):
    name: str
    bag: list[Item] = []
    gold: int = 0
"""


def test_a_struct_goes_by_its_fields(folder: Path) -> None:
    after = (
        "class Item(Struct):\n    name: str\n    weight: float = 1.5\n"
        "class Hero(Struct):\n    level: int = 1\n    bag: list[Item] = []\n    name: str = ''\n"
    )
    edit = Edited(folder, HERO, after)
    hero = edit.old.Hero("Ann", bag=[edit.old.Item("sword")], gold=7)
    renewed = edit.one(hero)
    assert renewed == edit.new.Hero(level=1, bag=[edit.new.Item("sword", 1.5)], name="Ann")
    assert isinstance(renewed, edit.new.Hero)
    assert not hasattr(renewed, "gold")
    # The old one is what it was.
    assert hero == edit.old.Hero("Ann", bag=[edit.old.Item("sword")], gold=7)


def test_all_kinds_of_classes(folder: Path) -> None:
    text = (
        "class Colour(enum.Enum):\n    RED = 1\n    BLUE = 2\n"
        "@dataclass\nclass Data:\n    colour: Colour\n    found: list[int] = field(default_factory=list)\n"
        "@dataclass(slots=True, frozen=True)\nclass Small:\n    x: int\n"
        "class Pair(NamedTuple):\n    a: int\n    b: object = None\n"
        "class Plain:\n    def __init__(self, x): self.x = x\n"
        "class Outer:\n    class Inner(Struct, frozen=True):\n        x: int\n"
    )
    edit = Edited(folder, text, text.replace("    RED = 1\n", "    RED = 'red'\n"))
    old, new = edit.old, edit.new
    assert edit.one(old.Colour.RED) is new.Colour.RED
    assert edit.one(old.Data(old.Colour.BLUE, [3])) == new.Data(new.Colour.BLUE, [3])
    assert edit.one(old.Small(3)) == new.Small(3)
    pair = edit.one(old.Pair(1, old.Small(2)))
    assert type(pair) is new.Pair
    assert pair == new.Pair(1, new.Small(2))
    plain = edit.one(old.Plain(old.Plain(old.Colour.RED)))
    assert type(plain) is type(plain.x) is new.Plain
    assert plain.x.x is new.Colour.RED
    assert edit.one(old.Outer.Inner(3)) == new.Outer.Inner(3)
    assert edit.one(old.Plain) is new.Plain


def test_collections_and_what_is_not_the_games(folder: Path) -> None:
    edit = Edited(
        folder, "class Key(Struct, frozen=True):\n    x: int\n", "class Key(Struct, frozen=True):\n    x: int\n"
    )
    old, new = edit.old.Key(1), edit.new.Key(1)
    assert edit.one({old: [(old,), {old}, frozenset({old})]}) == {new: [(new,), {new}, frozenset({new})]}
    theirs = [object(), {"a": [1, (2,)]}, sys]
    assert edit.one(theirs) is theirs
    assert edit.renewal([None, 3, new]) == [None, 3, new]


def test_what_is_shared_is_shared_again(folder: Path) -> None:
    text = (
        "class Party(Struct):\n    names: list[str]\nclass Hero(Struct):\n    party: Party\n"
        "class Node:\n    other = None\n"
    )
    edit = Edited(folder, text, text)
    party = edit.old.Party(["Ann", "Bob"])
    ann, bob = edit.renewal([edit.old.Hero(party), edit.old.Hero(party)])
    assert ann is not bob
    assert ann.party is bob.party
    # Objects without declared fields may even refer to each other.
    here, there = edit.old.Node(), edit.old.Node()
    here.other, there.other = there, here
    new = edit.one(here)
    assert new.other.other is new


@pytest.mark.parametrize(
    ("after", "problem"),
    [
        (
            "class Hero(Struct):\n    name: str\n    level: int\n",
            r"ops_data\.Hero\.level is new and has no default.*give it",
        ),
        (
            "class Hero(Struct):\n    name: int\n",
            r"ops_data\.Hero\.name: Expected `int`, got `str`; give the field another",
        ),
        ("class Player(Struct):\n    name: str\n", r"there is no ops_data\.Hero any more.*keep the class"),
        ("Hero = 3\n", r"there is no ops_data\.Hero any more"),
        ("class Hero:\n    pass\n", r"a ops_data\.Hero cannot be carried over; make it a Struct of another name"),
        (
            "class Hero(Struct):\n    name: str\n    def __post_init__(self): raise ValueError('no')\n",
            r"ops_data\.Hero does not take what sessions have: ValueError\('no'\)",
        ),
    ],
)
def test_what_does_not_fit(folder: Path, after: str, problem: str) -> None:
    edit = Edited(folder, "class Hero(Struct):\n    name: str\n", after)
    with pytest.raises(ReloadError, match=problem):
        edit.one({"hero": edit.old.Hero("Ann")})


def test_a_member_that_is_gone(folder: Path) -> None:
    edit = Edited(
        folder, "class Colour(enum.Enum):\n    RED = 1\n    BLUE = 2\n", "class Colour(enum.Enum):\n    RED = 1\n"
    )
    assert edit.one(edit.old.Colour.RED) is edit.new.Colour.RED
    with pytest.raises(ReloadError, match=r"ops_data\.Colour has no BLUE any more"):
        edit.one(edit.old.Colour.BLUE)


def test_a_struct_in_itself(folder: Path) -> None:
    text = "class Node(Struct):\n    other: Node | None = None\n"
    edit = Edited(folder, text, text)
    node = edit.old.Node()
    node.other = node
    with pytest.raises(ReloadError, match=r"a ops_data\.Node contains itself"):
        edit.one(node)


def test_a_number_fits_where_it_did(folder: Path) -> None:
    before = "class Hero(Struct):\n    x: float = 0.0\n    y: int = 0\n    z: object = None\n"
    after = "class Hero(Struct):\n    x: float = 0.0\n    y: float = 0.0\n    z: int | None = None\n"
    edit = Edited(folder, before, after)
    # x never was what it was declared to be, and that is the game's affair.
    assert edit.one(edit.old.Hero(x="far", y=3)) == edit.new.Hero(x="far", y=3.0)


def test_a_class_within_a_function_cannot_be_found(folder: Path) -> None:
    text = "def make():\n    class Hero(Struct):\n        pass\n    return Hero()\n"
    edit = Edited(folder, text, text)
    with pytest.raises(ReloadError, match=r"there is no ops_data\.make\.<locals>\.Hero any more"):
        edit.one(edit.old.make())

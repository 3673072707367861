from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from photinus.errors import AppNotFound
from photinus.load import load_app

if TYPE_CHECKING:
    from pathlib import Path

ONE = "from photinus import App\napp = App('one')\nsame = app\n"
TWO = "from photinus import App\nred = App('red')\nblue = App('blue')\nnumber = 3\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with modules whose names no other test uses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    package = tmp_path / "load_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("from .inner.game import app\n")
    (package / "inner" / "__init__.py").touch()
    (package / "inner" / "game.py").write_text("from ..names import NAME\nfrom photinus import App\napp = App(NAME)\n")
    (package / "names.py").write_text("NAME = 'packed'\n")
    (tmp_path / "load_one.py").write_text(ONE)
    (tmp_path / "load_two.py").write_text(TWO)
    (tmp_path / "load_none.py").write_text("number = 3\n")
    (tmp_path / "load_broken.py").write_text("raise RuntimeError('of the game')\n")
    return tmp_path


@pytest.fixture(autouse=True)
def forget_modules() -> object:
    yield
    for name in [name for name in sys.modules if name.startswith("load_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("load_one.py", "one"),
        ("./load_one.py", "one"),
        ("load_one", "one"),
        ("load_one:same", "one"),
        ("load_two.py:blue", "blue"),
        ("load_two:red", "red"),
        ("load_package/inner/game.py", "packed"),
        ("load_package", "packed"),
        ("load_package.inner.game", "packed"),
    ],
)
def test_ways_to_name_an_app(folder: Path, target: str, name: str) -> None:
    assert load_app(target).name == name


def test_a_whole_path(folder: Path) -> None:
    assert load_app(str(folder / "load_package" / "inner" / "game.py")).name == "packed"


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("no_such.py", "no_such.py: no such file"),
        ("no_such", "no_such: no such module"),
        ("no_such.inner", "no_such.inner: no such module"),
        ("load_none.py", "load_none.py: no App in it"),
        ("load_two.py", r"load_two.py: several Apps in it \(red, blue\): name one, as load_two.py:red"),
        ("load_two:green", "load_two: no attribute `green` in it"),
        ("load_two:number", "load_two:number: expected an App, found int"),
        ("", "no such module"),
    ],
)
def test_what_is_not_there(folder: Path, target: str, problem: str) -> None:
    with pytest.raises(AppNotFound, match=problem):
        load_app(target)


def test_what_the_game_raises_passes(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="of the game"):
        load_app("load_broken.py")

from __future__ import annotations

import os
import py_compile
import sys
from typing import TYPE_CHECKING

import pytest

from photinus import App
from photinus.errors import AppNotFound
from photinus.ops.reload import Code

if TYPE_CHECKING:
    from pathlib import Path

GAME = "from photinus import App\nimport ops_rules\napp = App(ops_rules.NAME)\n"


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)


def begin(folder: Path, **files: str) -> Code:
    write(folder, **{"ops_game": GAME, "ops_rules": "NAME = 'one'\n", **files})
    code = Code("ops_game.py")
    code.import_app()
    return code


def afresh(code: Code) -> App:
    with code.afresh() as app:
        return app


def test_all_modules_of_the_folder_are_imported_afresh(folder: Path) -> None:
    code = begin(folder)
    assert set(code.modules()) == {"ops_game", "ops_rules"}
    assert code.files() == {str(folder / "ops_game.py"), str(folder / "ops_rules.py")}
    was = code.modules()
    write(folder, ops_rules="import ops_new\nNAME = ops_new.NAME\n", ops_new="NAME = 'two'\n")
    app = afresh(code)
    assert app.name == "two"
    assert set(code.modules()) == {"ops_game", "ops_rules", "ops_new"}
    assert not set(was.values()) & set(code.modules().values())
    # The old code has its own still.
    assert was["ops_game"].app.name == "one"


def test_two_edits_of_one_length_in_one_second(folder: Path) -> None:
    code = begin(folder)
    second = (folder / "ops_rules.py").stat().st_mtime_ns // 10**9 * 10**9
    for name in ("two", "six", "ten"):
        write(folder, ops_rules=f"NAME = '{name}'\n")
        os.utime(folder / "ops_rules.py", ns=(second, second))
        assert afresh(code).name == name


def test_old_bytecode_is_not_used(folder: Path) -> None:
    write(folder, ops_rules="NAME = 'old'\n")
    second = (folder / "ops_rules.py").stat().st_mtime_ns // 10**9 * 10**9
    os.utime(folder / "ops_rules.py", ns=(second, second))
    py_compile.compile(str(folder / "ops_rules.py"), doraise=True)
    write(folder, ops_rules="NAME = 'new'\n", ops_game=GAME)
    os.utime(folder / "ops_rules.py", ns=(second, second))
    code = Code("ops_game.py")
    assert code.import_app().name == "new"


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        ("NAME = = 'two'\n", SyntaxError),
        ("import ops_nowhere\n", ModuleNotFoundError),
        ("NAME = 1 / 0\n", ZeroDivisionError),
        ("import sys\nsys.exit(3)\n", SystemExit),
        ("\n", AttributeError),
    ],
)
def test_a_failure_leaves_the_old_modules(folder: Path, broken: str, kind: type[BaseException]) -> None:
    code = begin(folder)
    before = code.modules()
    write(folder, ops_rules=f"import ops_other\n{broken}", ops_other="")
    with pytest.raises(kind):
        afresh(code)
    assert code.modules() == before
    assert "ops_other" not in sys.modules
    write(folder, ops_rules="NAME = 'mended'\n")
    assert afresh(code).name == "mended"


def test_what_fails_after_the_import_brings_the_old_modules_back(folder: Path) -> None:
    code = begin(folder)
    before = code.modules()
    write(folder, ops_rules="NAME = 'two'\n")
    with pytest.raises(ValueError, match="of the test"), code.afresh():
        raise ValueError("of the test")
    assert code.modules() == before


def test_no_app_any_more(folder: Path) -> None:
    code = begin(folder)
    write(folder, ops_game="number = 3\n")
    with pytest.raises(AppNotFound, match="no App in it"):
        afresh(code)
    assert sys.modules["ops_game"].app.name == "one"


def test_a_package_with_all_that_is_in_it(folder: Path) -> None:
    inner = folder / "ops_package" / "inner"
    inner.mkdir(parents=True)
    bare = folder / "ops_bare"
    bare.mkdir()
    (folder / "ops_package" / "__init__.py").write_text("from .inner.game import app\n")
    (inner / "__init__.py").touch()
    (inner / "game.py").write_text(
        "from ..names import NAME\nfrom ops_bare.more import MORE\nfrom photinus import App\napp = App(NAME + MORE)\n"
    )
    (folder / "ops_package" / "names.py").write_text("NAME = 'a'\n")
    (bare / "more.py").write_text("MORE = 'b'\n")
    assert Code("ops_package").root == folder
    code = Code("ops_package.inner.game")
    assert code.root == folder
    code.import_app()
    assert set(code.modules()) == {
        "ops_package",
        "ops_package.inner",
        "ops_package.inner.game",
        "ops_package.names",
        "ops_bare",
        "ops_bare.more",
    }
    (folder / "ops_package" / "names.py").write_text("NAME = 'c'\n")
    (bare / "more.py").write_text("MORE = 'd'\n")
    assert afresh(code).name == "cd"


@pytest.mark.parametrize("place", [".hidden", "site-packages", "node_modules", "env", "env/lib/deep"])
def test_other_peoples_code_is_left_alone(folder: Path, place: str) -> None:
    library = folder / place
    library.mkdir(parents=True)
    (library / "ops_library.py").write_text("NAME = 'library'\n")
    (folder / "env").mkdir(exist_ok=True)
    (folder / "env" / "pyvenv.cfg").touch()
    sys.path.insert(0, str(library))
    code = begin(folder, ops_rules="from ops_library import NAME\n")
    assert set(code.modules()) == {"ops_game", "ops_rules"}
    assert not code.owns(str(library / "ops_library.py"))
    library_now = sys.modules["ops_library"]
    afresh(code)
    assert sys.modules["ops_library"] is library_now


def test_what_is_installed_is_its_package_alone(folder: Path) -> None:
    site = folder / "site-packages"
    (site / "ops_installed").mkdir(parents=True)
    (site / "ops_installed" / "__init__.py").write_text("import ops_beside\nfrom photinus import App\napp = App('x')\n")
    (site / "ops_beside.py").touch()
    sys.path.insert(0, str(site))
    code = Code("ops_installed")
    assert code.root == site / "ops_installed"


def test_the_first_import_may_fail(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        begin(folder, ops_rules="1 / 0\n")
    with pytest.raises(AppNotFound, match="no such file"):
        Code("ops_nowhere.py")

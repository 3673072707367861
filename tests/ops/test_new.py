"""`photinus new`, and what it makes: it runs, its test passes, its bot plays."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.ops.development import PATIENCE, Development, developing

if TYPE_CHECKING:
    from pathlib import Path


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # What the developer has set for pytest is not meant for the new game's.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    line = [sys.executable, "-m", *arguments]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def game(tmp_path: Path) -> Path:
    result = command(tmp_path, "photinus", "new", "sea-battle")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "sea-battle: a game in " in lines[0]
    assert [line.split("  ")[2] for line in lines[1:]] == ["cd sea-battle", "photinus dev", "python bot.py", "pytest"]
    return tmp_path / "sea-battle"


def test_its_files(game: Path) -> None:
    files = sorted(str(file.relative_to(game)) for file in game.rglob("*") if file.is_file())
    assert files == ["README.md", "bot.py", "game.py", "pyproject.toml", "tests/test_game.py"]
    project = tomllib.loads((game / "pyproject.toml").read_text())["project"]
    assert project["name"] == "sea-battle"
    assert "photinus" in project["dependencies"]
    for name in files:
        assert "my-game" not in (game / name).read_text()


def test_its_tests_pass(game: Path) -> None:
    result = command(game, "pytest", "-q")
    assert result.returncode == 0, result.stdout
    assert "3 passed" in result.stdout


async def played(game: Path, dev: Development) -> tuple[int | None, str]:
    url = dev.address.partition("?")[0]
    bot = await asyncio.create_subprocess_exec(
        sys.executable, "bot.py", url, cwd=game, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(PATIENCE):
        out, _ = await bot.communicate()
    return bot.returncode, out.decode()


async def test_its_bot_plays_across_a_reload(game: Path) -> None:
    async with developing(game) as dev:
        first, second = asyncio.create_task(played(game, dev)), asyncio.create_task(played(game, dev))
        file = game / "game.py"
        file.write_text(file.read_text().replace("y: float = 0.0", "y: float = 0.0\n    gold: int = 3"))
        await dev.until("reloaded")
        for code, said in (await first, await second):
            assert code == 0, said
            assert "logged in as bot-" in said
            assert "walked 15 steps" in said
        assert await dev.end() == 0


async def test_its_bot_says_that_nobody_is_there(game: Path) -> None:
    async with developing(game) as dev:
        assert await dev.end() == 0
    code, said = await played(game, dev)
    assert code == 1
    assert "is `photinus dev` running?" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["", "3d", "a/b", "../x", "a b", "-x", "x-", ".", "ä", "x" * 65])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    result = command(tmp_path, "photinus", "new", "--", name)
    assert result.returncode == 2
    assert f"photinus: {name!r} cannot be a game's name: expected letters" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken(game: Path) -> None:
    (game / "game.py").write_text("mine\n")
    result = command(game.parent, "photinus", "new", "sea-battle")
    assert result.returncode == 2
    assert "exists already; nothing was written" in result.stderr
    assert (game / "game.py").read_text() == "mine\n"


def test_a_name_is_needed(tmp_path: Path) -> None:
    result = command(tmp_path, "photinus", "new")
    assert result.returncode == 2
    assert "Missing argument 'NAME'" in result.stderr

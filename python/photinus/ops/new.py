"""`photinus new`: a small game that runs, with its test and a bot, copied from `template/`."""

from __future__ import annotations

import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from ..errors import UsageError

# What the game is called in the template's files.
TEMPLATE_NAME = "my-game"


def new_game(name: str, folder: Path) -> Path:
    """Writes a new game into a new folder of its name, in this one; gives the new folder.

    UsageError if the name is none, or is taken.
    """
    if not re.fullmatch(r"[A-Za-z]([A-Za-z0-9_-]{0,62}[A-Za-z0-9])?", name):
        raise UsageError(f"{name!r} cannot be a game's name: expected letters, digits, - and _, and a letter first")
    place = folder / name
    try:
        place.mkdir()
    except FileExistsError:
        raise UsageError(f"{place}: exists already; nothing was written. Take another name, or remove it") from None
    _copy(resources.files(__name__.rpartition(".")[0]) / "template", place, name)
    return place


def _copy(source: Traversable, place: Path, name: str) -> None:
    for entry in source.iterdir():
        if entry.is_file():
            text = entry.read_text("utf-8").replace(TEMPLATE_NAME, name)
            (place / entry.name).write_text(text, "utf-8")
        # Installers compile what they find, and so make a folder of bytecode.
        elif entry.name != "__pycache__":
            (place / entry.name).mkdir()
            _copy(entry, place / entry.name, name)

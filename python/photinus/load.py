"""Finding the application that a command line names."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from msgspec import Struct

from .app import App
from .errors import AppNotFound


class Place(Struct, frozen=True):
    """Where an application is to be imported from."""

    text: str
    """The file, folder or module as it was named."""
    module: str
    attribute: str
    """The name behind the colon, or nothing."""
    root: Path
    """The folder that is first in sys.path for it."""


def load_app(target: str) -> App:
    """The App in a file, a package's folder or a module, optionally followed by `:attribute`.

    AppNotFound says what is missing. What the module itself raises while it is imported passes.
    """
    return import_app(find_app(target))


def find_app(target: str) -> Place:
    """Where this is, without importing it (but for the packages that a module stands in)."""
    text, _, attribute = target.partition(":")
    module, root = _file(Path(text)) if _is_path(text) else _module(text)
    return Place(text, module, attribute, root)


def import_app(place: Place) -> App:
    module = importlib.import_module(place.module)
    if place.attribute:
        return _attribute(module, place.text, place.attribute)
    apps = {name: value for name, value in vars(module).items() if isinstance(value, App)}
    # The same one under two names is one.
    if len({id(app) for app in apps.values()}) == 1:
        return next(iter(apps.values()))
    if not apps:
        raise AppNotFound(f'{place.text}: no App in it: expected something like `app = App("game", routes=[routes])`')
    names = ", ".join(apps)
    raise AppNotFound(f"{place.text}: several Apps in it ({names}): name one, as {place.text}:{next(iter(apps))}")


def _is_path(text: str) -> bool:
    return text.endswith(".py") or "/" in text or (text != "" and Path(text).is_dir())


def _file(path: Path) -> tuple[str, Path]:
    """A file's name in its package, so that relative imports work in it, and where that name counts from."""
    if path.is_dir():
        path /= "__init__.py"
    if not path.is_file():
        raise AppNotFound(f"{path}: no such file")
    path = path.resolve()
    names = [] if path.name == "__init__.py" else [path.stem]
    root = path.parent
    while (root / "__init__.py").is_file():
        names.insert(0, root.name)
        root = root.parent
    _prefer(root)
    return ".".join(names), root


def _module(name: str) -> tuple[str, Path]:
    _prefer(Path.cwd())
    try:
        spec = importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):
        # A parent of it is missing, or it is not a name at all.
        spec = None
    if spec is None:
        raise AppNotFound(f"{name}: no such module, from {Path.cwd()}; a file is named with its .py")
    if spec.origin is None or spec.parent is None:
        return name, Path.cwd()
    file = Path(spec.origin).resolve()
    # One folder up for each name that the file's own package has.
    return name, file.parents[len(spec.parent.split(".")) if spec.parent else 0]


def _attribute(module: ModuleType, place: str, attribute: str) -> App:
    value = getattr(module, attribute, None)
    if value is None:
        raise AppNotFound(f"{place}: no attribute `{attribute}` in it")
    if not isinstance(value, App):
        raise AppNotFound(f"{place}:{attribute}: expected an App, found {type(value).__qualname__}")
    return value


def _prefer(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

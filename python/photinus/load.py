"""Finding the application that a command line names."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from .app import App
from .errors import AppNotFound


def load_app(target: str) -> App:
    """The App in a file, a package's folder or a module, optionally followed by `:attribute`.

    AppNotFound says what is missing. What the module itself raises while it is imported passes.
    """
    place, _, attribute = target.partition(":")
    module = _module_in_path(Path(place)) if _is_path(place) else _module_named(place)
    if attribute:
        return _attribute(module, place, attribute)
    apps = {name: value for name, value in vars(module).items() if isinstance(value, App)}
    # The same one under two names is one.
    if len({id(app) for app in apps.values()}) == 1:
        return next(iter(apps.values()))
    if not apps:
        raise AppNotFound(f'{place}: no App in it: expected something like `app = App("game", routes=[routes])`')
    raise AppNotFound(f"{place}: several Apps in it ({', '.join(apps)}): name one, as {place}:{next(iter(apps))}")


def _is_path(place: str) -> bool:
    return place.endswith(".py") or "/" in place or (place != "" and Path(place).is_dir())


def _module_in_path(path: Path) -> ModuleType:
    """Imports a file under the name it has in its package, so that relative imports work in it."""
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
    return importlib.import_module(".".join(names))


def _module_named(name: str) -> ModuleType:
    _prefer(Path.cwd())
    try:
        found = importlib.util.find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):
        # A parent of it is missing, or it is not a name at all.
        found = False
    if not found:
        raise AppNotFound(f"{name}: no such module, from {Path.cwd()}; a file is named with its .py")
    return importlib.import_module(name)


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

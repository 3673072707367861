"""An application's code, imported afresh after an edit; with the old code kept if that fails."""

from __future__ import annotations

import importlib
import linecache
import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from ..app import App
from ..load import find_app, import_app

# Folders of other people's code, wherever they stand; those that are hidden are left out as well.
FOREIGN_FOLDERS = {"site-packages", "dist-packages", "node_modules", "__pycache__"}
# What runs this very code, and never the game's.
FOREIGN_PACKAGES = {"photinus", "__main__"}


class Code:
    """The modules of one application: all that were imported from the folder that it lies in.

    AppNotFound if nothing is there. `import_app` comes first, then `afresh` as often as one likes.
    """

    def __init__(self, target: str) -> None:
        self._place = find_app(target)
        self.root = self._place.root
        if FOREIGN_FOLDERS & set(self.root.parts):
            # An installed game: what lies beside it is not its own.
            self.root /= self._place.module.partition(".")[0]

    def import_app(self) -> App:
        sys.meta_path.insert(0, _FromSource(self.owns))
        return import_app(self._place)

    @contextmanager
    def afresh(self) -> Generator[App]:
        """The App, from modules that are all imported anew.

        If that fails, or what is then done with the App does, the old modules are brought back and
        the exception passes.
        """
        before = self.modules()
        _forget(before)
        importlib.invalidate_caches()
        linecache.checkcache()
        try:
            yield import_app(self._place)
        except BaseException:
            _forget(self.modules())
            sys.modules.update(before)
            raise

    def modules(self) -> dict[str, ModuleType]:
        """Those that are imported now, by name."""
        return {name: module for name, module in tuple(sys.modules.items()) if self._has(name, module)}

    def files(self) -> set[str]:
        """Of the modules that are imported now."""
        files = (_file_of(module) for module in self.modules().values())
        return {os.path.realpath(file) for file in files if file is not None}

    def owns(self, file: str) -> bool:
        """Whether this is a place for the application's own modules."""
        # Python gives names in angle brackets to code that is in no file.
        path = Path(os.path.realpath(file))
        if file.startswith("<") or not path.is_relative_to(self.root):
            return False
        path = path.relative_to(self.root)
        if any(part in FOREIGN_FOLDERS or part.startswith(".") for part in path.parts):
            return False
        # A virtual environment may have any name; one that is the root itself has the game in it.
        return not any((self.root / parent / "pyvenv.cfg").exists() for parent in path.parents if parent.name)

    def _has(self, name: str, module: ModuleType) -> bool:
        if name.partition(".")[0] in FOREIGN_PACKAGES:
            return False
        file = _file_of(module)
        if file is not None:
            # Compiled modules cannot be loaded twice.
            return file.endswith(".py") and self.owns(file)
        # A package without an __init__.py.
        return any(self.owns(folder) for folder in getattr(module, "__path__", ()))


class _FromSource(MetaPathFinder):
    """Has the application's modules compiled from their source whenever they are imported.

    Python tells by a file's time in whole seconds and by its length whether the bytecode in
    __pycache__ is still that of the source: two saves in one second may look the same.
    """

    def __init__(self, is_own: Callable[[str], bool]) -> None:
        self._is_own = is_own

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or type(spec.loader) is not SourceFileLoader or not self._is_own(spec.loader.path):
            return None
        spec.loader = _SourceLoader(spec.loader.name, spec.loader.path)
        return spec


class _SourceLoader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _file_of(module: ModuleType) -> str | None:
    file = getattr(module, "__file__", None)
    return file if isinstance(file, str) else None


def _forget(modules: dict[str, ModuleType]) -> None:
    for name in modules:
        del sys.modules[name]

"""`photinus dev`: watches an application's files, reloads it when one is saved, and says what came of it."""

from __future__ import annotations

import ast
import inspect
import logging
import os
import time
import traceback
from pathlib import Path
from types import CodeType, TracebackType

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.traceback import Traceback
from watchfiles import Change, awatch  # pyright: ignore[reportUnknownVariableType]

from ..app import App
from ..errors import AppNotFound, UsageError
from ..node import Node
from ..routes import Route, Table
from .playground import Playground, Reload
from .reload import Code
from .renew import Renewal

# An editor may write a file in several steps: it is taken when nothing has changed for so long, or
# after so long at most.
QUIET_MS = 20
LONGEST_QUIET_MS = 400

# What an application is looked for in first, when none is named.
USUAL_FILES = ("game.py", "app.py")

_log = logging.getLogger("photinus")


def the_app_here(folder: Path) -> str:
    """The file in this folder that holds an App, without running any; AppNotFound if that is not one."""
    for name in USUAL_FILES:
        if (folder / name).is_file():
            return name
    found = sorted(file.name for file in folder.glob("*.py") if _makes_an_app(file))
    if len(found) == 1:
        return found[0]
    usual = " and no ".join(USUAL_FILES)
    if found:
        raise AppNotFound(f"{folder}: no {usual}, but several files with an App ({', '.join(found)}): name one")
    raise AppNotFound(f"{folder}: no {usual}, and no other file with an App: name one, or make one: photinus new NAME")


class Development:
    """An application that is worked on while one node runs it. AppNotFound if there is none.

    The playground, if there is one, is told of each reload.
    """

    def __init__(self, target: str, console: Console, playground: Playground | None = None) -> None:
        self._target = target
        self._console = console
        self._playground = playground
        self._code = Code(target)
        self._failed = False
        self._files: set[str] = set()
        # It would tell of every file that it has seen.
        logging.getLogger("watchfiles").setLevel(logging.WARNING)

    def first_app(self) -> App | None:
        """What the node is to begin with; None if it cannot be imported, and why has been shown.

        UsageError if it is imported and is no application.
        """
        try:
            app = self._code.import_app()
        except UsageError:
            raise
        except Exception as error:  # noqa: BLE001 - it is shown
            self._show(error)
            return None
        self._files = self._code.files()
        return app

    @property
    def root(self) -> Path:
        """The folder that the application's code is in."""
        return self._code.root

    async def watch(self, node: Node) -> None:
        """Reloads the node's application whenever a file of it is saved; until cancelled.

        OSError if the system cannot watch so many folders. From its first step on nothing is missed.
        """
        changes = awatch(
            self._code.root,
            watch_filter=self._is_of_interest,
            debounce=LONGEST_QUIET_MS,
            step=QUIET_MS,
        )
        async for changed in changes:
            if files := self._files_that_count(changed):
                await self._reload(node, ", ".join(sorted(files)))

    def show_banner(self, node: Node) -> None:
        table = node.app.table()
        self._say(f"{node.app.name}: {len(table.routes) + (table.default is not None)} routes; Ctrl-C ends it", "bold")
        self._say(f"  edit    a file in {self._code.root}: when it is saved, the players go on with the new code")
        if (self._code.root / "bot.py").is_file() and node.addresses:
            self._say(f"  play    python bot.py {node.addresses[0].partition('?')[0]}")
        if any(self._code.root.glob("tests/test_*.py")):
            self._say("  test    pytest")
        if self._playground is not None:
            self._say(f"  try     {self._playground.url} has every route as a form, and shows what comes")
        self._say(f"  look    photinus routes {self._target}")

    def _is_of_interest(self, kind: Change, file: str) -> bool:
        # What is in a new folder before it is watched has no event of its own.
        is_code = file.endswith(".py") or (kind is Change.added and Path(file).is_dir())
        return is_code and self._code.owns(file)

    def _files_that_count(self, changed: set[tuple[Change, str]]) -> set[str]:
        """A file that only a test or a bot uses is none of the game's. One that is new, or any after an
        error, may be what was missing."""
        return {
            Path(file).name
            for kind, file in changed
            if self._failed or kind is Change.added or os.path.realpath(file) in self._files
        }

    async def _reload(self, node: Node, changed: str) -> None:
        began = time.perf_counter()
        before = node.app.table()
        former = self._code.modules()
        try:
            with self._code.afresh() as app:
                await node.replace(app, renew=Renewal({*former, *self._code.modules()}))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is shown, and the old code goes on
            self._failed = True
            node.reload_errors += 1
            said = f"not reloaded, the old code goes on: {changed}"
            self._say(said, "bold red")
            self._show(error)
            _log.error("reload failed, the old code goes on: %s: %s", type(error).__name__, error)
            self._tell(Reload("failed", said, error=self._text(error)))
            return
        self._failed = False
        self._files = self._code.files()
        took = (time.perf_counter() - began) * 1000
        kept = len(node.engine.sessions())
        after = app.table()
        said = f"reloaded in {took:.0f} ms: {changed}; {differences(before, after)}; {kept} sessions"
        self._say(said, "green")
        what = _changes(before, after)
        self._tell(Reload("reloaded", said, what["added"], what["removed"], what["changed"]))

    def _tell(self, reload: Reload) -> None:
        if self._playground is not None:
            self._playground.tell(reload)

    def _show(self, error: BaseException) -> None:
        """An exception with those parts of its traceback that are the game's own."""
        if self._console.is_terminal:
            self._console.print(Traceback.from_exception(type(error), error, self._own_trace(error)))
        else:
            self._say(self._text(error))

    def _text(self, error: BaseException) -> str:
        """The same as text."""
        return "".join(traceback.format_exception(type(error), error, self._own_trace(error))).rstrip()

    def _own_trace(self, error: BaseException) -> TracebackType | None:
        parts: list[TracebackType] = []
        trace = error.__traceback__
        while trace is not None:
            parts.append(trace)
            trace = trace.tb_next
        for part in reversed(parts):
            if self._code.owns(part.tb_frame.f_code.co_filename):
                trace = TracebackType(trace, part.tb_frame, part.tb_lasti, part.tb_lineno)
        return trace

    def _say(self, line: str, style: str | None = None) -> None:
        """`style` shows on a terminal only."""
        self._console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def differences(before: Table, after: Table) -> str:
    """What became of the routes, in words."""
    changes = _changes(before, after).items()
    return "; ".join(f"{what} {', '.join(names)}" for what, names in changes if names) or "same routes"


def _changes(before: Table, after: Table) -> dict[str, list[str]]:
    old, new = _handlers(before), _handlers(after)
    return {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "changed": sorted(name for name in old.keys() & new.keys() if old[name] != new[name]),
    }


def _handlers(table: Table) -> dict[str, object]:
    """What each handler is, as far as two of them can be compared."""
    routes = {str(key): route for key, route in table.routes.items()}
    routes |= {} if table.default is None else {"(default)": table.default}
    for what, several in (("opened", table.opened), ("closed", table.closed)):
        # Each of an App's Routes may have one.
        routes |= {f"({what} {number})": route for number, route in enumerate(several, 1)}
    return {name: _shown(route) for name, route in routes.items()}


def _shown(route: Route) -> object:
    code = getattr(inspect.unwrap(route.handler), "__code__", None)
    message = route.shape.message
    fields = None
    if isinstance(message, type) and issubclass(message, Struct):
        fields = [(field.name, repr(field.type), field.required) for field in msgspec.structs.fields(message)]
    access = route.public, route.roles, route.rate
    return access, fields, _instructions(code) if isinstance(code, CodeType) else None


def _instructions(code: CodeType) -> object:
    """A code object without the lines that it stands in, which any edit above it moves."""
    constants = [_instructions(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return code.co_code, code.co_names, code.co_varnames, constants


def _makes_an_app(file: Path) -> bool:
    try:
        body = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError):
        return False
    calls = (each.value for each in body if isinstance(each, ast.Assign | ast.AnnAssign))
    names = (ast.unparse(call.func) for call in calls if isinstance(call, ast.Call))
    return any(name.rpartition(".")[2] == "App" for name in names)

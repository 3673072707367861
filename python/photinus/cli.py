"""The command line: `photinus new`, `dev`, `run`, `routes`.

Exit codes: 0 fine, 2 wrong use or configuration, 1 a failure while running.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from . import __version__
from .app import App
from .cluster.table import check_safe, check_table, roles
from .config import ROLES, Config, Role, load
from .errors import UsageError
from .load import load_app
from .node import Node
from .node import run as run_node
from .ops.new import new_game
from .routes import Route

if TYPE_CHECKING:
    from .ops.dev import Development
    from .ops.playground import Playground

# More processes than this on one machine is a mistake in the number.
MOST_NODES = 64
# Where clients find a node that was told nothing: this machine's own, and nobody else's.
DEFAULT_LISTENER = "tcp://127.0.0.1:7000"

APP = click.argument("target", metavar="APP")
CONFIG = click.option(
    "--config", "config_file", type=click.Path(path_type=Path), metavar="FILE", help="TOML configuration."
)
LISTEN = click.option(
    "--listen",
    multiple=True,
    metavar="URL",
    help="Where clients connect, such as 'tcp://0.0.0.0:7000' or 'wss://0.0.0.0:7443'. Repeatable; replaces the "
    f"configuration's listeners. {DEFAULT_LISTENER} if there are none.",
)
NODE = click.option(
    "--node",
    "name",
    metavar="NAME",
    help="The node's name, one of the configuration's table if that has one; the application's if none is given.",
)
ROLE = click.option(
    "--role",
    metavar="proxy,world",
    help="What the node does: hold clients, run the game, or both, which is what it does if it is told nothing.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="photinus")
def main() -> None:
    """Photinus runs the server side of a massively multiplayer game.

    APP is a Python file, a package's folder or a module that holds an App; with several in it, the
    one that is meant is named behind a colon (game.py:app).
    """


@main.command()
@click.argument("name", metavar="NAME")
def new(name: str) -> None:
    """Make a small game in a new folder NAME, with its test and a bot."""
    with _explained():
        folder = new_game(name, Path.cwd())
    click.echo(f"{name}: a game in {folder / 'game.py'}, with its test and a bot. Next:")
    click.echo(f"    cd {name}")
    click.echo("    photinus dev      # serves it, and reloads it when a file is saved")
    click.echo("    python bot.py     # in another terminal: plays on it")
    click.echo("    pytest            # runs its test (pip install pytest)")


@main.command()
@click.argument("target", metavar="[APP]", required=False)
@CONFIG
@LISTEN
@NODE
@click.option(
    "--playground",
    "port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Where the playground's page is; 7080, or a free one if that is taken, unless told.",
)
@click.option("--no-playground", is_flag=True, help="No page, and no listener for it.")
@click.option(
    "--nodes",
    type=click.IntRange(1, MOST_NODES),
    metavar="N",
    help="A proxy and N world nodes, each a process of its own, on loopback; without the playground.",
)
def dev(
    target: str | None,
    config_file: Path | None,
    listen: tuple[str, ...],
    name: str | None,
    port: int | None,
    no_playground: bool,
    nodes: int | None,
) -> None:
    """Run one node of APP, or a small cluster, and reload it when a file is saved.

    Without APP it is game.py, app.py or the only file with an App in this folder. Everything that
    is imported from APP's folder is reloaded. Players stay connected, logged in and in their
    groups, and keep session.data; code that cannot be loaded is shown, and the old goes on. The rest
    is as with `photinus run`.

    The playground is a page for this machine's own browser: each route as a form, and what comes back.

    Where the system does not tell of saves (folders of another machine, or of a container's host),
    WATCHFILES_FORCE_POLLING=1 in the environment looks for them three times a second.
    """
    # Not needed by a node that serves players.
    from .ops.dev import Development, the_app_here
    from .ops.nodes import run_nodes
    from .ops.playground import Playground

    _log_to_stderr()
    if no_playground and port is not None:
        raise click.UsageError("--playground and --no-playground: which of the two?")
    with _explained():
        config = _configure(config_file, listen, name)
        target = target or the_app_here(Path.cwd())
        if nodes is not None:
            if name is not None or port is not None:
                raise click.UsageError("--nodes: the nodes have names of their own, and no playground.")
            sys.exit(run_nodes(target, nodes, config, config_file))
        with ExitStack() as stack:
            playground = None if no_playground else stack.enter_context(closing(Playground(port)))
            development = Development(target, Console(), playground)
            app = development.first_app()
            if app is None:
                sys.exit(1)
            _serve(app, config, development, playground)


@main.command()
@click.argument("target", metavar="[APP]", required=False)
@CONFIG
@LISTEN
@NODE
@ROLE
def run(
    target: str | None, config_file: Path | None, listen: tuple[str, ...], name: str | None, role: str | None
) -> None:
    """Run one node of APP.

    A node that is a proxy and nothing else needs no APP, and loads none of its code.

    Prints a line for each listener and then one that begins with `ready`. SIGTERM or Ctrl-C lets
    clients know, finishes what was begun, and exits 0; a second one stops at once. Settings in the
    environment (PHOTINUS_SECTION__KEY) win over the file.
    """
    _log_to_stderr()
    with _explained():
        config = _configure(config_file, listen, name, role)
        check_safe(config)
        does = roles(config)
        if "world" not in does:
            _serve(App(config.node.name or "proxy"), config)
            return
        if target is None:
            raise click.UsageError("Missing argument 'APP': only a node that is a proxy and nothing else needs none.")
        _serve(load_app(target), config)


@main.command()
@APP
def routes(target: str) -> None:
    """Show the routes of APP: name, number, who may call, the message's type, where it is handled, how often."""
    with _explained():
        app = load_app(target)
        found = app.table()
    table = Table("route", "number", "who may call", "message", "handled at")
    shown = [*found.routes.values(), *([found.default] if found.default else [])]
    if any(route.rate for route in shown):
        table.add_column("at most")
    for route in shown:
        table.add_row(*_row(route))
    for name, each in app.callees.items():
        for key, handling in each.__photinus__.handlers.items():
            table.add_row(*_row(Route(key, getattr(each, handling.name), handling.shape), f"attached to {name}"))
    # What is read by a program, or copied, must not be cut to a screen's width.
    console = Console() if sys.stdout.isatty() else Console(width=250)
    console.print(table)


def _configure(file: Path | None, listen: tuple[str, ...], name: str | None, role: str | None = None) -> Config:
    config = load(file)
    node = msgspec.structs.replace(config.node, name=name or config.node.name)
    if role is not None:
        node = msgspec.structs.replace(node, roles=_roles(role))
    config = msgspec.structs.replace(config, node=node)
    check_table(config)
    if "proxy" in roles(config):
        node = msgspec.structs.replace(node, listen=listen or node.listen or (DEFAULT_LISTENER,))
    elif listen:
        raise click.UsageError("--listen: this node is no proxy, so no client can connect to it.")
    else:
        # The file may be that of all nodes.
        node = msgspec.structs.replace(node, listen=())
    return msgspec.structs.replace(config, node=node)


def _roles(text: str) -> tuple[Role, ...]:
    given = {word.strip() for word in text.split(",")}
    if not given or not given <= set(ROLES):
        raise click.UsageError(f"--role: expected proxy, world or proxy,world, got {text}")
    return tuple(role for role in ROLES if role in given)


def _serve(
    app: App, config: Config, development: Development | None = None, playground: Playground | None = None
) -> None:
    clients = config.node.listen

    async def serve(node: Node) -> None:
        stop = asyncio.Event()
        _on_signals(asyncio.get_running_loop(), stop.set)
        work: list[asyncio.Task[Any]] = [asyncio.create_task(stop.wait())]
        if development is not None:
            work.append(asyncio.create_task(development.watch(node)))
            # What is saved after the first lines have been read must be seen.
            await asyncio.sleep(0)
        for address in node.addresses[: len(clients)]:
            click.echo(f"listening on {address}")
        what = f"runs {app.name}" if "world" in node.roles else f"is a proxy of {config.cluster.name}"
        click.echo(f"ready: {node.name} {what} (process {os.getpid()})")
        if development is not None:
            development.show_banner(node)
            if playground is not None:
                # Its port is taken already: a page that comes early waits.
                await playground.start(node, node.addresses[-1], development.root)
        ended, others = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        click.echo("stopping")
        for task in others:
            task.cancel()
        await asyncio.gather(*ended)

    run_node(app, serve, listen=clients if playground is None else (*clients, playground.listener), config=config)


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def _on_signals(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    """The first SIGTERM or SIGINT calls `stop` on the loop, the second ends the process.

    Not loop.add_signal_handler: with a handler of the game stuck, the loop would never get to the
    second one.
    """
    asked = False

    def on_signal(_number: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            os._exit(1)
        asked = True
        loop.call_soon_threadsafe(stop)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)


@contextmanager
def _explained() -> Generator[None]:
    """What the user can mend is one line on stderr and an exit code, not a traceback."""
    try:
        yield
    except (UsageError, OSError) as error:
        if getattr(error, "__notes__", None):
            # The application's own code raised it, and the note says where: that is for a developer.
            raise
        if isinstance(error, UsageError):
            click.echo(f"photinus: {error}", err=True)
            sys.exit(2)
        click.echo(f"photinus: {error.filename or 'failed'}: {error.strerror or error}", err=True)
        sys.exit(1)


def _row(route: Route, who: str | None = None) -> list[str]:
    number = str(route.key) if isinstance(route.key, int) else ""
    name = route.key if isinstance(route.key, str) else "" if number else "(default)"
    message = "" if route.shape.message is None else route.shape.message.__qualname__
    who = who or ", ".join(sorted(route.roles)) or ("anyone" if route.public else "logged in")
    row = [name, number, who, message, route.shape.place]
    if route.rate is not None:
        row.append(f"{route.rate.count:g} in {route.rate.per:g} s, {route.rate.tokens} at once")
    return row

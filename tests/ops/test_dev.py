"""`photinus dev` as it is used: real processes, files that are saved, players over sockets."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import signal
import struct
import subprocess
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
import pytest
from rich.console import Console

from photinus import Node
from photinus.client import Client, connect
from photinus.errors import Refused
from photinus.ops.dev import Development, differences
from photinus.ops.reload import Code
from tests.ops.development import PATIENCE, developing

if TYPE_CHECKING:
    from pathlib import Path

GAME = """\
from msgspec import Struct

from photinus import App, Group, Routes, Session


class Login(Struct):
    name: str


class Say(Struct):
    text: str


class Hero(Struct):
    name: str
    gold: int = 5


lobby, routes = Group("lobby"), Routes()


@routes.on("login", public=True)
async def login(session: Session[Hero], msg: Login) -> Hero:
    await session.login(msg.name)
    session.data = Hero(msg.name)
    lobby.add(session)
    return session.data


@routes.on("look")
def look(session: Session[Hero], msg: Login) -> Hero:
    assert isinstance(session.data, Hero)
    return session.data


@routes.on("say")
def say(session: Session[Hero], msg: Say) -> Say:
    lobby.send("said", msg, but=session)
    return Say("old " + msg.text)


app = App("game", routes=[routes])
"""


class Game:
    """game.py, and the edits that are made in it."""

    def __init__(self, folder: Path, text: str = GAME) -> None:
        self.file = folder / "game.py"
        self.file.write_text(text)

    def edit(self, *changes: tuple[str, str]) -> None:
        text = self.file.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        # At once, as editors do it.
        other = self.file.with_name("game.py.saved")
        other.write_text(text)
        other.rename(self.file)


async def request(client: Client, route: str, **fields: object) -> dict[str, object]:
    body = await client.request(route, msgspec.msgpack.encode(fields), timeout=PATIENCE)
    return msgspec.msgpack.decode(body, type=dict[str, object])


async def test_edits_while_somebody_plays(tmp_path: Path) -> None:
    game = Game(tmp_path)
    async with developing(tmp_path) as dev, connect(dev.address) as ann, connect(dev.address) as bob:
        assert await request(ann, "login", name="Ann") == {"name": "Ann", "gold": 5}
        await request(bob, "login", name="Bob")
        said = bob.subscribe("said")

        # A handler, twice within a second and without a change of length.
        for word in ("new", "odd"):
            game.edit(('"old ', f'"{word} ') if word == "new" else ('"new ', '"odd '))
            line = await dev.until("reloaded")
            assert "game.py; changed say; 2 sessions" in line
            assert await request(ann, "say", text="hello") == {"text": f"{word} hello"}
            assert msgspec.msgpack.decode(await anext(said)) == {"text": "hello"}

        # A route comes, another goes.
        with pytest.raises(Refused, match="unknown-route"):
            await request(ann, "wave")
        game.edit(('@routes.on("say")', '@routes.on("wave")'))
        assert "added wave; removed say" in await dev.until("reloaded")
        assert await request(ann, "wave", text="x") == {"text": "odd x"}
        with pytest.raises(Refused, match="unknown-route"):
            await request(ann, "say", text="x")

        # The Struct of a message.
        game.edit(
            ("    text: str\n", "    text: str\n    loud: bool = False\n"), ("+ msg.text)", "+ msg.text, msg.loud)")
        )
        assert "changed wave" in await dev.until("reloaded")
        assert await request(ann, "wave", text="x", loud=True) == {"text": "odd x", "loud": True}

        # The Struct of session.data, with a default; the class is that of now.
        game.edit(("    gold: int = 5\n", "    gold: int = 5\n    level: int = 1\n"))
        await dev.until("reloaded")
        assert await request(ann, "look", name="") == {"name": "Ann", "gold": 5, "level": 1}
        assert await dev.end() == 0


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("app = App(", "app = = App("), "SyntaxError: "),
        (("lobby, routes", "import nowhere\nlobby, routes"), "ModuleNotFoundError: No module named 'nowhere'"),
        (("lobby, routes", "print(1 / 0)\nlobby, routes"), "ZeroDivisionError: "),
        (("lobby, routes", "raise SystemExit(4)\nlobby, routes"), "SystemExit: 4"),
        (("msg: Say", "msg: int"), "photinus.errors.RouteError: on('say') at "),
        (
            ("    gold: int = 5", "    gold: int\n    level: int"),
            "photinus.errors.ReloadError: session.data: game.Hero.level",
        ),
        (
            ("    name: str\n    gold", "    name: int\n    gold"),
            "photinus.errors.ReloadError: session.data: game.Hero.name",
        ),
        (("app = App(", "other = App("), ""),
    ],
)
async def test_what_cannot_be_loaded(tmp_path: Path, change: tuple[str, str], problem: str) -> None:
    game = Game(tmp_path)
    async with developing(tmp_path, "game.py:app") as dev, connect(dev.address) as ann:
        await request(ann, "login", name="Ann")
        await request(ann, "say", text="x")
        game.edit(change)
        await dev.until("not reloaded, the old code goes on: game.py")
        shown = len(dev.lines)
        if problem:
            await dev.until(problem)
        # It is in the log as well, and only the game's own part of the traceback is shown.
        while "ERROR photinus: reload failed, the old code goes on: " not in await dev.until(""):
            pass
        assert not [line for line in dev.lines[shown:] if "importlib" in line or "photinus/ops" in line]
        assert await request(ann, "say", text="x") == {"text": "old x"}
        assert await request(ann, "look", name="") == {"name": "Ann", "gold": 5}
        # The next edit mends it.
        game.edit((change[1], change[0]), ('"old ', '"new '))
        await dev.until("reloaded")
        assert await request(ann, "say", text="x") == {"text": "new x"}


async def test_a_module_that_was_missing(tmp_path: Path) -> None:
    game = Game(tmp_path)
    (tmp_path / "bot.py").write_text("")
    async with developing(tmp_path) as dev:
        game.edit(("lobby, routes", "import rules.words\nlobby, routes"), ('"old "', "rules.words.WORD"))
        await dev.until("not reloaded")
        words = tmp_path / "rules" / "words.py"
        words.parent.mkdir()
        words.write_text("WORD = 'ruled '\n")
        await dev.until("reloaded")
        async with connect(dev.address) as ann:
            await request(ann, "login", name="Ann")
            assert await request(ann, "say", text="x") == {"text": "ruled x"}
            # A file that the game does not use is saved, then one that it does.
            (tmp_path / "bot.py").write_text("x = 1\n")
            words.write_text("WORD = 'again '\n")
            while await request(ann, "say", text="x") != {"text": "again x"}:
                assert "words.py; same routes" in await dev.until("reloaded")
    assert not [line for line in dev.lines if "reloaded" in line and "bot.py" in line]


PLAYERS = 500
EDITS = 4

COUNTING = """\
import asyncio
from msgspec import Struct
from photinus import App, Routes, Session

class Count(Struct):
    number: int

class Player(Struct):
    last: int = -1
    # fields

EDIT = 0
routes = Routes()

# routes
@routes.on("count", public=True)
def count(session: Session[Player], msg: Count) -> Count:
    if session.data is None:
        session.data = Player()
    assert isinstance(session.data, Player)
    assert msg.number == session.data.last + 1, (msg.number, session.data.last)
    session.data.last = msg.number
    return msg

@routes.on("slowly", public=True)
async def slowly(session: Session[Player], msg: Count) -> Count:
    data = session.data
    await asyncio.sleep(0.05)
    assert msg.number == data.last + 1, (msg.number, data.last)
    data.last = msg.number
    return msg

@routes.on("look", public=True)
def look(session: Session[Player], msg: Count) -> Player:
    return session.data

@routes.default
async def plain(session: Session[Player], body: bytes) -> bytes:
    number = int.from_bytes(body, "big")
    if number % 20 == 10:
        await asyncio.sleep(0.05)
    count(session, Count(number))
    return body

app = App("counting", routes=[routes])
"""

# What was under an index once must never be handled by this.
WRONG = """\
@routes.on("wrong{edit}", public=True)
def wrong{edit}(session: Session, body: bytes) -> bytes:
    raise AssertionError("another route's packet")

# routes
"""


@pytest.mark.parametrize("threads", ["0", "2"])
async def test_500_players_lose_nothing(tmp_path: Path, threads: str) -> None:
    """Each sends numbered requests all the while, some of them to a handler that suspends; the game
    itself checks that each comes once and in order, by what it keeps in session.data."""
    game = Game(tmp_path, COUNTING)
    begun, ended = asyncio.Barrier(PLAYERS + 1), asyncio.Event()

    async def play(client: Client) -> int:
        number = 0
        while not ended.is_set():
            # Two at once: the second waits behind the first, in a mailbox if that suspends.
            route = "slowly" if number % 20 == 10 else "count"
            first = asyncio.create_task(request(client, route, number=number))
            second = asyncio.create_task(request(client, "count", number=number + 1))
            assert (await first)["number"] == number
            assert (await second)["number"] == number + 1
            number += 2
            await (begun.wait() if number == 2 else asyncio.sleep(0.05))
        return number

    async def play_plainly(host: str, port: int) -> int:
        """Without requests' ids: an answer that came twice would stand in the place of the next."""
        reader, writer = await asyncio.open_connection(host, port)
        number = 0
        while not ended.is_set():
            for each in (number, number + 1):
                writer.write(struct.pack(">IQ", 8, each))
            for each in (number, number + 1):
                assert struct.unpack(">IQ", await reader.readexactly(12)) == (8, each)
            number += 2
            await (begun.wait() if number == 2 else asyncio.sleep(0.05))
        writer.close()
        await writer.wait_closed()
        return number

    plain = ("--listen", "tcp://127.0.0.1:0?protocol=length4")
    async with developing(tmp_path, *plain, PHOTINUS_ENGINE__THREADS=threads) as dev, AsyncExitStack() as stack:
        url, plain_url = dev.address, urlsplit(dev.addresses[0])
        clients = [await stack.enter_async_context(connect(url, timeout=PATIENCE)) for _ in range(PLAYERS // 2)]
        players = [asyncio.create_task(play(client)) for client in clients]
        place = plain_url.hostname or "", plain_url.port or 0
        players += [asyncio.create_task(play_plainly(*place)) for _ in range(PLAYERS // 2)]
        await begun.wait()
        for edit in range(EDITS):
            game.edit(
                (f"EDIT = {edit}", f"EDIT = {edit + 1}"),
                ("    # fields", f"    more{edit}: int = 0\n    # fields"),
                ("# routes\n", WRONG.format(edit=edit)),
            )
            assert f"added wrong{edit}; {PLAYERS} sessions" in await dev.until("reloaded")
            game.edit(("app = App", "app = = App"))
            await dev.until("not reloaded")
            game.edit(("app = = App", "app = App"))
            await dev.until("reloaded")
        ended.set()
        async with asyncio.timeout(PATIENCE):
            numbers = await asyncio.gather(*players)
        assert min(numbers) > 0
        for client, number in zip(clients, numbers[: len(clients)], strict=True):
            more = {f"more{edit}": 0 for edit in range(EDITS)}
            assert await request(client, "look", number=0) == {"last": number - 1, **more}
        assert await dev.end() == 0


async def test_the_banner(tmp_path: Path) -> None:
    Game(tmp_path)
    (tmp_path / "bot.py").write_text("")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_game.py").write_text("")
    async with developing(tmp_path, "--no-playground") as dev:
        await dev.until("  look")
        url = dev.address.partition("?")[0]
        shown = dev.lines[dev.lines.index("game: 3 routes; Ctrl-C ends it") :]
        assert shown == [
            "game: 3 routes; Ctrl-C ends it",
            f"  edit    a file in {tmp_path}: when it is saved, the players go on with the new code",
            f"  play    python bot.py {url}",
            "  test    pytest",
            "  look    photinus routes game.py",
        ]
        assert await dev.end() == 0
        assert not (tmp_path / "__pycache__").exists()


async def test_a_stuck_game_ends_at_the_second_signal(tmp_path: Path) -> None:
    Game(
        tmp_path,
        GAME + "\ndef forever():\n    print('stuck', flush=True)\n    while True: pass\napp.after(0, forever)\n",
    )
    async with developing(tmp_path) as dev:
        await dev.until("stuck")
        ended = asyncio.create_task(dev.process.wait())
        # Two signals that come together are one.
        for _ in range(40):
            dev.process.send_signal(signal.SIGTERM)
            await asyncio.wait([ended], timeout=0.5)
            if ended.done():
                break
        assert await ended == 1


async def test_reloads_are_counted(folder: Path) -> None:
    game = Game(folder)
    out = io.StringIO()
    development = Development("game.py", Console(file=out))
    app = development.first_app()
    assert app is not None
    async with Node(app, listen=()) as node:
        watching = asyncio.create_task(development.watch(node))
        await asyncio.sleep(0)

        async def counted(**expected: int) -> None:
            async with asyncio.timeout(PATIENCE):
                # It has no event of its own.
                while {name: node.statistics()["app"][name] for name in expected} != expected:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

        await counted(reloads=0, reload_errors=0)
        game.edit(("gold: int = 5", "gold: int = 6"))
        await counted(reloads=1, reload_errors=0)
        game.edit(("gold: int = 6", "gold: int = six"))
        await counted(reloads=1, reload_errors=1)
        assert node.app is not app
        watching.cancel()
    assert "game.py; same routes; 0 sessions" in out.getvalue()
    assert "NameError: name 'six' is not defined" in out.getvalue()


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("old ", "new "), "changed say"),
        (("# comment", "# comment\n# of two lines"), "same routes"),
        (("-> Say:", "-> Say | None:"), "same routes"),
        (('@routes.on("look")', '@routes.on("look", public=True)'), "changed look"),
        (("    text: str", "    text: str = ''"), "changed say"),
        (("    text: str", "    text: bytes"), "changed say"),
        (("app = App", "@routes.opened\ndef hello(session: Session) -> None: ...\napp = App"), "added (opened 1)"),
        (('@routes.on("look")', "@routes.default"), "added (default); removed look"),
        (('@routes.on("look")', '@routes.on("see")\n@routes.on(7)'), "added 7, see; removed look"),
    ],
)
def test_differences(folder: Path, edit: tuple[str, str], said: str) -> None:
    game = Game(folder, "# comment\n" + GAME)
    code = Code("game.py")
    before = code.import_app().table()
    game.edit(edit)
    with code.afresh() as app:
        assert differences(before, app.table()) == said


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "photinus", "dev", *arguments]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, "no game.py and no app.py, and no other file with an App: name one, or make one: photinus new NAME"),
        ({"one.py": GAME, "two.py": GAME}, "several files with an App (one.py, two.py): name one"),
        ({"game.py": "x = 3\n"}, "game.py: no App in it"),
        ({"odd.py": "app = = App()", "number.py": "app = 3"}, "no other file with an App"),
    ],
)
def test_no_app_to_be_found(tmp_path: Path, files: dict[str, str], problem: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    result = command(tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("photinus: ")
    assert problem in result.stderr
    assert "Traceback" not in result.stderr


async def test_the_only_file_with_an_app(tmp_path: Path) -> None:
    (tmp_path / "arena.py").write_text(
        GAME.replace("from photinus import App,", "import photinus as p\nfrom photinus import").replace(
            "App(", "p.App("
        )
    )
    (tmp_path / "bot.py").write_text("print('not run')\n")
    async with developing(tmp_path) as dev:
        await dev.until("  look    photinus routes arena.py")


def test_a_game_that_is_broken_from_the_start(tmp_path: Path) -> None:
    (tmp_path / "game.py").write_text("def f():\n    return 1 / 0\nf()\n")
    result = command(tmp_path)
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert [line for line in lines if "File" in line] == [
        f'  File "{tmp_path}/game.py", line 3, in <module>',
        f'  File "{tmp_path}/game.py", line 2, in f',
    ]


def test_an_error_on_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "game.py").write_text("def f():\n    return 1 / 0\nf()\n")
    mine, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "photinus", "dev"],
        cwd=tmp_path,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(mine, 4096):
                shown += data
        except OSError:
            pass  # how the end of a terminal shows on Linux
        os.close(mine)
        assert process.wait(30) == 1
    assert b"ZeroDivisionError" in shown
    assert b"\x1b[" in shown
    assert b"importlib" not in shown

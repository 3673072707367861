"""The command line as it is called: in processes of its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import photinus
from photinus.client import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
ECHO = str(ROOT / "examples" / "echo.py")
LOOPBACK = "tcp://127.0.0.1:0?protocol=pomelo"


def photinus_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "photinus", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


class Running:
    """`photinus run` in a process, up to its `ready` line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.lines: list[str] = []
        for line in process.stdout:
            self.lines.append(line.strip())
            if line.startswith("ready"):
                break

    @property
    def addresses(self) -> list[str]:
        return [line.removeprefix("listening on ") for line in self.lines[:-1]]

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)


@contextmanager
def running(*arguments: str, **environment: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "photinus", "run", *arguments]
    env = {**os.environ, **environment}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Running(process)
        finally:
            process.kill()


async def echo(address: str, body: bytes) -> bytes:
    async with connect(address) as client:
        return await client.request("echo", body)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run(number: signal.Signals) -> None:
    with running(ECHO, "--listen", LOOPBACK, "--listen", "tcp://[::1]:0?protocol=length4", "--node", "north") as node:
        assert re.fullmatch(r"tcp://127\.0\.0\.1:[1-9]\d*\?protocol=pomelo", node.addresses[0])
        assert re.fullmatch(r"tcp://\[::1\]:[1-9]\d*\?protocol=length4", node.addresses[1])
        assert re.fullmatch(r"ready: north runs echo .*", node.lines[-1])
        assert asyncio.run(echo(node.addresses[0], b"hello")) == b"hello"
        assert node.end(number) == 0


def test_clients_are_told_of_the_end() -> None:
    async def play(node: Running) -> str:
        async with connect(node.addresses[0]) as client:
            pushes = client.subscribe("pushed")
            node.process.send_signal(signal.SIGTERM)
            try:
                await anext(pushes)
            except photinus.errors.Kicked as kicked:
                return kicked.reason
        return ""

    with running(ECHO, "--listen", LOOPBACK) as node:
        assert asyncio.run(play(node)) == "shutdown"
        assert node.process.wait(10) == 0


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(
        """
from photinus import App
app = App("stuck")

def forever():
    print("stuck", flush=True)
    while True:
        pass

app.after(0, forever)
"""
    )
    with running(str(tmp_path / "stuck.py"), "--listen", LOOPBACK) as node:
        assert node.process.stdout is not None
        assert node.process.stdout.readline() == "stuck\n"
        node.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            node.process.wait(0.3)
        # On a busy machine the second may reach it before it has looked at the first, and is then lost
        # in it: Linux keeps one of a kind.
        for _ in range(20):
            node.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                node.process.wait(0.5)
                break
        assert node.process.returncode == 1


def test_configuration(tmp_path: Path) -> None:
    file = tmp_path / "game.toml"
    file.write_text(f"[node]\nname = 'south'\nlisten = ['{LOOPBACK}']\n")
    with running(ECHO, "--config", str(file), PHOTINUS_NODE__NAME="east") as node:
        assert len(node.addresses) == 1
        assert node.lines[-1].startswith("ready: east runs echo")
        assert node.end(signal.SIGTERM) == 0


TABLE = """
[node]
listen = ["tcp://127.0.0.1:0?protocol=pomelo"]
[cluster.nodes.proxy-1]
link = "tcp://127.0.0.1:PORT1"
roles = ["proxy"]
[cluster.nodes.world-1]
link = "tcp://127.0.0.1:PORT2"
roles = ["world"]
"""


def table(folder: Path, text: str = TABLE) -> str:
    """A configuration of two nodes, on ports that were free just now."""
    with socket.socket() as first, socket.socket() as second:
        for number, each in enumerate((first, second), 1):
            each.bind(("127.0.0.1", 0))
            text = text.replace(f"PORT{number}", str(each.getsockname()[1]))
    file = folder / "nodes.toml"
    file.write_text(text)
    return str(file)


def test_a_proxy_and_a_world_node(tmp_path: Path) -> None:
    file = table(tmp_path)
    with (
        running("--config", file, "--node", "proxy-1") as proxy,
        running(ECHO, "--config", file, "--node", "world-1") as world,
    ):
        assert proxy.lines[-1].startswith("ready: proxy-1 is a proxy of photinus")
        assert world.lines[-1].startswith("ready: world-1 runs echo")
        # The file's listeners are for proxies.
        assert world.addresses == []

        async def play() -> bytes:
            async with asyncio.timeout(20):
                while True:
                    # Until the two have found each other nobody is let in.
                    with suppress(ConnectionError):
                        return await echo(proxy.addresses[0], b"hello")
                    await asyncio.sleep(0.05)

        assert asyncio.run(play()) == b"hello"
        assert world.end(signal.SIGTERM) == 0
        assert proxy.end(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([ECHO], "[cluster.nodes]: this node has no name"),
        ([ECHO, "--node", "world-9"], "there is no node world-9"),
        (["--node", "world-1"], "Missing argument 'APP'"),
        ([ECHO, "--node", "world-1", "--role", "proxy"], "[node] roles: world-1 is told to be proxy"),
        ([ECHO, "--node", "world-1", "--role", "king"], "--role: expected proxy, world or proxy,world, got king"),
        ([ECHO, "--node", "world-1", "--listen", "tcp://127.0.0.1:0"], "--listen: this node is no proxy"),
    ],
)
def test_wrong_use_in_a_cluster(tmp_path: Path, arguments: list[str], problem: str) -> None:
    result = photinus_command("run", *arguments, "--config", table(tmp_path))
    assert result.returncode == 2
    assert problem in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unsafe_start_is_refused(tmp_path: Path) -> None:
    file = table(tmp_path, TABLE.replace("127.0.0.1:PORT2", "0.0.0.0:PORT2"))
    result = photinus_command("run", ECHO, "--config", file, "--node", "world-1")
    assert result.returncode == 2
    assert "[cluster] secret: expected 16 bytes or more, got none: the link of world-1" in result.stderr


BAD_SHAPE = """
from photinus import App, Routes, Session
routes = Routes()
@routes.on("say")
def say(session: Session, text: str) -> None: ...
app = App("bad", routes=[routes])
"""


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["run", "game.py"], "game.py: no such file"),
        (["run", "none.py"], "none.py: no App in it"),
        (["run", ECHO, "--config", "bad.toml"], "bad.toml: unknown key [engine] threds; did you mean threads?"),
        (["run", ECHO, "--config", "no.toml"], "no.toml: cannot be read"),
        (["run", ECHO, "--listen", "tcp://127.0.0.1:0?protocol=smoke"], "smoke"),
        (["run", "shape.py"], "shape.py:4: expected (session: Session, message: M)"),
        (["routes", "shape.py"], "shape.py:4: expected (session: Session, message: M)"),
        (["run", ECHO, "--smoke"], "No such option"),
        (["run"], "Missing argument 'APP'"),
    ],
)
def test_wrong_use_is_exit_code_2_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text("[engine]\nthreds = 2\n")
    (tmp_path / "shape.py").write_text(BAD_SHAPE)
    (tmp_path / "none.py").touch()
    result = photinus_command(*arguments)
    assert result.returncode == 2
    assert problem in result.stderr
    assert "Traceback" not in result.stderr


def test_wrong_environment() -> None:
    result = photinus_command("run", ECHO, PHOTINUS_ENGINE__THREADS="many")
    assert result.returncode == 2
    assert "environment PHOTINUS_ENGINE__THREADS: [engine] threads: expected `int`" in result.stderr


def test_an_address_in_use_is_exit_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}?protocol=pomelo"
        result = photinus_command("run", ECHO, "--listen", url)
    assert result.returncode == 1
    assert f"photinus: {url}: Address already in use" in result.stderr
    assert "Traceback" not in result.stderr


def test_what_the_game_raises_is_shown(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('of the game')\n")
    result = photinus_command("run", str(tmp_path / "broken.py"))
    assert result.returncode == 1
    assert "RuntimeError: of the game" in result.stderr
    assert "broken.py" in result.stderr


@pytest.mark.parametrize(
    ("problem", "shown"),
    [
        ('RuntimeError("no seed")', "RuntimeError: no seed"),
        # What a setting or a listener raises is one line; what the application raises is its developer's.
        ('OSError(111, "refused")', "ConnectionRefusedError: [Errno 111] refused"),
        ('ConfigError("no seed")', "ConfigError: no seed"),
    ],
)
def test_a_start_that_fails_is_exit_code_1_with_a_traceback(tmp_path: Path, problem: str, shown: str) -> None:
    file = tmp_path / "failing.py"
    file.write_text(
        "from photinus import App\nfrom photinus.errors import ConfigError\napp = App('failing')\n"
        f"@app.started\nasync def seed() -> None:\n    raise {problem}\n"
    )
    result = photinus_command("run", str(file), "--listen", "tcp://127.0.0.1:0")
    assert result.returncode == 1
    assert "ready" not in result.stdout
    assert "Traceback" in result.stderr
    assert shown in result.stderr
    assert result.stderr.count("in seed\n") == 1
    assert f"raised by the started hook at {file}:4: the node did not start" in result.stderr


def test_hooks_run_before_ready_and_after_the_signal(tmp_path: Path) -> None:
    file = tmp_path / "hooks.py"
    file.write_text(
        "import asyncio\nfrom photinus import App\napp = App('hooks')\n"
        "@app.started\nasync def seed() -> None:\n    await asyncio.sleep(0)\n    print('seeded', flush=True)\n"
        "@app.stopping\nasync def save() -> None:\n    await asyncio.sleep(0)\n    print('saved', flush=True)\n"
    )
    with running(str(file), "--listen", "tcp://127.0.0.1:0") as node:
        assert node.lines[0] == "seeded"
        assert node.end(signal.SIGTERM) == 0
        assert node.process.stdout is not None
        assert node.process.stdout.read().splitlines() == ["stopping", "saved"]


def test_routes() -> None:
    result = photinus_command("routes", ECHO)
    assert result.returncode == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines() if "│" in line]
    assert rows == [
        ["echo", "", "anyone", "bytes", f"{ECHO}:12"],
        ["(default)", "", "anyone", "bytes", f"{ECHO}:17"],
    ]


def test_routes_of_all_kinds(tmp_path: Path) -> None:
    file = tmp_path / "kinds.py"
    file.write_text(
        "from msgspec import Struct\nfrom photinus import App, Routes, Session\nclass Say(Struct):\n    text: str\n"
        "routes = Routes()\n@routes.on('say')\n@routes.on(77, public=True)\n"
        "def say(session: Session, msg: Say) -> None: ...\napp = App('kinds', routes=[routes])\n"
    )
    result = photinus_command("routes", str(file))
    assert result.returncode == 0
    assert re.search(r"│\s+│ 77\s+│ anyone\s+│ Say\s+│", result.stdout)
    assert re.search(r"│ say\s+│\s+│ logged in\s+│ Say\s+│", result.stdout)


def test_routes_of_spaces(tmp_path: Path) -> None:
    file = tmp_path / "space.py"
    file.write_text(
        "from photinus import App, SessionRef, Space, on\nclass Hall(Space):\n    @on('wave')\n    @on(7)\n"
        "    def wave(self, who: SessionRef, body: bytes) -> None: ...\napp = App('space', spaces=[Hall])\n"
    )
    result = photinus_command("routes", str(file))
    assert result.returncode == 0
    assert re.search(r"│ wave\s+│\s+│ attached to Hall │ bytes\s+│ .*space.py:3 │", result.stdout)
    assert re.search(r"│\s+│ 7\s+│ attached to Hall │", result.stdout)


def test_routes_with_roles_and_rates(tmp_path: Path) -> None:
    file = tmp_path / "town.py"
    file.write_text(
        "from photinus import App, Rate, Routes, Session\nroutes = Routes()\n"
        "@routes.on('ban', roles=('gm', 'admin'))\n@routes.on('say', rate=Rate(5, per=10, burst=20))\n"
        "@routes.default(roles='gm')\n"
        "def act(session: Session, body: bytes) -> None: ...\napp = App('town', routes=[routes])\n"
    )
    result = photinus_command("routes", str(file))
    assert result.returncode == 0
    assert "at most" in result.stdout
    assert re.search(r"│ ban\s+│\s+│ admin, gm\s+│ bytes\s+│ .*:3\s+│\s+│", result.stdout)
    assert re.search(r"│ say\s+│\s+│ logged in\s+│ bytes\s+│ .*:3\s+│ 5 in 10 s, 20 at once\s+│", result.stdout)
    assert re.search(r"│ \(default\)\s+│\s+│ gm\s+│", result.stdout)


def test_version_and_help() -> None:
    assert photinus_command("--version").stdout == f"photinus, version {photinus.__version__}\n"
    for arguments in (["--help"], ["run", "--help"], ["dev", "--help"], ["routes", "-h"]):
        result = photinus_command(*arguments)
        assert result.returncode == 0
        assert "APP" in result.stdout

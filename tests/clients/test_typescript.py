"""The TypeScript client, as it is built for Node, against a real server through every door."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from photinus import Group, Refused, Session
from photinus.config import Limits
from tests.adversity import doors
from tests.adversity.servers import Server, World, serve

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "typescript"
SCENARIOS = CLIENT / "test" / "scenarios.mjs"
# As in package.json.
NODE = 20
WEB = ("ws", "wss")


class Name(Struct):
    name: str


class Number(Struct):
    number: int


class Numbers(Struct):
    numbers: list[int]


class Text(Struct):
    text: str


class Purchase(Struct):
    gold: int


class Nothing(Struct):
    pass


@dataclass
class Game:
    """What the scenarios play with."""

    world: World = field(default_factory=World)
    noted: list[int] = field(default_factory=list)
    resumes: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        routes = self.world.routes

        @routes.on("login", public=True)
        async def login(session: Session, message: Name) -> Name:
            await session.login(message.name)
            return Name(f"{message.name}, welcome")

        @routes.on("buy")
        def buy(session: Session, message: Purchase) -> Nothing:
            raise Refused("too-poor", missing=message.gold + 1)

        @routes.on("fails")
        def fails(session: Session, message: Nothing) -> Nothing:
            raise ZeroDivisionError

        @routes.on("echo")
        def echo(session: Session, message: bytes) -> bytes:
            return message

        @routes.on("repeat", public=True)
        def repeat(session: Session, message: Text) -> Text:
            return message

        @routes.on("double")
        async def double(session: Session, message: Number) -> Number:
            return Number(2 * message.number)

        @routes.on("note")
        def note(session: Session, message: Number) -> None:
            self.noted.append(message.number)

        @routes.on("noted")
        def told(session: Session, message: Nothing) -> Numbers:
            return Numbers(self.noted)

        @routes.on("count")
        def count(session: Session, message: Number) -> Number:
            for number in range(message.number):
                session.send("counted", Number(number))
            return message

        @routes.on("misbehave")
        def misbehave(session: Session, message: Nothing) -> None:
            session.send("said", Text("enough of that"))
            session.kick("misbehaved")

        @routes.resumed
        def resumed(session: Session, gap: bool) -> None:
            self.resumes.append(gap)


@pytest.fixture(scope="module")
def node() -> str:
    """Where there is no such Node, or no client built, the tests are skipped; in CI that is an error."""
    path = shutil.which("node")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout if path else "v0"
    missing = ""
    if path is None or int(version[1:].split(".")[0]) < NODE:
        missing = f"no Node.js >= {NODE} on PATH"
    elif not (CLIENT / "dist" / "node.js").exists():
        missing = "the client is not built: make clients/typescript/dist/photinus.js"
    if missing or path is None:
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return path


def play(node: str, server: Server, scenario: str, authority: Path, file: str = "node.js") -> dict[str, Any]:
    """What came of it."""
    command = [node, str(SCENARIOS), str(CLIENT / "dist" / file), scenario, server.node.addresses[0]]
    came: dict[str, Any] = json.loads(run(command, authority).splitlines()[-1])
    return came


def run(command: list[str], authority: Path) -> str:
    environment = {**os.environ, "NODE_EXTRA_CA_CERTS": str(authority)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return doors.authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("options", ["photinus", "photinus&format=json"])
@pytest.mark.parametrize("scheme", doors.SCHEMES)
def test_login_requests_and_errors(node: str, authority: Path, scheme: str, options: str) -> None:
    game = Game()
    with serve(game.world.app, options, scheme=scheme) as server:
        came = play(node, server, "play", authority)
        # It said farewell, so its session does not wait for it.
        server.until(lambda: game.world.ends == [("client", "left")])
    assert came["welcome"] == {"name": "Ann, welcome"}
    codes = [code for code, _ in came["refusals"]]
    assert codes == ["too-poor", "bad-message", "unknown-route", "internal"]
    assert came["refusals"][0][1]["missing"] == 3


def test_the_browsers_one_file(node: str, authority: Path) -> None:
    with serve(Game().world.app, "photinus", scheme="wss") as server:
        assert play(node, server, "play", authority, "photinus.js")["welcome"] == {"name": "Ann, welcome"}


@pytest.mark.parametrize("scheme", WEB)
def test_many_messages_in_both_directions(node: str, authority: Path, scheme: str) -> None:
    game = Game()
    with serve(game.world.app, "photinus&heartbeat=1", scheme=scheme) as server:
        assert play(node, server, "many", authority) == {"doubled": 2000, "heard": 5000}
    assert [number for number in game.noted if number >= 0] == [*range(2000)]
    # Some of the droppable ones may have been dropped.
    assert game.noted.count(-1) <= 2000


@pytest.mark.parametrize("scheme", WEB)
def test_a_kick(node: str, authority: Path, scheme: str) -> None:
    with serve(Game().world.app, "photinus", scheme=scheme) as server:
        assert play(node, server, "kicked", authority) == {"reason": "misbehaved", "read": ["enough of that"]}


@pytest.mark.parametrize("options", ["photinus", "photinus&compress=zlib", "photinus&compress=zstd,zlib&threshold=0"])
def test_long_payloads(node: str, authority: Path, options: str) -> None:
    """Compressed where the server has an algorithm that the client has."""
    with serve(Game().world.app, options, scheme="ws") as server:
        assert play(node, server, "compressed", authority) == {}
        counts = server.counts("inflated", "compressed")
    # The second request was a secret.
    assert counts == ({"inflated": 1, "compressed": 2} if "compress" in options else {"inflated": 0, "compressed": 0})


def test_a_full_server(node: str, authority: Path) -> None:
    with serve(Game().world.app, "photinus", scheme="ws", limits=Limits(sessions=1, login_queue=0)) as server:
        assert play(node, server, "refused", authority) == {"code": "full"}


def test_a_full_server_where_one_stands_in_line(node: str, authority: Path) -> None:
    with serve(Game().world.app, "photinus", scheme="ws", limits=Limits(sessions=1)) as server:
        places = play(node, server, "waited", authority)["places"]
    assert set(places) == {1}


@pytest.mark.parametrize("scheme", doors.SCHEMES)
def test_a_line_that_is_cut_again_and_again(node: str, authority: Path, scheme: str) -> None:
    game = Game()
    with serve(game.world.app, "photinus&resume=30", scheme=scheme) as server:
        came = play(node, server, "resumed", authority)
    assert came["answered"] == 5 * 22
    assert came["heard"] == [*range(50)] * 5
    assert came["noted"] == [note for cut in range(5) for note in (*range(20 * cut, 20 * cut + 20), 1_000_000 + cut)]
    assert game.noted == came["noted"]
    assert came["happened"]["gap"] == 0
    assert came["happened"]["resumed"] == came["happened"]["reconnecting"] == 5
    assert game.resumes == [False] * 5


def test_a_session_that_is_not_resumed_in_its_window(node: str, authority: Path) -> None:
    game = Game()
    with serve(game.world.app, "photinus&resume=1", scheme="ws") as server:
        assert play(node, server, "forgotten", authority) == {"name": "ConnectionLost"}
        server.until(lambda: len(game.world.ends) == 1)


def test_the_readme(node: str, authority: Path, tmp_path: Path) -> None:
    """Its code, in a program that has the package, against the server that the repository's README begins with."""
    (code,) = re.findall(r"^```js\n(.*?)^```$", (CLIENT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len(str(code).splitlines()) <= 30
    packages = tmp_path / "node_modules" / "@photinus"
    packages.mkdir(parents=True)
    (packages / "client").symlink_to(CLIENT)

    world = World()
    lobby = Group("lobby")

    @world.routes.on("say", public=True)
    def say(session: Session, message: Text) -> Text:
        lobby.add(session)
        lobby.send("said", message, but=session)
        return message

    with serve(world.app, "photinus", scheme="ws") as server:
        url = server.node.addresses[0]
        program = tmp_path / "program.mjs"
        program.write_text(str(code).replace("ws://127.0.0.1:3250", url), "utf-8")
        assert url in program.read_text("utf-8")
        said, time = run([node, str(program)], authority).splitlines()
    assert said == "said: hello"
    assert re.fullmatch(r"the server's clock: \d+ ms", time)


def test_it_has_the_version_of_the_python_package() -> None:
    package = json.loads((CLIENT / "package.json").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert (package["version"], package["license"]) == (project["version"], project["license"])


def test_the_lock_file_names_no_registry() -> None:
    """Whoever installs has their own."""
    text = (CLIENT / "package-lock.json").read_text("utf-8")
    assert "://" not in re.sub(r'"url": "[^"]*"', "", text)
    packages = json.loads(text)["packages"]
    assert all("integrity" in package for path, package in packages.items() if path)

"""The playground over HTTP: what it serves, to whom, and what it keeps from others."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from msgspec import Struct

from photinus import App, Node, Routes, Session
from photinus.ops.playground import DEFAULT_PORT, Playground, Reload
from photinus.ops.playground.server import MAX_CONNECTIONS, MAX_HEAD_BYTES
from tests.ops.development import PATIENCE, developing


class Say(Struct):
    text: str


routes = Routes()


@routes.on("say", public=True)
def say(session: Session, msg: Say) -> Say:
    return msg


@asynccontextmanager
async def served() -> AsyncIterator[Playground]:
    with closing(Playground(0)) as playground:
        async with Node(App("game", routes=[routes]), listen=[playground.listener]) as node:
            await playground.start(node, node.addresses[0], Path(__file__).parent)
            yield playground


async def exchange(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """The status, the headers and the body of the answer, up to the end of the connection."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, body


async def get(playground: Playground, path: str, host: str | None = None) -> tuple[int, dict[str, str], bytes]:
    host = f"127.0.0.1:{playground.port}" if host is None else host
    return await exchange(playground.port, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())


async def test_the_page_and_its_files() -> None:
    async with served() as playground:
        status, headers, body = await get(playground, "/")
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert b"main.js" in body
        for name, kind in (
            ("main.js", "text/javascript; charset=utf-8"),
            ("photinus.js", "text/javascript; charset=utf-8"),
            ("style.css?x=1", "text/css; charset=utf-8"),
            ("icon.svg", "image/svg+xml"),
        ):
            status, headers, body = await get(playground, f"/{name}")
            assert (status, headers["content-type"], headers["content-length"]) == (200, kind, str(len(body)))
            assert body


async def test_nothing_from_elsewhere_is_loaded_and_nobody_else_may_load_it() -> None:
    async with served() as playground:
        connect = json.loads((await get(playground, "/game.json"))[2])["connect"]
        for path in ("/", "/game.json", "/main.js", "/nowhere"):
            _, headers, _ = await get(playground, path)
            policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
            assert policy["default-src"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == policy["img-src"] == "'self'"
            assert policy["connect-src"] == f"'self' {connect}"
            assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert "access-control-allow-origin" not in headers


def test_the_page_itself_names_nothing_outside_and_makes_no_code_of_text() -> None:
    folder = Path(__file__).parents[2] / "python" / "photinus" / "ops" / "playground" / "page"
    files = [file for file in folder.iterdir() if file.suffix in (".html", ".js", ".css", ".svg")]
    assert len(files) > 10
    for file in files:
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text, file.name
        for word in ("eval(", "new Function", "innerHTML", "document.write", "import("):
            assert word not in text, file.name


async def test_the_game_as_json() -> None:
    async with served() as playground:
        status, headers, body = await get(playground, "/game.json")
        assert (status, headers["content-type"]) == (200, "application/json")
        game = json.loads(body)
        assert game["name"] == "game"
        assert [route["key"] for route in game["routes"]] == ["say"]
        assert game["routes"][0]["place"].startswith("test_playground.py:")
        assert game["types"]["Say"]["properties"] == {"text": {"type": "string"}}
        place = urlsplit(game["connect"])
        assert (place.scheme, place.hostname, place.path, place.query) == ("ws", "127.0.0.1", "", "")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "[::1]:{port}"]
)
async def test_another_name_for_this_machine_is_refused(host: str) -> None:
    async with served() as playground:
        for path in ("/", "/game.json", "/events"):
            status, _, body = await get(playground, path, host.format(port=playground.port))
            assert status == 421
            assert b"game" not in body


async def test_no_host_or_two_are_refused() -> None:
    async with served() as playground:
        own = f"Host: 127.0.0.1:{playground.port}\r\n"
        for hosts in ("", own + "Host: evil.example\r\n"):
            status, _, _ = await exchange(playground.port, f"GET /game.json HTTP/1.1\r\n{hosts}\r\n".encode())
            assert status == 400
        status, _, _ = await exchange(playground.port, b"GET /game.json HTTP/1.0\r\n\r\n")
        assert status == 421


async def test_localhost_is_led_to_the_address() -> None:
    async with served() as playground:
        status, headers, _ = await get(playground, "/game.json", f"localhost:{playground.port}")
        assert (status, headers["location"]) == (307, f"{playground.url}/")


@pytest.mark.parametrize(
    "path",
    ["/nowhere", "/../__init__.py", "/..%2f__init__.py", "/page/main.js", "//main.js", "/photinus.js.LICENSE", "*"],
)
async def test_what_is_not_there(path: str) -> None:
    async with served() as playground:
        status, headers, _ = await get(playground, path)
        assert (status, headers["content-type"]) == (404, "text/plain; charset=utf-8")


async def test_other_methods_are_refused() -> None:
    async with served() as playground:
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            request = f"{method} / HTTP/1.1\r\nHost: 127.0.0.1:{playground.port}\r\nContent-Length: 0\r\n\r\n"
            status, headers, _ = await exchange(playground.port, request.encode())
            assert (status, headers["allow"]) == (405, "GET")


async def test_bad_input_ends_its_own_connection() -> None:
    async with served() as playground:
        assert (await exchange(playground.port, b"\x16\x03\x01 hello\r\n\r\n"))[0] == 400
        status, _, _ = await exchange(playground.port, b"GET / HTTP/1.1\r\nX: " + b"x" * (MAX_HEAD_BYTES + 1))
        assert status == 431
        _, half = await asyncio.open_connection("127.0.0.1", playground.port)
        half.write(b"GET / HT")
        half.close()
        assert (await get(playground, "/"))[0] == 200


async def test_more_connections_than_a_browser_has_are_closed() -> None:
    async with served() as playground:
        held = [await asyncio.open_connection("127.0.0.1", playground.port) for _ in range(MAX_CONNECTIONS)]
        # They are taken in this order, so all of those before this one.
        with pytest.raises((ConnectionError, IndexError)):
            await get(playground, "/")
        for _, writer in held:
            writer.close()
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(ConnectionError, IndexError):
                    assert (await get(playground, "/"))[0] == 200
                    break


async def test_events_tell_of_saves() -> None:
    async with served() as playground:
        reader, writer = await asyncio.open_connection("127.0.0.1", playground.port)
        writer.write(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{playground.port}\r\n\r\n".encode())

        async def told() -> dict[str, object]:
            async with asyncio.timeout(PATIENCE):
                while not (line := await reader.readline()).startswith(b"data: "):
                    assert line
            found: dict[str, object] = json.loads(line.removeprefix(b"data: "))
            return found

        assert await told() == {"kind": "started", "process": os.getpid(), "save": 0}
        playground.tell(Reload("reloaded", "reloaded: game.py", changed=["say"]))
        assert await told() == {
            "kind": "reloaded",
            "process": os.getpid(),
            "save": 1,
            "text": "reloaded: game.py",
            "added": [],
            "removed": [],
            "changed": ["say"],
            "error": "",
        }
        # Who comes later is told of the last one.
        playground.tell(Reload("failed", "not reloaded", error="SyntaxError"))
        assert (await told())["save"] == 2
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", playground.port)
        writer.write(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{playground.port}\r\n\r\n".encode())
        assert await told() == {
            "kind": "failed",
            "process": os.getpid(),
            "save": 2,
            "text": "not reloaded",
            "added": [],
            "removed": [],
            "changed": [],
            "error": "SyntaxError",
        }
        writer.close()


async def test_other_pages_cannot_speak_to_the_game() -> None:
    async with served() as playground:
        place = urlsplit(json.loads((await get(playground, "/game.json"))[2])["connect"])

        async def upgraded(origin: str) -> int:
            request = (
                f"GET / HTTP/1.1\r\nHost: {place.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nOrigin: {origin}\r\n\r\n"
            )
            reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
            writer.write(request.encode())
            async with asyncio.timeout(PATIENCE):
                status = int((await reader.readline()).split()[1])
            writer.close()
            return status

        assert await upgraded(playground.url) == 101
        for origin in ("http://evil.example", f"http://localhost:{playground.port}", "http://127.0.0.1:1", "null"):
            assert await upgraded(origin) == 403


def test_it_is_on_loopback_alone_and_its_port_is_found() -> None:
    with closing(Playground(0)) as playground:
        assert playground.url == f"http://127.0.0.1:{playground.port}"
        assert playground._socket.getsockname() == ("127.0.0.1", playground.port)
        with pytest.raises(OSError, match="playground at") as raised:
            Playground(playground.port)
        assert raised.value.errno == errno.EADDRINUSE


def test_the_usual_port_and_another_where_it_is_taken() -> None:
    try:
        holder = socket.create_server(("127.0.0.1", DEFAULT_PORT))
    except OSError:
        # Another test, or the developer, has it: all the better.
        holder = socket.socket()
    with holder, closing(Playground()) as playground:
        assert playground.port not in (0, DEFAULT_PORT)


async def test_options_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "game.py").write_text("from photinus import App\napp = App('game')\n")
    async with developing(tmp_path, "--playground", "0") as dev:
        line = await dev.until("  try     http://127.0.0.1:")
        url = urlsplit(line.split()[1])
        assert url.port is not None
        # Its own listener is no address for players.
        assert len(dev.addresses) == 1
        status, _, _ = await exchange(url.port, f"GET / HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode())
        assert status == 200
        async with asyncio.timeout(PATIENCE):
            again = await asyncio.create_subprocess_exec(
                *(
                    sys.executable,
                    "-m",
                    "photinus",
                    "dev",
                    "--listen",
                    "tcp://127.0.0.1:0",
                    "--playground",
                    str(url.port),
                ),
                cwd=tmp_path,
                stderr=asyncio.subprocess.PIPE,
            )
            _, said = await again.communicate()
        assert again.returncode == 1
        assert f"photinus: playground at http://127.0.0.1:{url.port}: Address already in use" in said.decode()
        assert await dev.end() == 0
    async with developing(tmp_path, "--no-playground") as dev:
        await dev.until("  look")
        assert not [line for line in dev.lines if line.startswith("  try")]
        assert await dev.end() == 0

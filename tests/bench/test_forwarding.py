"""The proxies that Photinus' forwarding is compared with: that they forward."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO, cast

import pytest

from bench.machine import compiled

ROOT = Path(__file__).parents[2]
UVLOOP = str(ROOT / "bench" / "servers" / "uvloop_proxy.py")
TIMEOUT = 10.0
LINK = struct.Struct(">IBII")
TO_LIST, NOTICE = 1, 7


@pytest.fixture(scope="module")
def forwarder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Compiled in a folder of its own."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("forwarder"))
    try:
        return str(compiled("forwarder").absolute())
    finally:
        os.chdir(before)


@contextmanager
def running(*command: str) -> Generator[int]:
    """Its port."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            found = re.search(r":(\d+)$", cast("IO[str]", process.stdout).readline())
            assert found
            yield int(found[1])
        finally:
            process.terminate()


def proxy(kind: str, forwarder: str, port: int, *more: str) -> list[str]:
    return [forwarder, "proxy", str(port)] if kind == "floor" else [sys.executable, UVLOOP, str(port), *more]


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), TIMEOUT)


def frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


def linked(kind: int, destination: int, payload: bytes) -> bytes:
    return LINK.pack((10 + len(payload)) << 8 | kind << 5, 0, destination, 0) + payload


def read(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = stream.recv(count - len(data))
        assert piece, "closed"
        data += piece
    return data


def read_frame(stream: socket.socket) -> bytes:
    return read(stream, int.from_bytes(read(stream, 4), "big"))


def read_linked(stream: socket.socket) -> tuple[int, int, bytes]:
    """Kind, source, payload."""
    word, _, _, source = LINK.unpack(read(stream, LINK.size))
    return word >> 5 & 7, source, read(stream, (word >> 8) - 10)


@pytest.mark.parametrize("kind", ["floor", "uvloop"])
def test_frames_come_back_through_a_proxy_however_they_are_cut(kind: str, forwarder: str) -> None:
    with ExitStack() as stack:
        echo = stack.enter_context(running(forwarder, "echo"))
        port = stack.enter_context(running(*proxy(kind, forwarder, echo)))
        clients = [stack.enter_context(closing(connect(port))) for _ in range(3)]
        payloads = [bytes([number]) * size for number, size in enumerate((1, 60, 0, 70_000))]
        for number, client in enumerate(clients):
            stream = b"".join(frame(payload + bytes([number])) for payload in payloads)
            for at in range(0, len(stream), 9_973):
                client.sendall(stream[at : at + 9_973])
        for number, client in enumerate(clients):
            assert [read_frame(client) for _ in payloads] == [payload + bytes([number]) for payload in payloads]


@pytest.mark.parametrize("kind", ["floor", "uvloop"])
def test_who_is_behind_hears_of_clients_and_reaches_one_or_several(kind: str, forwarder: str) -> None:
    with ExitStack() as stack:
        behind = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        behind.settimeout(TIMEOUT)
        port = stack.enter_context(running(*proxy(kind, forwarder, behind.getsockname()[1])))
        link = stack.enter_context(closing(behind.accept()[0]))
        link.settimeout(TIMEOUT)
        clients: dict[int, socket.socket] = {}
        for _ in range(3):
            client = stack.enter_context(closing(connect(port)))
            came, handle, what = read_linked(link)
            assert (came, what) == (NOTICE, b"O")
            clients[handle] = client
        first, second, third = clients
        clients[second].sendall(frame(b"moved"))
        assert read_linked(link) == (0, second, b"moved")
        listed = struct.pack(">HII", 2, first, third)
        link.sendall(linked(0, second, b"for one") + linked(TO_LIST, 0, listed + b"for two") + linked(0, first, b"!"))
        assert read_frame(clients[second]) == b"for one"
        assert [read_frame(clients[first]) for _ in range(2)] == [b"for two", b"!"]
        assert read_frame(clients[third]) == b"for two"
        clients[third].close()
        assert read_linked(link) == (NOTICE, third, b"C")
        # It has gone, and nobody else gets what is for it.
        link.sendall(linked(0, third, b"late") + linked(0, first, b"after"))
        assert read_frame(clients[first]) == b"after"


def test_long_payloads_are_compressed_towards_clients_and_inflated_from_them(forwarder: str) -> None:
    with ExitStack() as stack:
        behind = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        behind.settimeout(TIMEOUT)
        port = stack.enter_context(running(*proxy("uvloop", forwarder, behind.getsockname()[1], "--zlib")))
        link = stack.enter_context(closing(behind.accept()[0]))
        link.settimeout(TIMEOUT)
        client = stack.enter_context(closing(connect(port)))
        _, handle, _ = read_linked(link)
        short, long = b"\3" + b"a" * 254, b"\3" + b"a" * 255
        link.sendall(linked(0, handle, short) + linked(0, handle, long))
        assert read_frame(client) == short
        packed = read_frame(client)
        assert packed[:1] == b"\3"
        assert zlib.decompress(packed[1:]) == long[1:]
        client.sendall(frame(b"\1" + zlib.compress(b"b" * 300)))
        assert read_linked(link) == (0, handle, b"\1" + b"b" * 300)

"""A client over a blocking socket, which can say what no honest client says."""

from __future__ import annotations

import socket
import ssl
import struct
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from tests.adversity.codecs import ACK, HANDSHAKE, HEARTBEAT, HELLO, Said, codec_of, frame, package
from tests.adversity.doors import open_door

# Nothing here takes a second. Whoever waits so long waits for what will not come.
DEADLINE = 20.0


class Ended(Exception):
    """The server has closed the connection."""


class Client:
    """Speaks the protocol of the listener's URL; with `hello` its handshake, if it has one, is done first. `preface`
    is what a balancer says in front of everything."""

    def __init__(
        self,
        url: str,
        *,
        hello: bool = True,
        receive_buffer: int = 0,
        source: str = "",
        preface: bytes = b"",
        context: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        family = socket.AF_INET6 if ":" in str(parts.hostname) else socket.AF_INET
        self.protocol = parse_qs(parts.query)["protocol"][0]
        self.codec = codec_of(self.protocol)
        self.socket = socket.socket(family)
        self.socket.settimeout(DEADLINE)
        if receive_buffer:
            # Before connecting: later the window has been offered already.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            if source:
                self.socket.bind((source, 0))
            self.socket.connect((parts.hostname, parts.port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = bytearray()
        try:
            self.socket.sendall(preface)
            self.wire = open_door(self.socket, url, context)
        except BaseException:
            self.socket.close()
            raise
        # TLS has taken the descriptor over.
        self.socket = self.wire.socket
        if hello and self.protocol in ("pomelo", "photinus"):
            self.shake_hands()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def shake_hands(self) -> None:
        if self.protocol == "photinus":
            self.write(frame(1, b"\x01\x01\x01"))
            assert self.hear().kind == "handshake"
            self.write(frame(10, b"\x00\x01\x00\x00"))
        else:
            self.write(package(HANDSHAKE, HELLO))
            assert self.hear().kind == "handshake"
            self.write(package(ACK))

    @property
    def address(self) -> str:
        """As its session has it."""
        host, port = self.socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def write(self, data: bytes) -> None:
        self.wire.write(data)

    def say(self, body: bytes, route: str = "go") -> None:
        self.write(self.codec.packet(body, route))

    def ask(self, body: bytes, route: str = "go") -> Said:
        self.say(body, route)
        return self.hear()

    def hear(self, *, heartbeats: bool = False) -> Said:
        """What the server says next; Ended if that is nothing more.

        Its heartbeats are answered, and told only if they are asked for.
        """
        while True:
            said = self.codec.take(self._data)
            if said is None:
                self._receive()
            elif said.kind != "heartbeat":
                return said
            else:
                self.write(frame(10, b"\x00\x01\x00\x00") if self.protocol == "photinus" else package(HEARTBEAT))
                if heartbeats:
                    return said

    def rest(self) -> list[Said]:
        """All that the server still says before it ends the connection, but for heartbeats."""
        said: list[Said] = []
        while True:
            try:
                self._receive()
            except Ended:
                break
        while (next_said := self.codec.take(self._data)) is not None:
            if next_said.kind != "heartbeat":
                said.append(next_said)
        assert not self._data, "half a frame at the end"
        return said

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Ends the connection as a crashed host does: without the end of its stream."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _receive(self) -> None:
        try:
            data = self.wire.read()
        except ConnectionError as error:
            raise Ended from error
        if not data:
            raise Ended
        self._data += data

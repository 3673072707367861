"""What lies between a client's socket and its protocol: TLS by the standard library, WebSocket by the package
`websockets`; so that whatever is tested of a protocol can be tested through each door."""

from __future__ import annotations

import socket
import ssl
from collections import deque
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import trustme
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from photinus.config import TlsSection

SCHEMES = ("tcp", "tls", "ws", "wss")


class Wire:
    """Plain TCP: bytes as they are."""

    def __init__(self, plain: socket.socket) -> None:
        self.socket = plain

    def write(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> bytes:
        """What comes next; empty at the end."""
        return self.socket.recv(1 << 16)


class WebSocket(Wire):
    """The same in binary messages."""

    def __init__(self, plain: socket.socket, url: str) -> None:
        super().__init__(plain)
        offers = [ClientPerMessageDeflateFactory()] if "deflate=1" in url else None
        self.protocol = ClientProtocol(parse_uri(url), max_size=None, extensions=offers)
        self.protocol.send_request(self.protocol.connect())
        self._messages: deque[bytes] = deque()
        while self.protocol.state is State.CONNECTING:
            self._exchange()
        if self.protocol.handshake_exc is not None:
            raise self.protocol.handshake_exc

    def write(self, data: bytes) -> None:
        self.protocol.send_binary(data)
        self._flush()

    def read(self) -> bytes:
        while not self._messages:
            if not self._exchange():
                return b""
        return self._messages.popleft()

    def _exchange(self) -> bool:
        """`False`: nothing more will come."""
        self._flush()
        data = self.socket.recv(1 << 16)
        if data:
            self.protocol.receive_data(data)
        else:
            self.protocol.receive_eof()
        for event in self.protocol.events_received():
            opcode = getattr(event, "opcode", None)
            if opcode in (Opcode.BINARY, Opcode.TEXT, Opcode.CONT):
                self._messages.append(bytes(getattr(event, "data", b"")))
        self._flush()
        return bool(data)

    def _flush(self) -> None:
        for data in self.protocol.data_to_send():
            if data:
                self.socket.sendall(data)


def open_door(plain: socket.socket, url: str, context: ssl.SSLContext | None = None) -> Wire:
    """Through the door of this listener's URL, on a connected socket."""
    scheme = url.split("://", maxsplit=1)[0]
    if scheme in ("tls", "wss"):
        plain = (context or trusting()).wrap_socket(plain, server_hostname="localhost")
    try:
        return WebSocket(plain, url) if scheme in ("ws", "wss") else Wire(plain)
    except BaseException:
        plain.close()
        raise


def trusting() -> ssl.SSLContext:
    """A client's context that takes this process's certificates."""
    context = ssl.create_default_context()
    _authority().configure_trust(context)
    return context


def authority(folder: Path) -> Path:
    """The same for a client in another process: a new file in this folder, with the certificate of whom to trust."""
    path = folder / "authority.pem"
    _authority().cert_pem.write_to_path(str(path))
    return path


@cache
def certified() -> TlsSection:
    """What a server of this process shows."""
    return issue(Path(mkdtemp(prefix="photinus-tls-")))


def issue(folder: Path) -> TlsSection:
    """A new certificate in this folder, in two files."""
    certificate = _authority().issue_cert("localhost", "127.0.0.1", "::1", key_type=trustme.KeyType.ECDSA)
    chain, key = folder / "chain.pem", folder / "key.pem"
    key.write_bytes(certificate.private_key_pem.bytes())
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    return TlsSection(certificate=chain, key=key)


def renew(folder: Path) -> TlsSection:
    """The same in one file, which takes the place of one that is there at once: nobody sees half of it."""
    section = issue(folder)
    assert section.certificate is not None
    assert section.key is not None
    both = folder / "both.pem"
    section.certificate.write_bytes(section.certificate.read_bytes() + section.key.read_bytes())
    section.certificate.replace(both)
    return TlsSection(certificate=both, key=both)


@cache
def _authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


def known() -> ssl.SSLContext:
    """A client's context that shows a certificate of this process's authority."""
    context = trusting()
    _authority().issue_cert("player@example.com").configure_cert(context)
    return context


def stranger() -> ssl.SSLContext:
    """The same of an authority that no server knows."""
    context = trusting()
    trustme.CA().issue_cert("player@example.com").configure_cert(context)
    return context

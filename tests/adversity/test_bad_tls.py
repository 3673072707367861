"""What is not TLS, or not quite: it ends the connection that it came on with `bad-tls`. And which certificates are
shown, asked for and taken."""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path

import msgspec
import pytest

from photinus.config import Limits, TlsSection
from tests.adversity.clients import Client
from tests.adversity.doors import authority, certified, known, renew, stranger, trusting
from tests.adversity.servers import Server, echoing, serve
from tests.adversity.slowly import is_over

pytestmark = pytest.mark.timeout(60)

HANDSHAKE, DATA = b"\x16\x03\x01", b"\x17\x03\x03"
# A hello that says it has 16 MB, in records of 16 KiB: more than anybody holds for one that is not in.
GIANT = HANDSHAKE + b"\x40\x00" + b"\x01\xff\xff\xff" + bytes(0x3FFC) + (HANDSHAKE + b"\x40\x00" + bytes(0x4000)) * 8
# The same of 32 KiB, which is waited for.
LONG = HANDSHAKE + b"\x40\x00" + b"\x01\x00\x7f\xfc" + bytes(0x3FFC) + HANDSHAKE + b"\x40\x00" + bytes(0x4000)
BEFORE = {
    "a request": b"GET / HTTP/1.1\r\nHost: game.example\r\n\r\n",
    "a package of pomelo's": b"\x01\x00\x00\x02{}",
    "an oversized record": HANDSHAKE + b"\xff\xff" + bytes(100),
    "an empty record": HANDSHAKE + b"\x00\x00" + bytes(100),
    "no such type": b"\x77\x03\x01\x00\x05hello",
    "no such version": b"\x16\x09\x09\x00\x05hello",
    "data first": DATA + b"\x00\x20" + bytes(32),
    "a hello of nothing": HANDSHAKE + b"\x00\x04\x01\x00\x00\x00",
    "a hello of noise": HANDSHAKE + b"\x00\x44\x01\x00\x00\x40" + b"\xa5" * 64,
    "SSL 2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(32),
    "a giant hello": GIANT,
}


@pytest.mark.parametrize("sent", BEFORE.values(), ids=BEFORE.keys())
@pytest.mark.parametrize("scheme", ["tls", "wss"])
def test_in_place_of_a_handshake(scheme: str, sent: bytes) -> None:
    with serve(echoing().app, "length4", scheme=scheme) as server:
        player = server.connect("length4")
        client = server.raw("length4")
        send(client, sent)
        assert is_over(client)
        assert_bad_tls(server, player, sessions=1)


def test_a_handshake_that_is_cut_off() -> None:
    with serve(echoing().app, "length4", scheme="tls") as server:
        player = server.connect("length4")
        for sent in (b"", HANDSHAKE, HANDSHAKE + b"\x02\x00\x01\x00\x01\xfc"):
            client = server.raw("length4")
            client.sendall(sent)
            client.close()
        server.until(lambda: server.ends() == {"left": 3})
        assert server.wire_errors() == {}
        assert player.ask(b"still here").body == b"still here"


@pytest.mark.parametrize("end", [0x4005, 0x4008, 0x5000], ids=["between records", "in a head", "in a record"])
def test_a_hello_in_several_records_that_stops(end: int) -> None:
    with serve(echoing().app, "length4", scheme="tls", limits=Limits(handshake_ms=1500)) as server:
        player = server.connect("length4")
        client = server.raw("length4")
        client.sendall(LONG[:end])
        assert is_over(client)
        server.until(lambda: server.ends() == {"handshake_timeout": 1})
        assert player.ask(b"still here").body == b"still here"


class Records:
    """A client of TLS whose records can be had before they are sent."""

    def __init__(self, server: Server) -> None:
        self.socket = server.raw("length4")
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = trusting().wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.socket.sendall(self._outgoing.read())
                self._incoming.write(self.socket.recv(1 << 16))
            else:
                self.socket.sendall(self._outgoing.read())
                return

    def of(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self._outgoing.read()


def flipped(record: bytes) -> bytes:
    return record[:-1] + bytes([record[-1] ^ 1])


AFTER = {
    "a record that was changed": flipped,
    "a record twice": lambda record: record + record,
    "an oversized record": lambda record: DATA + b"\x50\x00" + bytes(0x5000),
    "no encryption": lambda record: b"\0\0\0\x05hello",
    "a record of noise": lambda record: DATA + b"\x00\x40" + b"\xa5" * 64,
    "a second hello": lambda record: HANDSHAKE + b"\x00\x04\x01\x00\x00\x00",
}


@pytest.mark.parametrize("change", AFTER.values(), ids=AFTER.keys())
@pytest.mark.parametrize("scheme", ["tls"])
def test_in_an_open_session(scheme: str, change: object) -> None:
    world = echoing()
    with serve(world.app, "length4", scheme=scheme) as server:
        player = server.connect("length4")
        assert player.ask(b"here").body == b"here"
        client = Records(server)
        client.socket.sendall(client.of(b"\0\0\0\x02hi"))
        server.until(lambda: world.heard[-1] == b"hi")
        assert callable(change)
        send(client.socket, change(client.of(b"\0\0\0\x05worse")))
        assert is_over(client.socket)
        server.until(lambda: world.ends == [("protocol", "bad-tls")])
        assert_bad_tls(server, player, sessions=2)


def test_half_a_record_is_waited_for_and_then_it_is_not() -> None:
    """A record is begun and no more comes: as half a frame."""
    world = echoing()
    limits = Limits(frame_ms=100)
    with serve(world.app, "length4", scheme="tls", limits=limits) as server:
        player = server.connect("length4")
        client = Records(server)
        record = client.of(b"\0\0\0\x02hi")
        client.socket.sendall(record[:9])
        server.until(lambda: server.ends() == {"frame_timeout": 1})
        assert player.ask(b"still here").body == b"still here"


def assert_bad_tls(server: Server, player: Client, *, sessions: int) -> None:
    server.until(server.ends)
    assert (server.ends(), server.wire_errors()) == ({"protocol": 1}, {"bad-tls": 1})
    assert server.count("sessions_opened") == sessions
    assert player.ask(b"still here").body == b"still here"


def send(client: socket.socket, data: bytes) -> None:
    """All of it, unless the server has heard enough before."""
    with contextlib.suppress(ConnectionError):
        client.sendall(data)


def shown(client: Client) -> bytes:
    assert isinstance(client.socket, ssl.SSLSocket)
    certificate = client.socket.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


@pytest.mark.parametrize("scheme", ["tls", "wss"])
def test_certificates_that_are_renewed(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes is shown the new one, and who is in stays."""
    monkeypatch.setattr("photinus.node.LOOK_SECONDS", 0.02)
    with serve(echoing().app, "length4", scheme=scheme, tls=renew(tmp_path)) as server:
        old = [server.connect("length4") for _ in range(3)]
        (first,) = {shown(client) for client in old}
        renew(tmp_path)
        server.until(lambda: server.node.certificates.reloads)
        newer = server.connect("length4")
        assert shown(newer) != first
        assert [client.ask(b"here").body for client in (*old, newer)] == [b"here"] * 4
        assert server.ends() == {}


def test_a_renewal_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: list[object]) -> None:
    """The one from before is kept, and the operator is told once."""
    monkeypatch.setattr("photinus.node.LOOK_SECONDS", 0.02)
    tls = renew(tmp_path)
    with serve(echoing().app, "length4", scheme="tls", tls=tls) as server:
        first = shown(server.connect("length4"))
        assert tls.certificate is not None
        tls.certificate.write_text("no certificate")
        server.until(lambda: server.node.certificates.errors)
        assert shown(server.connect("length4")) == first
        renew(tmp_path)
        server.until(lambda: server.node.certificates.reloads)
        assert shown(server.connect("length4")) != first
    assert len(failures) == 1


def asking(tmp_path: Path, client: str) -> TlsSection:
    if client == "none":
        return certified()
    return msgspec.structs.replace(certified(), client=client, client_ca=authority(tmp_path))


@pytest.mark.parametrize("scheme", ["tls", "wss"])
@pytest.mark.parametrize(
    ("client", "nothing", "a_strange_one"),
    [("none", True, True), ("optional", True, False), ("required", False, False)],
)
def test_certificates_of_clients(client: str, nothing: bool, a_strange_one: bool, scheme: str, tmp_path: Path) -> None:
    with serve(echoing().app, "length4", scheme=scheme, tls=asking(tmp_path, client)) as server:
        player = server.connect("length4", context=known())
        assert player.ask(b"me").body == b"me"
        refused = 0
        for context, let_in in ((trusting(), nothing), (stranger(), a_strange_one)):
            if let_in:
                assert server.connect("length4", context=context).ask(b"me").body == b"me"
                continue
            refused += 1
            # In TLS 1.3 the client is done before the server has looked at its certificate.
            with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
                server.connect("length4", context=context).wire.read()
            server.until(lambda: server.wire_errors() == {"bad-tls": refused})  # noqa: B023
        assert server.ends() == ({"protocol": refused} if refused else {})
        assert server.count("sessions_opened") == 3 - refused
        assert player.ask(b"still here").body == b"still here"

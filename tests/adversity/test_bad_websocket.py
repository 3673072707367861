"""What is not WebSocket, or not as it should be: requests that are refused in HTTP, frames that end the connection they
came on with the code for it. Each is counted, and a bystander on the same listener goes on."""

from __future__ import annotations

import contextlib
import struct
import zlib

import pytest

from photinus.config import Limits
from tests.adversity.clients import Client
from tests.adversity.doors import WebSocket
from tests.adversity.servers import Server, World, echoing, serve

pytestmark = pytest.mark.timeout(60)

KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
HEAD = b"GET /play HTTP/1.1\r\nHost: game.example\r\n"
GOOD = HEAD + UPGRADE + KEY + b"Sec-WebSocket-Version: 13\r\n\r\n"
ORIGIN = b"https://game.example"
REQUESTS = {
    "of a browser that was given the address": (HEAD + b"Accept: text/html\r\n\r\n", 426, "bad-upgrade"),
    "POST": (GOOD.replace(b"GET", b"POST"), 405, "bad-upgrade"),
    "HTTP 1.0": (GOOD.replace(b"1.1", b"1.0"), 505, "bad-upgrade"),
    "HTTP 2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 405, "bad-upgrade"),
    "no upgrade": (GOOD.replace(b"websocket", b"h2c"), 426, "bad-upgrade"),
    "no connection": (GOOD.replace(b"Connection: Upgrade", b"Connection: close"), 426, "bad-upgrade"),
    "no key": (GOOD.replace(KEY, b""), 400, "bad-upgrade"),
    "a short key": (GOOD.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"AAAA"), 400, "bad-upgrade"),
    "no host": (GOOD.replace(b"Host: game.example\r\n", b""), 400, "bad-upgrade"),
    "an older version": (GOOD.replace(b"13", b"8"), 426, "bad-upgrade"),
    "no version": (GOOD.replace(b"Sec-WebSocket-Version: 13\r\n", b""), 400, "bad-upgrade"),
    "a body": (GOOD.replace(UPGRADE, UPGRADE + b"Content-Length: 5\r\n") + b"hello", 400, "bad-upgrade"),
    "another path": (GOOD.replace(b"/play", b"/chat"), 404, "bad-path"),
    "another origin": (GOOD.replace(UPGRADE, UPGRADE + b"Origin: https://evil.example\r\n"), 403, "bad-origin"),
    "no HTTP": (b"\x01\x00\x00\x02{}", 400, "bad-upgrade"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad-upgrade"),
    "an end before the end": (GOOD.replace(UPGRADE, b"X: y\n\n" + UPGRADE), 400, "bad-upgrade"),
    "a header without a name": (GOOD.replace(UPGRADE, UPGRADE + b": nameless\r\n"), 400, "bad-upgrade"),
    "many lines": (GOOD.replace(UPGRADE, UPGRADE + b"X: y\r\n" * 100), 431, "too-long"),
    "an endless line": (HEAD + b"Cookie: " + b"c" * 9000, 431, "too-long"),
}


@pytest.mark.parametrize(("request_", "status", "reason"), REQUESTS.values(), ids=REQUESTS.keys())
def test_requests(request_: bytes, status: int, reason: str) -> None:
    options = f"length4&origins={ORIGIN.decode()}"
    with serve(echoing().app, options, scheme="ws", path="/play") as server:
        player = server.connect("length4")
        client = server.raw("length4")
        client.sendall(request_)
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"Content-Length: %d\r\n" % len(body) in head + b"\r\n"
        if status == 426:
            assert b"Upgrade: websocket" in head
            assert b"Sec-WebSocket-Version: 13" in head
        assert_ended(server, reason, player)
        assert server.count("sessions_opened") == 1


def test_a_request_that_is_cut_off() -> None:
    with serve(echoing().app, "length4", scheme="ws") as server:
        player = server.connect("length4")
        for end in (0, 3, 40, len(GOOD) - 1):
            client = server.raw("length4")
            client.sendall(GOOD[:end])
            client.close()
        server.until(lambda: server.ends() == {"left": 4})
        assert player.ask(b"still here").body == b"still here"


def frame(first: int, payload: bytes, *, masked: bool = True, length: bytes | None = None) -> bytes:
    """Masked by nothing. `length` in place of the true one: all that stands between the first byte and the mask."""
    bit = 0x80 if masked else 0
    if length is None:
        short = len(payload) < 126
        length = bytes([bit | len(payload)]) if short else bytes([bit | 126]) + struct.pack(">H", len(payload))
    return bytes([first]) + length + (bytes(4) if masked else b"") + payload


def deflated(data: bytes) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


PROTOCOL_ERROR, UNSUPPORTED, BAD_DATA, TOO_LONG = 1002, 1003, 1007, 1009
# Whatever the messages hold.
FRAMES = {
    "not masked": (frame(0x82, b"hello", masked=False), "bad-frame", PROTOCOL_ERROR),
    "a reserved bit": (frame(0xA2, b"hello"), "bad-frame", PROTOCOL_ERROR),
    "no such frame": (frame(0x83, b"hello"), "bad-frame", PROTOCOL_ERROR),
    "no such control frame": (frame(0x8B, b""), "bad-frame", PROTOCOL_ERROR),
    "a long ping": (frame(0x89, bytes(126)), "bad-frame", PROTOCOL_ERROR),
    "a ping in fragments": (frame(0x09, b"?"), "bad-frame", PROTOCOL_ERROR),
    "nothing to go on with": (frame(0x80, b"hello"), "bad-frame", PROTOCOL_ERROR),
    "a message in a message": (frame(0x02, b"hel") + frame(0x82, b"lo"), "bad-frame", PROTOCOL_ERROR),
    "a length in too many bytes": (frame(0x82, bytes(5), length=b"\xfe\x00\x05"), "bad-frame", PROTOCOL_ERROR),
    "a length of 63 bits": (frame(0x82, b"", length=b"\xff\x7f" + b"\xff" * 7), "too-long", TOO_LONG),
    "a length of 64 bits": (frame(0x82, b"", length=b"\xff" * 9), "bad-frame", PROTOCOL_ERROR),
    "fragments without end": (frame(0x02, b"") + frame(0x00, bytes(60_000)) * 9, "too-long", TOO_LONG),
    "a close of one byte": (frame(0x88, b"\x03"), "bad-frame", PROTOCOL_ERROR),
    "a close that may not be sent": (frame(0x88, struct.pack(">H", 1006)), "bad-frame", PROTOCOL_ERROR),
    "a close in no UTF-8": (frame(0x88, struct.pack(">H", 1000) + b"\xff"), "bad-text", BAD_DATA),
    "deflated without an agreement": (frame(0xC2, deflated(b"hello")), "bad-frame", PROTOCOL_ERROR),
}
# Text among the bytes of a protocol.
STREAMS = {"text": (frame(0x81, b"\0\0\0\x02hi"), "text-frame", UNSUPPORTED)}
# Where each message is a packet.
MESSAGES = {
    "text in no UTF-8": (frame(0x81, b"\xce\xba\xff"), "bad-text", BAD_DATA),
    "half a character": (frame(0x81, "ä".encode()[:1]), "bad-text", BAD_DATA),
    "half a character in fragments": (frame(0x01, b"\xf4\x90") + frame(0x80, b"\x80\x80"), "bad-text", BAD_DATA),
    "a long message": (frame(0x82, bytes(1001)), "too-long", TOO_LONG),
    "a long message in fragments": (frame(0x02, bytes(600)) + frame(0x80, bytes(600)), "too-long", TOO_LONG),
}
DEFLATED = {
    "a bomb": (frame(0xC2, deflated(bytes(50_000_000))[:60_000]), "too-long", TOO_LONG),
    "one byte too much": (frame(0xC2, deflated(bytes(1001))), "too-long", TOO_LONG),
    "noise": (frame(0xC2, b"\xff" * 100), "bad-compression", BAD_DATA),
    "text in no UTF-8": (frame(0xC1, deflated(b"\xff" * 100)), "bad-text", BAD_DATA),
    "deflated fragments": (frame(0x42, deflated(b"hi")) + frame(0xC0, b""), "bad-frame", PROTOCOL_ERROR),
    "a deflated ping": (frame(0xC9, b""), "bad-frame", PROTOCOL_ERROR),
}


@pytest.mark.parametrize(("sent", "reason", "code"), [*FRAMES.values(), *STREAMS.values()], ids=[*FRAMES, *STREAMS])
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_frames_of_a_stream(scheme: str, sent: bytes, reason: str, code: int) -> None:
    check(scheme, "length4", sent, reason, code)


@pytest.mark.parametrize(("sent", "reason", "code"), [*FRAMES.values(), *MESSAGES.values()], ids=[*FRAMES, *MESSAGES])
def test_frames_where_each_message_is_a_packet(sent: bytes, reason: str, code: int) -> None:
    check("ws", "plain", sent, reason, code, Limits(max_payload=1000))


@pytest.mark.parametrize(("sent", "reason", "code"), DEFLATED.values(), ids=DEFLATED.keys())
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_deflated_messages(scheme: str, sent: bytes, reason: str, code: int) -> None:
    check(scheme, "plain&deflate=1", sent, reason, code, Limits(max_payload=1000))


def check(scheme: str, protocol: str, sent: bytes, reason: str, code: int, limits: Limits | None = None) -> None:
    world = echoing()
    with serve(world.app, protocol, scheme=scheme, limits=limits) as server:
        player, client = (server.connect(protocol.partition("&")[0]) for _ in range(2))
        for one in (player, client):
            assert one.ask(b"here").body == b"here"
        # Enough may have been heard before all is sent.
        with contextlib.suppress(ConnectionError):
            client.socket.sendall(sent)
        assert code_of_close(client) in (code, None)
        assert_ended(server, reason, player)
        assert world.ends == [("protocol", reason)]


def code_of_close(client: Client) -> int | None:
    """`None`: none has come, since what was not read of ours has the kernel forget it."""
    assert isinstance(client.wire, WebSocket)
    ended = False
    try:
        while client.wire.read():
            pass
        ended = True
    except ConnectionError:
        pass  # it may answer a close that has come, and find nobody there
    close = client.wire.protocol.close_rcvd
    assert close is not None or not ended
    return None if close is None else close.code


def assert_ended(server: Server, reason: str, player: Client) -> None:
    server.until(server.ends)
    assert (server.ends(), server.wire_errors()) == ({"protocol": 1}, {reason: 1})
    assert player.ask(b"still here").body == b"still here"


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_close_is_answered(scheme: str) -> None:
    world: World = echoing()
    with serve(world.app, "length4", scheme=scheme) as server:
        client = server.connect("length4")
        assert client.ask(b"here").body == b"here"
        client.socket.sendall(frame(0x88, struct.pack(">H", 1000) + "Tschüß".encode()))
        assert code_of_close(client) == 1000
        server.until(lambda: world.ends == [("client", "left")])
        assert server.wire_errors() == {}

"""Bad frames: each ends the connection that it came from, under its reason, and no other."""

from __future__ import annotations

import socket

import pytest

from photinus.config import Limits
from tests.adversity.clients import Client, Ended
from tests.adversity.codecs import ALL, DATA, HEARTBEAT, KICK, leb128, name, package, reason_of
from tests.adversity.servers import echoing, serve

pytestmark = pytest.mark.timeout(30)

MAX_PAYLOAD = 1000
LIMITS = Limits(max_payload=MAX_PAYLOAD)
FIREFLY = bytes(9)

BAD = [
    pytest.param("length2", b"\x03\xe9", "too-long", id="length2-one-over"),
    pytest.param("length2", b"\xff\xff" + bytes(10), "too-long", id="length2-longest"),
    pytest.param("length2", b"GET / HTTP/1.1\r\n\r\n", "too-long", id="length2-http"),
    pytest.param("length4", b"\x00\x00\x03\xe9", "too-long", id="length4-one-over"),
    pytest.param("length4", b"\xff" * 64, "too-long", id="length4-longest"),
    pytest.param("length4", b"GET / HTTP/1.1\r\n\r\n", "too-long", id="length4-http"),
    pytest.param("firefly", FIREFLY + b"\x00\x00\x03\xed", "too-long", id="firefly-one-over"),
    pytest.param("firefly", FIREFLY + b"\xff" * 4, "too-long", id="firefly-longest"),
    pytest.param("firefly", b"G", "bad-magic", id="firefly-first-byte"),
    pytest.param("firefly", b"\x00\x00\x00\x01", "bad-magic", id="firefly-last-magic-byte"),
    pytest.param("firefly", b"\x00\x00\x00\x00\x01", "bad-magic", id="firefly-protocol-version"),
    pytest.param("firefly", bytes(8) + b"\x01", "bad-version", id="firefly-server-version"),
    pytest.param("firefly", FIREFLY + b"\x00\x00\x00\x03", "bad-frame", id="firefly-without-command"),
    pytest.param("pomelo", b"\x04\x00\x04\xef", "too-long", id="pomelo-package-one-over"),
    pytest.param(
        "pomelo", package(DATA, b"\x02" + name("go") + bytes(MAX_PAYLOAD + 1)), "too-long", id="pomelo-payload"
    ),
    pytest.param("pomelo", b"\x04\xff\xff\xff", "too-long", id="pomelo-longest"),
    pytest.param("pomelo", package(HEARTBEAT, bytes(65))[:4], "too-long", id="pomelo-heartbeat"),
    pytest.param("pomelo", b"G", "bad-frame", id="pomelo-http"),
    pytest.param("pomelo", package(0), "bad-frame", id="pomelo-type-0"),
    pytest.param("pomelo", package(KICK, b"{}"), "bad-frame", id="pomelo-kick"),
    pytest.param("pomelo", package(DATA), "bad-frame", id="pomelo-no-message"),
    pytest.param("pomelo", package(DATA, b"\x00"), "bad-frame", id="pomelo-no-id"),
    pytest.param("pomelo", package(DATA, b"\x00\xff\xff\xff\xff\xff\x01"), "bad-frame", id="pomelo-endless-id"),
    pytest.param("pomelo", package(DATA, b"\x00" + leb128(2**32) + name("go")), "bad-frame", id="pomelo-33-bit-id"),
    pytest.param("pomelo", package(DATA, b"\x02\xffgo"), "bad-frame", id="pomelo-route-beyond-package"),
    pytest.param("pomelo", package(DATA, b"\x02\x02\xff\xfe"), "bad-frame", id="pomelo-route-no-utf8"),
    pytest.param("pomelo", package(DATA, b"\x04\x01{}"), "bad-frame", id="pomelo-answer"),
    pytest.param("pomelo", package(DATA, b"\x06" + name("go")), "bad-frame", id="pomelo-push"),
    pytest.param("pomelo", package(DATA, b"\x03\x00\x01"), "bad-frame", id="pomelo-dictionary-number"),
    pytest.param("photinus", b"\x06\x8b\x08", "too-long", id="photinus-one-over"),
    pytest.param("photinus", b"\x06\xff\xff\xff\x7f", "too-long", id="photinus-longest"),
    pytest.param("photinus", b"\x06\x80\x80\x80\x80", "bad-frame", id="photinus-endless-length"),
    pytest.param("photinus", b"\x06\x81\x00", "bad-frame", id="photinus-long-form"),
    pytest.param("photinus", b"\x0e\x00", "bad-frame", id="photinus-type-14"),
    pytest.param("photinus", b"\x01\x03\x01\x01\x01", "bad-frame", id="photinus-second-hello"),
    pytest.param("photinus", b"\x46\x01\x00", "bad-frame", id="photinus-flag"),
    pytest.param("photinus", b"\x06\x01\x07", "bad-frame", id="photinus-unnamed-route"),
    pytest.param("photinus", b"\x05\x00", "bad-frame", id="photinus-empty-name"),
    pytest.param("photinus", b"\x05\x01\xff", "bad-frame", id="photinus-name-no-utf8"),
    pytest.param("photinus", b"\x0a\x03\x00\x00\x00", "bad-frame", id="photinus-short-heartbeat"),
    pytest.param("photinus", b"\x0a\x05\x00\x00\x00\x00\x00", "bad-frame", id="photinus-long-heartbeat"),
    pytest.param("photinus", b"\x0a\x33", "too-long", id="photinus-heartbeat-too-long"),
    pytest.param("photinus", b"\x0d\x01", "too-long", id="photinus-leave"),
    pytest.param("photinus", b"\x16\x02\x00a", "compression-unsupported", id="photinus-compressed"),
    pytest.param("pomelo", package(DATA, b"\x12" + name("go")), "compression-unsupported", id="pomelo-compressed"),
]


@pytest.mark.parametrize(("protocol", "bad", "reason"), BAD)
def test_a_bad_frame_ends_its_connection_alone(protocol: str, bad: bytes, reason: str) -> None:
    world = echoing()
    with serve(world.app, limits=LIMITS) as server:
        bystanders = [server.connect(other) for other in ALL]
        client = server.connect(protocol)
        assert client.ask(b"first").body == b"first"
        # What comes before it counts, also in the same piece; what comes behind it does not.
        client.write(client.codec.packet(b"before") + bad + client.codec.packet(b"behind"))
        assert [reason_of(said) for said in client.rest()] == [reason] * client.codec.has_errors
        server.until(lambda: world.ends)
        assert world.heard == [b"first", b"before"]
        assert world.ends == [("protocol", reason)]
        assert server.ends() == {"protocol": 1}
        assert server.wire_errors() == {reason: 1}
        assert [other.ask(b"still here").body for other in bystanders] == [b"still here"] * len(ALL)
        assert server.count("sessions") == len(ALL)


@pytest.mark.parametrize("protocol", ALL)
def test_the_longest_payload_is_taken(protocol: str) -> None:
    with serve(echoing().app, protocol, limits=LIMITS) as server:
        client = server.connect(protocol)
        longest = bytes(range(250)) * 4
        assert client.ask(longest).body == longest
        assert client.ask(b"").body == b""


@pytest.mark.parametrize("protocol", ALL)
def test_frames_may_come_in_any_pieces(protocol: str) -> None:
    with serve(echoing().app, protocol) as server:
        client = server.connect(protocol)
        bodies = [b"", b"a", b"bc", b"d" * 300]
        frames = b"".join(map(client.codec.packet, bodies))
        for piece in (1, 2, 7, len(frames)):
            for at in range(0, len(frames), piece):
                client.write(frames[at : at + piece])
            assert [client.hear().body for _ in bodies] == bodies


# Of a session that can be resumed it is the connection that ends, without a word.
ENDED_WITH_THEIR_CONNECTION = [protocol + "&resume=0" * (protocol == "photinus") for protocol in ALL]


@pytest.mark.parametrize("protocol", ENDED_WITH_THEIR_CONNECTION)
@pytest.mark.parametrize("cut", [1, -1], ids=["head", "body"])
def test_half_a_frame_and_then_silence(protocol: str, cut: int) -> None:
    world = echoing()
    with serve(world.app, *ENDED_WITH_THEIR_CONNECTION, limits=Limits(frame_ms=50)) as server:
        quiet = [server.connect(other) for other in ENDED_WITH_THEIR_CONNECTION]
        client = server.connect(protocol)
        assert client.ask(b"whole").body == b"whole"
        client.write(client.codec.packet(b"half a frame")[:cut])
        _ended_by_frame_timeout(client)
        server.until(lambda: world.ends)
        assert world.ends == [("protocol", "frame-timeout")]
        assert server.ends() == {"frame_timeout": 1}
        # Silence alone is no fault.
        assert [other.ask(b"still here").body for other in quiet] == [b"still here"] * len(ALL)


@pytest.mark.parametrize("protocol", ENDED_WITH_THEIR_CONNECTION)
def test_a_frame_that_trickles_without_an_end(protocol: str) -> None:
    with serve(echoing().app, protocol, limits=Limits(frame_ms=50)) as server:
        client = server.connect(protocol)
        frame = client.codec.packet(bytes(60_000))
        client.write(frame[:20])
        _trickle(client, frame[20:])
        server.until(server.ends)
        assert server.ends() == {"frame_timeout": 1}


@pytest.mark.parametrize("protocol", ALL)
def test_clients_that_say_something_and_leave_at_once(protocol: str) -> None:
    """The packet and the end of the stream come in one: both count."""
    world = echoing()
    with serve(world.app, protocol) as server:
        for number in range(50):
            client = server.connect(protocol)
            client.socket.shutdown(socket.SHUT_RD)
            client.say(b"%d" % number)
            client.close()
        server.until(lambda: len(world.ends) == 50)
        assert sorted(map(int, world.heard)) == list(range(50))
        # Its answer may find the client gone.
        assert server.ends().keys() <= {"left", "reset"}


@pytest.mark.parametrize("protocol", ALL)
def test_clients_that_vanish(protocol: str) -> None:
    world = echoing()
    with serve(world.app, protocol) as server:
        clients = [server.connect(protocol) for _ in range(4)]
        assert [client.ask(b"here").body for client in clients] == [b"here"] * 4
        half = clients[0].codec.packet(b"half a frame")[:-1]
        for client in clients[:2]:
            client.write(half)
        clients[0].close()
        clients[1].reset()
        clients[2].close()
        clients[3].reset()
        server.until(lambda: len(world.ends) == 4)
        assert sorted(world.ends) == [("client", "left")] * 2 + [("network", "reset")] * 2
        assert server.ends() == {"left": 2, "reset": 2}


def _ended_by_frame_timeout(client: Client) -> None:
    farewell = client.rest()
    assert [reason_of(said) for said in farewell] == ["frame-timeout"] * client.codec.has_errors


def _trickle(client: Client, data: bytes) -> None:
    """A byte after the other, until the server has had enough."""
    client.socket.settimeout(0.005)
    for at in range(len(data)):
        try:
            client.write(data[at : at + 1])
            client.hear()
        except TimeoutError:
            continue
        except (Ended, ConnectionError):
            pass
        return
    pytest.fail("the server waited for all of it")

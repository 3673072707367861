"""Payloads that are compressed, and what is sent in their place."""

from __future__ import annotations

import msgspec
import pytest

from photinus import Group, Session
from photinus.config import Limits
from photinus.errors import ConfigError
from tests.adversity.clients import Client
from tests.adversity.codecs import COMPRESSED, Photinus, Pomelo, frame, reason_of
from tests.adversity.compressors import TRAINED, compress, hello, inflate, without_its_size
from tests.adversity.doors import SCHEMES
from tests.adversity.servers import Server, echoing, serve

pytestmark = pytest.mark.timeout(60)

POMELO = "pomelo&compress=zlib&threshold=100"
PHOTINUS = f"photinus&compress=zstd,snappy,zlib&threshold=100&dictionary={TRAINED}"
BOTH = (POMELO, PHOTINUS)
KINDS = (
    ("pomelo", "zlib"),
    ("photinus", "zlib"),
    ("photinus", "snappy"),
    ("photinus", "zstd"),
    ("photinus", "trained"),
)
# Of the application's messages: text in which much comes again.
NEWS = msgspec.json.encode([{"player": number, "name": "cleo", "alive": True} for number in range(40)])


class Peer:
    """A client that compresses all that it says, if it may."""

    def __init__(self, server: Server, protocol: str, algorithm: str) -> None:
        self.algorithm = algorithm
        self.client: Client = server.connect(protocol, hello=protocol == "pomelo")
        assert isinstance(self.client.codec, Pomelo | Photinus)
        self.codec = self.client.codec
        if protocol == "photinus":
            self.client.write(frame(1, hello(algorithm)))
            assert self.client.hear().kind == "handshake"
            self.client.write(frame(10, b"\x00\x01\x00\x00"))

    def say(self, body: bytes) -> None:
        self.client.write(self.packet(compress(self.algorithm, body)))

    def packet(self, compressed: bytes) -> bytes:
        return self.codec.packet(compressed, flags=COMPRESSED)

    def hear(self) -> tuple[bytes, bool]:
        """What was said next, and whether it was compressed."""
        said = self.client.hear()
        body = inflate(self.algorithm, said.body) if said.compressed else said.body
        return body, said.compressed


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_echo(scheme: str, threads: int) -> None:
    world = echoing()
    with serve(world.app, *BOTH, scheme=scheme, threads=threads) as server:
        for protocol, algorithm in KINDS:
            peer = Peer(server, protocol, algorithm)
            for size in (1, 99, 100, 101, 4096, 65536):
                body = (NEWS * 50)[:size]
                peer.say(body)
                assert peer.hear() == (body, size >= 100)
                peer.client.say(body)
                assert peer.hear() == (body, size >= 100)
        assert server.count("inflated") == 6 * len(KINDS)
        assert server.count("compressed") == 2 * 4 * len(KINDS)
        total = 2 * len(KINDS) * (100 + 101 + 4096 + 65536)
        assert server.count("compressed_from_bytes") == total
        assert server.count("compressed_to_bytes") < total / 8


@pytest.mark.parametrize(("protocol", "algorithm"), KINDS)
def test_many_in_one_piece_and_in_small_ones(protocol: str, algorithm: str) -> None:
    with serve(echoing().app, *BOTH) as server:
        peer = Peer(server, protocol, algorithm)
        bodies = [NEWS[number:] for number in range(200)]
        frames = b"".join(peer.packet(compress(algorithm, body)) for body in bodies)
        for piece in (len(frames), 977, 100):
            for at in range(0, len(frames), piece):
                peer.client.write(frames[at : at + piece])
            assert [peer.hear() for _ in bodies] == [(body, True) for body in bodies]


def test_a_frame_that_does_not_tell_its_size() -> None:
    with serve(echoing().app, PHOTINUS) as server:
        peer = Peer(server, "photinus", "zstd")
        for size in (10, 4096, 4097, 65536):
            peer.client.write(peer.packet(without_its_size((NEWS * 50)[:size])))
            assert peer.hear()[0] == (NEWS * 50)[:size]


def bad_of(algorithm: str) -> list[tuple[str, bytes, str]]:
    whole = compress(algorithm, NEWS)
    bad = [
        ("bomb", compress(algorithm, bytes(1_000_000)), "too-long"),
        ("one byte over", compress(algorithm, bytes(65537)), "too-long"),
        ("cut off", whole[:-1], "bad-compression"),
        ("something behind", whole + b"\x00", "bad-compression"),
        ("twice", whole + whole, "bad-compression"),
        ("garbage", bytes(range(255, 0, -1)), "bad-compression"),
        ("nothing", b"", "bad-compression"),
        ("plain", NEWS, "bad-compression"),
    ]
    if algorithm == "zstd":
        bad += [
            ("bomb without its size", without_its_size(bytes(1_000_000)), "too-long"),
            ("another dictionary", compress("trained", NEWS), "bad-compression"),
            ("to be skipped", b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd", "bad-compression"),
        ]
    return bad


@pytest.mark.parametrize(("protocol", "algorithm"), KINDS)
def test_bombs_and_garbage_end_their_connection_alone(protocol: str, algorithm: str) -> None:
    world = echoing()
    with serve(world.app, *BOTH) as server:
        bystanders = [Peer(server, *kind) for kind in KINDS]
        counted: dict[str, int] = {}
        for name, payload, reason in bad_of(algorithm):
            peer = Peer(server, protocol, algorithm)
            peer.say(b"before")
            assert peer.hear()[0] == b"before"
            assert len(payload) < 65536, name
            peer.client.write(peer.packet(payload) + peer.packet(compress(algorithm, b"behind")))
            assert [reason_of(said) for said in peer.client.rest()] == [reason], name
            counted[reason] = counted.get(reason, 0) + 1
            assert server.wire_errors() == counted
            for bystander in bystanders:
                bystander.say(NEWS)
                assert bystander.hear() == (NEWS, True)
        assert b"behind" not in world.heard


@pytest.mark.parametrize("scheme", ["tcp", "wss"])
def test_bombs_are_inflated_as_they_are_handled(scheme: str) -> None:
    """Each of some clients has sent what becomes 6 MB, while the loop handles nothing."""
    world = echoing()
    limits = Limits(inbound_session_bytes=200_000)
    with serve(world.app, *BOTH, limits=limits, scheme=scheme) as server:
        peers = [Peer(server, *kind) for kind in KINDS]
        bodies = [bytes([number]) * 60_000 for number in range(100)]
        sent = 0
        with server.stuck():
            for peer in peers:
                wire = b"".join(peer.codec.notify(compress(peer.algorithm, body), flags=COMPRESSED) for body in bodies)
                sent += len(wire)
                peer.client.write(wire)
            server.until(lambda: server.count("paused_now") == len(peers))
            assert server.count("unhandled_bytes") <= len(peers) * 260_000 + sent
        server.until(lambda: len(world.heard) == len(peers) * len(bodies))
        assert sorted(world.heard) == sorted(bodies * len(peers))
        server.until(lambda: server.count("partial_bytes") == 0)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_waits_for_room_is_handled_though_its_client_has_left(scheme: str) -> None:
    world = echoing()
    with serve(world.app, POMELO, scheme=scheme) as server:
        peer = Peer(server, "pomelo", "zlib")
        bodies = [bytes([number]) * 60_000 for number in range(20)]
        wire = b"".join(peer.codec.notify(compress("zlib", body), flags=COMPRESSED) for body in bodies)
        with server.stuck():
            peer.client.write(wire)
            server.until(lambda: server.count("paused_now") == 1)
            peer.client.close()
        server.until(lambda: len(world.ends) == 1)
        assert world.heard == bodies
        assert [by for by, _ in world.ends] in (["client"], ["network"])


def test_what_it_becomes_counts_as_sent() -> None:
    limits = Limits(session_bytes_per_s=100_000)
    with serve(echoing().app, *BOTH, limits=limits) as server:
        for count, (protocol, algorithm) in enumerate(KINDS, start=1):
            peer = Peer(server, protocol, algorithm)
            wire = peer.codec.notify(compress(algorithm, bytes(60_000)), flags=COMPRESSED)
            peer.client.write(wire * 30)
            assert "flood" in [reason_of(said) for said in peer.client.rest() if said.kind == "kick"]
            assert server.wire_errors() == {"flood": count}


@pytest.mark.parametrize("scheme", ["tcp", "ws"])
def test_a_secret_is_never_compressed(scheme: str) -> None:
    world = echoing()

    @world.routes.on("password", public=True, secret=True)
    def password(session: Session, body: bytes) -> bytes:
        session.send("told", body)
        session.send("told", body, secret=True)
        return body

    with serve(world.app, *BOTH, scheme=scheme) as server:
        for protocol, algorithm in KINDS:
            peer = Peer(server, protocol, algorithm)
            peer.client.say(NEWS, "password")
            told = [peer.client.hear() for _ in range(3)]
            assert [(said.kind, said.compressed) for said in told] == [
                ("push", True),
                ("push", False),
                ("response", False),
            ]
            assert inflate(algorithm, told[0].body) == told[1].body == told[2].body == NEWS
        group = Group("all")
        server.call(lambda: [group.add(session) for session in world.sessions])
        server.call(lambda: group.send("told", NEWS, secret=True))
        for client in server.clients:
            said = client.hear()
            assert (said.compressed, said.body) == (False, NEWS)
        assert server.count("compressed") == len(KINDS)


@pytest.mark.parametrize("threads", [0, 1])
@pytest.mark.parametrize("scheme", ["tcp", "ws"])
def test_a_broadcast_is_compressed_once_for_each_agreement(scheme: str, threads: int) -> None:
    world = echoing()
    with serve(world.app, *BOTH, scheme=scheme, threads=threads) as server:
        # Neighbours in the group have agreed on different things, and some on nothing.
        kinds = (*KINDS, ("photinus", ""))
        peers = [Peer(server, *kind) for _ in range(6) for kind in kinds]
        server.until(lambda: len(world.sessions) == len(peers))
        group = Group("all")
        server.call(lambda: [group.add(session) for session in world.sessions])
        news = [NEWS[number:] for number in range(10)]
        for body in news[:5]:  # each alone in its turn
            server.send([group], [body])
        server.send([group], news[5:])
        for peer in peers:
            assert [peer.hear() for _ in news] == [(body, bool(peer.algorithm)) for body in news]
        assert server.count("compressed") == len(news) * len(KINDS)
        assert server.count("packets_out") == len(news) * len(peers)


def test_what_does_not_become_shorter_is_sent_as_it_is() -> None:
    with serve(echoing().app, *BOTH) as server:
        noise = compress("zlib", b"".join(number.to_bytes(4, "big") for number in range(0, 1 << 24, 4099)))
        for count, (protocol, algorithm) in enumerate(KINDS, start=1):
            peer = Peer(server, protocol, algorithm)
            peer.client.say(noise)
            assert peer.hear() == (noise, False)
            assert server.count("not_shorter") == count


def test_a_bad_dictionary_is_named() -> None:
    world = echoing()
    for path, algorithms in ((__file__, "zstd"), ("/nowhere", "zlib,zstd"), (TRAINED, "zlib")):
        listener = f"photinus&compress={algorithms}&dictionary={path}"
        with pytest.raises(ConfigError, match=f'"dictionary" of protocol photinus is "{path}": expected .*zstd'):  # noqa: SIM117
            with serve(world.app, listener):
                pass

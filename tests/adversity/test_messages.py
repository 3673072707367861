"""Well-framed packets that make no sense, and handlers that fail: answered, counted, and the session lives."""

from __future__ import annotations

import asyncio
import logging

import msgspec
import pytest

from photinus import Refused, Session
from tests.adversity.codecs import ALL, Codec, Firefly, Pomelo, Said
from tests.adversity.servers import Point, World, echoing, serve, serving

pytestmark = pytest.mark.timeout(30)


class Odd(msgspec.Struct):
    value: object


def packed(codec: Codec, value: object) -> bytes:
    return msgspec.json.encode(value) if codec.serializer == "json" else msgspec.msgpack.encode(value)


def unpacked(codec: Codec, said: Said) -> dict[str, object]:
    decode = msgspec.json.decode if codec.serializer == "json" else msgspec.msgpack.decode
    value: dict[str, object] = decode(said.body)
    return value


def test_an_unknown_route() -> None:
    with serve(echoing().app, "pomelo") as server:
        client = server.connect()
        said = client.ask(b"{}", "nowhere")
        assert (said.kind, said.number, unpacked(client.codec, said)["code"]) == ("error", 1, "unknown-route")
        assert server.count("unknown_routes") == 0
        assert isinstance(client.codec, Pomelo)
        for route in ("nowhere", "", "é" * 127):
            client.write(client.codec.notify(b"{}", route))
        assert client.ask(b"next").body == b"next"
        assert server.count("unknown_routes") == 3
        statistics = server.node.statistics()["app"]
        assert (statistics["refused"], statistics["handler_errors"]) == (1, 0)


@pytest.mark.parametrize("protocol", ALL)
def test_nobody_handles_what_has_no_route(protocol: str) -> None:
    """Without a default handler it is refused, which these protocols cannot tell their client."""
    world = World()

    @world.routes.on(7, public=True)
    @world.routes.on("go", public=True)
    def go(session: Session, body: bytes) -> bytes:
        return body

    with serve(world.app, protocol) as server:
        client = server.connect(protocol)
        refused = 0 if protocol in ("pomelo", "photinus") else 1
        client.say(b"one")
        server.until(lambda: server.node.statistics()["app"]["refused"] == refused)
        if isinstance(client.codec, Firefly):
            client.write(client.codec.packet(b"two", command=7))
            assert client.hear() == Said("message", b"two", 7)
        server.until(lambda: server.node.statistics()["loop"]["handled"] >= 1)
        assert server.count("sessions") == 1


@pytest.mark.parametrize("protocol", ALL)
def test_a_payload_that_does_not_decode(protocol: str) -> None:
    heard: list[Point] = []

    def move(session: Session, at: Point) -> Point:
        heard.append(at)
        return at

    with serve(serving(move).app, protocol) as server:
        client = server.connect(protocol)
        codec = client.codec
        bad = [packed(codec, {"x": 1}), packed(codec, {"x": 1, "y": "two"}), b"", b"\xc1", packed(codec, [1])]
        for body in bad:
            client.say(body)
        answers = [client.hear() for _ in bad] if codec.has_errors else []
        assert unpacked(codec, client.ask(packed(codec, Point(3, 4)))) == {"x": 3, "y": 4}
        assert heard == [Point(3, 4)]
        assert server.node.statistics()["app"]["bad_messages"] == len(bad)
        if codec.has_errors:
            told = [unpacked(codec, said) for said in answers]
            assert [said.kind for said in answers] == ["error"] * len(bad)
            assert [said.number for said in answers] == [1, 2, 3, 4, 5]
            assert {said["code"] for said in told} == {"bad-message"}
            assert "`y`" in str(told[0]["msg"])
            assert "`$.y`" in str(told[1]["msg"])


@pytest.mark.parametrize("protocol", ALL)
@pytest.mark.parametrize("suspends", [False, True], ids=["def", "async"])
def test_a_handler_that_raises(protocol: str, suspends: bool, failures: list[logging.LogRecord]) -> None:
    def divide(body: bytes) -> bytes:
        return b"%d" % (100 // int(body))

    def at_once(session: Session, body: bytes) -> bytes:
        return divide(body)

    async def later(session: Session, body: bytes) -> bytes:
        await asyncio.sleep(0)
        return divide(body)

    with serve(serving(later if suspends else at_once).app, protocol) as server:
        client, other = server.connect(protocol), server.connect(protocol)
        client.say(b"0")
        if client.codec.has_errors:
            said = client.hear()
            assert (said.kind, said.number) == ("error", 1)
            assert unpacked(client.codec, said) == {"code": "internal", "msg": "internal error"}
        assert client.ask(b"5").body == b"20"
        assert other.ask(b"4").body == b"25"
        assert server.node.statistics()["app"]["handler_errors"] == 1
        assert len(failures) == 1
        assert failures[0].exc_info is not None
        assert failures[0].exc_info[0] is ZeroDivisionError
        assert "in divide" in str(failures[0].exc_text or logging.Formatter().format(failures[0]))


@pytest.mark.parametrize("protocol", ALL)
def test_a_reply_that_cannot_be_encoded(protocol: str, failures: list[logging.LogRecord]) -> None:
    def odd(session: Session, body: bytes) -> Odd:
        return Odd(1 if body == b"1" else object())

    with serve(serving(odd).app, protocol) as server:
        client = server.connect(protocol)
        client.say(b"0")
        if client.codec.has_errors:
            assert unpacked(client.codec, client.hear())["code"] == "internal"
        assert unpacked(client.codec, client.ask(b"1")) == {"value": 1}
        assert len(failures) == 1


@pytest.mark.parametrize("protocol", ALL)
def test_before_the_login(protocol: str) -> None:
    world = World()

    async def act(session: Session, body: bytes) -> bytes:
        return body

    async def enter(session: Session, body: bytes) -> bytes:
        await session.login(body.decode())
        return b"welcome"

    world.routes.on("act")(act)
    world.routes.on(2)(act)
    world.routes.on("go", public=True)(enter)
    world.routes.default(enter)
    with serve(world.app, protocol) as server:
        client = server.connect(protocol)
        codec = client.codec

        def acting(body: bytes) -> bytes:
            return codec.packet(body, command=2) if isinstance(codec, Firefly) else codec.packet(body, "act")

        if protocol in ("length2", "length4"):
            return  # nothing tells one route from the other
        client.write(acting(b"too early"))
        if codec.has_errors:
            assert unpacked(codec, client.hear())["code"] == "login-required"
        assert client.ask(b"ann").body == b"welcome"
        client.write(acting(b"in time"))
        assert client.hear().body == b"in time"
        assert server.node.statistics()["app"]["refused"] == 1


def test_a_default_that_is_not_public() -> None:
    world = World()

    @world.routes.default(public=False)
    def act(session: Session, body: bytes) -> bytes:
        return body

    with serve(world.app, "length4") as server:
        client = server.connect("length4")
        client.say(b"too early")
        server.until(lambda: server.node.statistics()["app"]["refused"] == 1)
        assert server.count("sessions") == 1


def test_a_refusal_says_what_the_rules_have_to_say() -> None:
    def buy(session: Session, body: bytes) -> bytes:
        if body == b"0":
            raise Refused("too-expensive", price=7)
        return body

    with serve(serving(buy).app) as server:
        for protocol in ALL:
            client = server.connect(protocol)
            client.say(b"0")
            if client.codec.has_errors:
                told = unpacked(client.codec, client.hear())
                assert told == {"code": "too-expensive", "msg": "too-expensive", "price": 7}
            assert client.ask(b"1").body == b"1"
        assert server.node.statistics()["app"]["refused"] == len(ALL)

"""The photinus protocol without a connection: against the golden vectors, and what no single frame shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from photinus.client.compression import Algorithm, Zlib, available
from photinus.client.events import Elsewhere, InLine, Kick, Opened, Push, Response, Turned
from photinus.client.frames import Fault
from photinus.client.photinus import COUNTED_FRAMES, KEPT_BYTES, MAX_PAYLOAD_BYTES, MAX_ROUTES, Photinus
from tests.wire.reading import Listener, Outcome
from tests.wire.reference import decode, encode

VECTORS = json.loads((Path(__file__).parents[1] / "wire" / "photinus.json").read_text("utf-8"))
LISTENER = Listener("photinus", {}, 65536)
TOKEN = bytes(range(20)).hex()


class Transparent(Algorithm):
    """In place of algorithms that are not here: payloads stay as they are on the wire."""

    def compress(self, body: bytes) -> bytes:
        return body

    def inflate(self, body: bytes, limit: int) -> bytes:
        return body


def from_server(*vectors: str) -> list[Any]:
    of_servers = [vector for vector in VECTORS["vectors"] if vector["direction"] == "server"]
    return [pytest.param(vector, id=vector["name"]) for vector in of_servers]


def told(event: dict[str, Any]) -> Any:
    """What the client makes of an event of the vectors; None for what it keeps to itself."""
    match event["event"]:
        case "welcome":
            status = ("new", "resumed", "gap")[event["status"]]
            return Opened(event["heartbeat"] / 1000, status)  # type: ignore[arg-type]
        case "refusal":
            after = event["retry_after"]
            return Turned(event["code"], None if after is None else after / 1000)
        case "wait":
            estimate = event["estimate"]
            return InLine(event["place"], None if estimate is None else estimate / 1000)
        case "push":
            return Push(event["route"], bytes.fromhex(event["body"]))
        case "response" | "error" as kind:
            return Response(event["id"], bytes.fromhex(event["body"]), kind == "error")
        case "kick":
            return Kick(event["reason"] or "kicked")
        case "redirect":
            return Elsewhere(event["url"])
        case _:
            return None


def events_of(protocol: Photinus) -> list[Any]:
    events = []
    while (event := protocol.poll_event()) is not None:
        events.append(event)
    return events


@pytest.mark.parametrize("vector", from_server())
@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_what_servers_say(vector: dict[str, Any], size: int) -> None:
    protocol = Photinus(algorithms={1: Transparent(), 2: Transparent()})
    # The server has what it says that it has; and only who had a session is welcomed back.
    protocol._sent = max((event.get("received") or 0 for event in vector["events"]), default=0)
    if any(event.get("status") for event in vector["events"]):
        protocol._token = bytes(20)
    out = bytearray()
    protocol.handshake(out)
    before = bytes.fromhex(vector.get("before", ""))
    data = bytes.fromhex(vector["hex"])
    protocol.handle_data(before, out)
    events_of(protocol)
    failure = None
    for at in range(0, len(data), size):
        try:
            protocol.handle_data(data[at : at + size], out)
        except Fault as fault:
            failure = fault.reason
            break
    assert events_of(protocol) == [event for event in map(told, vector["events"]) if event is not None]
    assert failure == vector.get("refused")
    if failure is not None:
        with pytest.raises(Fault) as again:
            protocol.handle_data(b"", out)
        assert again.value.reason == failure


@pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["name"]) for vector in VECTORS["compressed"]])
def test_what_is_inflated(vector: dict[str, Any]) -> None:
    algorithm = available().get({"zlib": 1, "snappy": 2, "zstd": 3}[vector["algorithm"]])
    if algorithm is None:
        assert vector["algorithm"] == "snappy"
        return
    data = bytes.fromhex(vector["hex"])
    if vector["error"] is None:
        assert algorithm.inflate(data, vector["limit"]).hex() == vector["plain"]
    else:
        with pytest.raises(Fault) as fault:
            algorithm.inflate(data, vector["limit"])
        assert fault.value.reason == vector["error"]


@pytest.mark.parametrize("algorithm", available().values())
def test_what_is_compressed_is_inflated(algorithm: Algorithm) -> None:
    body = b"hello" * 1000
    assert len(algorithm.compress(body)) < 100
    assert algorithm.inflate(algorithm.compress(body), len(body)) == body


# What a client writes is read by the reference codec, as a server.


def server(*messages: dict[str, Any]) -> bytes:
    return b"".join(encode(LISTENER, message) for message in messages)


def welcome(**fields: Any) -> bytes:
    return server({"kind": "welcome", "status": 0, "clock": 1_000_000, **fields})


def heartbeat(received: int = 0, clock: int = 2_000_000, echo: int = 0, held: int = 0, rate: int = 1_000_000) -> bytes:
    told = {"received": received, "clock": clock, "echo": echo, "held": held, "rate": rate}
    return server({"kind": "heartbeat", **told})


class Talk:
    """A client's protocol, and what its server has read on this connection."""

    def __init__(self, protocol: Photinus | None = None, **fields: Any) -> None:
        self.protocol = Photinus() if protocol is None else protocol
        self.fields = fields
        self.now = 0.0
        self.connect()

    def connect(self) -> None:
        self.out = bytearray()
        self.read = 0
        self.protocol.handshake(self.out, self.now)

    def hear(self, data: bytes) -> list[Any]:
        self.protocol.handle_data(data, self.out, self.now)
        return events_of(self.protocol)

    def said(self) -> list[dict[str, Any]]:
        """Since the last look, without the `event` of which each is."""
        outcome = self.outcome()
        assert outcome.error is None
        assert outcome.left == 0
        new = outcome.events[self.read :]
        self.read = len(outcome.events)
        return new

    def outcome(self) -> Outcome:
        return decode(LISTENER, "server", [bytes(self.out)])

    def opened(self, **fields: Any) -> Talk:
        assert self.hear(welcome(**fields)) == [Opened(10.0)]
        kinds = [event["event"] for event in self.said()]
        assert kinds == ["hello", "heartbeat"]
        return self

    def request(self, route: str, body: bytes) -> int:
        return self.protocol.request(route, body, self.out)

    def notify(self, route: str, body: bytes, *, droppable: bool = False) -> None:
        self.protocol.notify(route, body, self.out, droppable=droppable)

    def cut(self) -> None:
        self.protocol.cut()
        self.now += 1
        self.connect()


def resumable(**fields: Any) -> Talk:
    return Talk().opened(token=TOKEN, window=30_000, **fields)


def packets(events: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [
        (event["name"],) if event["event"] == "route" else (event["id"], event["route"], bytes.fromhex(event["body"]))
        for event in events
        if event["event"] in ("route", "packet")
    ]


def answer(number: int, body: bytes = b"") -> bytes:
    return server({"kind": "response", "id": number, "body": body.hex()})


def test_a_hello() -> None:
    talk = Talk(Photinus(name="game 1"))
    assert talk.said() == [{"event": "hello", "compression": None, "token": None, "received": None}]
    assert b"game 1" in talk.out


def test_routes_are_named_once() -> None:
    talk = Talk().opened()
    talk.notify("move", b"1")
    assert talk.request("move", b"2") == 0
    talk.notify("said", b"3")
    assert packets(talk.said()) == [("move",), (0, 0, b"1"), (0, 0, b"2"), ("said",), (0, 1, b"3")]


def test_the_smallest_free_id() -> None:
    talk = Talk().opened()
    assert [talk.request("a", b"") for _ in range(3)] == [0, 1, 2]
    assert talk.hear(answer(1)) == [Response(1, b"", error=False)]
    assert [talk.request("a", b"") for _ in range(2)] == [1, 3]
    # An answer that nobody asked for frees nothing.
    talk.hear(answer(77))
    assert talk.request("a", b"") == 4


def test_heartbeats_are_answered_and_tell_the_way() -> None:
    talk = Talk().opened()
    talk.now = 5.0
    talk.hear(heartbeat(echo=1_000_001, held=3_900_000, clock=9_000_000))
    assert talk.said() == [{"event": "heartbeat", "received": 0, "clock": 5_000_001, "echo": 9_000_000, "held": 0}]
    clock = talk.protocol.clock
    assert clock.round_trip == pytest.approx(0.1)
    assert clock.time(5.0) == pytest.approx(9.05)
    assert clock.time(6.0) == pytest.approx(10.05)
    # What was never said is not believed.
    talk.hear(heartbeat(echo=9_000_000, held=0))
    assert clock.round_trip == pytest.approx(0.1)


def test_the_server_s_clock_goes_at_its_rate_and_never_back() -> None:
    talk = Talk().opened()
    clock = talk.protocol.clock
    talk.hear(heartbeat(echo=1, clock=10_000_000, rate=500_000))
    assert clock.time(2.0) == pytest.approx(11.0)
    talk.now = 2.0
    talk.hear(heartbeat(echo=2_000_001, clock=10_500_000, rate=500_000))
    assert clock.time(2.0) == pytest.approx(11.0)
    assert clock.time(4.0) == pytest.approx(11.5)
    assert clock.rate == 0.5


def test_a_clock_that_was_on_its_way_for_nobody_knows_how_long_is_a_lower_bound() -> None:
    talk = Talk().opened()
    clock = talk.protocol.clock
    talk.hear(heartbeat(echo=1, clock=10_000_000))
    talk.now = 2.0
    talk.hear(heartbeat(clock=11_000_000))
    assert clock.time(2.0) == pytest.approx(12.0)
    talk.hear(heartbeat(clock=12_500_000))
    assert clock.time(3.0) == pytest.approx(13.5)
    talk.protocol.forget()
    talk.hear(heartbeat(clock=1_000_000))
    assert clock.time(2.5) == pytest.approx(1.5)


def test_the_handshake_tells_the_way_unless_it_waited_in_line() -> None:
    talk = Talk()
    talk.now = 0.2
    talk.opened()
    assert talk.protocol.clock.round_trip == pytest.approx(0.2)
    talk = Talk()
    talk.now = 30.0
    assert talk.hear(server({"kind": "wait", "place": 3, "estimate": 1500})) == [InLine(3, 1.5)]
    talk.opened()
    assert talk.protocol.clock.round_trip is None


def test_many_frames_are_acknowledged() -> None:
    talk = Talk().opened()
    talk.hear(server({"kind": "route", "name": "said"}))
    push = server({"kind": "push", "name": "said", "index": 0, "body": ""})
    talk.hear(push * (COUNTED_FRAMES - 1))
    assert talk.said() == []
    talk.hear(push)
    assert [event["received"] for event in talk.said()] == [COUNTED_FRAMES]
    big = server({"kind": "push", "name": "said", "index": 0, "body": "00" * 20_000})
    talk.hear(big)
    assert [event["received"] for event in talk.said()] == [COUNTED_FRAMES + 1]
    droppable = server({"kind": "push", "name": "said", "index": 0, "body": "00" * 20_000, "droppable": True})
    assert talk.hear(droppable) == [Push("said", bytes(20_000))]
    assert talk.said() == []


def test_what_the_server_lacks_is_sent_again_in_order_before_anything_new() -> None:
    talk = resumable()
    for number in range(5):
        talk.notify("move", b"%d" % number)
    talk.notify("place", b"x", droppable=True)
    assert talk.request("say", b"5") == 0
    talk.hear(heartbeat(received=1))
    talk.cut()
    # Between two connections: kept, but for what is droppable.
    talk.notify("move", b"6")
    talk.notify("place", b"y", droppable=True)
    assert talk.hear(welcome(status=1, received=3, token=TOKEN[::-1], window=30_000)) == [Opened(10.0, "resumed")]
    talk.notify("move", b"7")
    events = talk.said()
    assert events[0] == {"event": "hello", "compression": None, "token": TOKEN, "received": 0}
    assert events[1]["event"] == "heartbeat"
    assert packets(events) == [
        ("move",), (0, 0, b"3"), (0, 0, b"4"), ("say",), (0, 1, b"5"), (0, 0, b"6"), (0, 0, b"7"),
    ]  # fmt: skip
    assert talk.hear(answer(0, b"done")) == [Response(0, b"done", error=False)]
    # The token of the last welcome is shown next.
    talk.cut()
    assert talk.said() == [{"event": "hello", "compression": None, "token": TOKEN[::-1], "received": 1}]


def test_a_gap_loses_answers_to_what_the_server_has() -> None:
    talk = resumable()
    assert [talk.request("a", b"%d" % number) for number in range(3)] == [0, 1, 2]
    talk.hear(answer(1))
    talk.cut()
    back = welcome(status=2, received=2, next=40, token=TOKEN, window=30_000)
    assert talk.hear(back) == [Opened(10.0, "gap", lost=(0,))]
    assert packets(talk.said()) == [("a",), (2, 0, b"2")]
    # 0 may yet be answered, so it stands for nothing else until then.
    assert talk.request("a", b"") == 1
    assert talk.request("a", b"") == 3
    talk.cut()
    assert talk.said()[0]["received"] == 40


def test_counts_go_round() -> None:
    talk = resumable()
    talk.protocol._sent = talk.protocol._received = 2**32 - 1
    talk.request("a", b"x")
    talk.hear(heartbeat(received=2**32 - 1))
    talk.hear(answer(0))
    talk.cut()
    assert talk.said()[0]["received"] == 0
    assert talk.hear(welcome(status=1, received=0, token=TOKEN, window=1000)) == [Opened(10.0, "resumed")]
    assert packets(talk.said()) == []


def test_the_server_cannot_have_more_than_was_sent() -> None:
    for received in (3, 2**31, 2**32 - 1):
        talk = resumable()
        talk.notify("a", b"")
        talk.notify("a", b"")
        with pytest.raises(Fault, match="bad-frame"):
            talk.hear(heartbeat(received=received))
    talk = resumable()
    talk.notify("a", b"")
    talk.hear(heartbeat(received=1))
    talk.cut()
    with pytest.raises(Fault, match="bad-frame"):
        talk.hear(welcome(status=1, received=0, token=TOKEN, window=1000))


def test_who_was_not_there_is_not_welcomed_back() -> None:
    with pytest.raises(Fault, match="bad-handshake"):
        Talk().hear(welcome(status=1, received=0, token=TOKEN, window=1000))
    talk = resumable()
    talk.cut()
    with pytest.raises(Fault, match="bad-handshake"):
        talk.hear(welcome())


def test_who_forgets_begins_anew() -> None:
    talk = resumable()
    talk.request("a", b"x")
    talk.hear(server({"kind": "response", "id": 9, "body": ""}))
    talk.protocol.cut()
    talk.protocol.forget()
    talk.connect()
    assert talk.said() == [{"event": "hello", "compression": None, "token": None, "received": None}]
    talk.hear(welcome(clock=5))
    assert packets(talk.said()) == []
    assert talk.request("a", b"y") == 0
    assert talk.protocol.clock.time(talk.now) == pytest.approx(5e-6)


def test_nothing_is_kept_that_cannot_be_resumed() -> None:
    talk = Talk().opened()
    while talk.read < 2 * KEPT_BYTES:
        talk.notify("a", bytes(50_000))
        talk.read += 50_000
    assert talk.protocol.room
    assert not talk.protocol.resumable


def test_room() -> None:
    talk = resumable()
    sent = 0
    while talk.protocol.room:
        talk.notify("a", bytes(50_000))
        sent += 1
    assert (sent - 1) * 50_000 < KEPT_BYTES
    talk.hear(heartbeat(received=sent // 2))
    assert talk.protocol.room
    while talk.protocol.room:
        talk.notify("a", b"")
        sent += 1
    talk.hear(heartbeat(received=sent))
    assert talk.protocol.room
    assert not talk.protocol._kept
    assert talk.protocol._kept_bytes == 0


def test_compression() -> None:
    listener = Listener("photinus", {"compress": "zlib", "threshold": "50"}, 65536)
    talk = Talk(Photinus(algorithms={1: Zlib()}))
    hello = bytes(talk.out)
    talk.hear(encode(listener, {"kind": "welcome", "status": 0, "clock": 1, "hello": hello.hex()}))
    random = bytes(number * 37 % 251 for number in range(60))
    for body, secret in ((b"x" * 49, False), (b"x" * 50, False), (b"x" * 50, True), (random, False)):
        talk.protocol.request("a", body, talk.out, secret=secret)
    events = decode(listener, "server", [bytes(talk.out)]).events
    bodies = [event for event in events if event["event"] == "packet"]
    assert [event.get("compressed", False) for event in bodies] == [False, True, False, False]
    assert Zlib().inflate(bytes.fromhex(bodies[1]["body"]), 50) == b"x" * 50
    packed = Zlib().compress(b"y" * 1000)
    data = encode(listener, {"kind": "response", "id": 1, "body": packed.hex(), "compressed": True})
    assert talk.hear(data) == [Response(1, b"y" * 1000, error=False)]
    bomb = Zlib().compress(bytes(MAX_PAYLOAD_BYTES + 1))
    with pytest.raises(Fault, match="too-long"):
        talk.hear(encode(listener, {"kind": "response", "id": 1, "body": bomb.hex(), "compressed": True}))


def test_what_was_not_offered_is_not_agreed_on() -> None:
    listener = Listener("photinus", {"compress": "snappy"}, 65536)
    hello = "0106010101030102"
    with pytest.raises(Fault, match="bad-handshake"):
        Talk().hear(encode(listener, {"kind": "welcome", "status": 0, "clock": 1, "hello": hello}))


def test_formats() -> None:
    for form in ("json", "msgpack"):
        talk = Talk()
        talk.hear(encode(Listener("photinus", {"format": form}, 100), {"kind": "welcome", "status": 0, "clock": 1}))
        assert talk.protocol.format == form


def test_what_cannot_be_sent() -> None:
    talk = Talk()
    talk.hear(encode(Listener("photinus", {}, 100), {"kind": "welcome", "status": 0, "clock": 1}))
    for route, body, problem in (
        ("", b"", "1 to 255 bytes"),
        ("é" * 128, b"", "1 to 255 bytes"),
        ("a", bytes(101), "at most 100 bytes"),
    ):
        with pytest.raises(ValueError, match=problem):
            talk.request(route, body)
    for number in range(MAX_ROUTES):
        talk.notify(f"route {number}", b"")
    with pytest.raises(ValueError, match="1024 routes"):
        talk.notify("another", b"")
    talk.notify("route 0", b"")


def test_leaving() -> None:
    talk = Talk()
    talk.protocol.leave(talk.out)
    talk.opened()
    talk.protocol.leave(talk.out)
    assert talk.said() == [{"event": "leave"}]

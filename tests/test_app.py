"""What handlers are given and what becomes of what they return, through a client's eyes."""

from __future__ import annotations

import asyncio
import contextvars
import logging

import pytest
from msgspec import Struct

from photinus import App, Closed, Refused, Routes, Session
from photinus.errors import RouteError
from photinus.testing import TestCluster


class Number(Struct):
    value: int


routes = Routes()
calls: list[int] = []


@routes.on("double", public=True)
def double(session: Session, msg: Number) -> Number:
    return Number(2 * msg.value)


@routes.on("double-later", public=True)
async def double_later(session: Session, msg: Number) -> Number:
    await asyncio.sleep(0.01 * msg.value)
    calls.append(msg.value)
    return Number(2 * msg.value)


@routes.on("double-at-once", public=True)
async def double_at_once(session: Session, msg: Number) -> Number:
    return Number(2 * msg.value)


class Even(Struct):
    value: int

    def __post_init__(self) -> None:
        if self.value % 2:
            raise ValueError(f"{self.value} is odd")


@routes.on("even", public=True)
def even(session: Session, msg: Even) -> None:
    calls.append(msg.value)


@routes.on("nothing", public=True)
def nothing(session: Session, msg: Number) -> None:
    calls.append(msg.value)


@routes.on("bytes", public=True)
def raw(session: Session, body: bytes) -> bytes:
    return b"<" + body + b">"


@routes.on("refuse", public=True)
def refuse(session: Session, msg: Number) -> None:
    raise Refused("too-poor", missing=msg.value)


@routes.on("refuse-badly", public=True)
def refuse_badly(session: Session, msg: Number) -> None:
    raise Refused("odd", price=3, what=object())


class TooPoor(Refused):
    def __init__(self, missing: int, wares: list[Number]) -> None:
        super().__init__("too-poor", msg="You cannot pay for this.", missing=missing, wares=wares)


@routes.on("refuse-in-full", public=True)
async def refuse_in_full(session: Session, msg: Number) -> None:
    raise TooPoor(msg.value, [Number(1), Number(2)])


@routes.on("fail", public=True)
def fail(session: Session, msg: Number) -> None:
    raise RuntimeError("the password is swordfish")


@routes.on("fail-later", public=True)
async def fail_later(session: Session, msg: Number) -> None:
    await asyncio.sleep(0)
    raise RuntimeError("the password is swordfish")


@routes.on(77)
def command(session: Session, msg: Number) -> Number:
    return Number(7 * msg.value)


@routes.on(78, public=True)
def open_command(session: Session, msg: Number) -> Number:
    return Number(8 * msg.value)


app = App("game", routes=[routes])


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


@pytest.mark.parametrize("route", ["double", "double-later", "double-at-once"])
async def test_what_is_returned_is_the_reply(route: str) -> None:
    async with TestCluster(app) as t:
        ann = await t.connect()
        assert await ann.request(route, Number(4), Number) == Number(8)
        # Nobody waits for the answer to a notify.
        await ann.notify(route, Number(4))
        await t.advance(1)


async def test_nothing_is_an_empty_reply() -> None:
    async with TestCluster(app) as t:
        ann = await t.connect("pomelo")
        assert await ann.request("nothing", Number(1)) == b"{}"
        await ann.notify("nothing", Number(2))
        await t.settle()
        assert calls == [1, 2]


async def test_bytes_are_not_touched() -> None:
    async with TestCluster(app) as t:
        ann = await t.connect()
        assert await ann.request("bytes", b"\x00\xff{") == b"<\x00\xff{>"


async def test_a_refusal_reaches_the_client() -> None:
    async with TestCluster(app) as t:
        ann = await t.connect()
        with pytest.raises(Refused) as raised:
            await ann.request("refuse", Number(3))
        assert (raised.value.code, raised.value.fields) == ("too-poor", {"missing": 3})
        await ann.notify("refuse", Number(3))
        await t.settle()
        assert t.statistics()["app"]["refused"] == 2


@pytest.mark.parametrize("route", ["fail", "fail-later"])
async def test_an_exception_is_logged_and_tells_nothing(route: str, caplog: pytest.LogCaptureFixture) -> None:
    async with TestCluster(app) as t:
        ann = await t.connect()
        with caplog.at_level(logging.ERROR, "photinus"), pytest.raises(Refused) as raised:
            await ann.request(route, Number(3))
        assert (raised.value.code, raised.value.fields) == ("internal", {"msg": "internal error"})
        assert f"the handler of '{route}' failed" in caplog.text
        assert 'raise RuntimeError("the password is swordfish")' in caplog.text
        # The session lives.
        assert await ann.request("double", Number(4), Number) == Number(8)
        assert t.statistics()["app"]["handler_errors"] == 1
        t.errors.clear()


async def test_the_fields_of_a_refusal() -> None:
    async with TestCluster(app) as t:
        ann = await t.connect()
        with pytest.raises(Refused) as raised:
            await ann.request("refuse-in-full", Number(3))
        assert raised.value.code == "too-poor"
        told = {"msg": "You cannot pay for this.", "missing": 3, "wares": [{"value": 1}, {"value": 2}]}
        assert raised.value.fields == told


async def test_a_refusal_that_cannot_be_told(caplog: pytest.LogCaptureFixture) -> None:
    async with TestCluster(app) as t:
        ann = await t.connect()
        with caplog.at_level(logging.ERROR, "photinus"), pytest.raises(Refused, match="internal"):
            await ann.request("refuse-badly", Number(3))
        # The developer is told what, and where it was raised.
        error = t.errors.pop()
        assert isinstance(error, TypeError)
        assert "Refused('odd') cannot be told: one of its fields (code, msg, price, what) cannot be" in str(error)
        assert 'raise Refused("odd", price=3' in caplog.text
        assert t.statistics()["app"]["handler_errors"] == 1


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'{"value": "x"}', r"Expected `int`, got `str` - at `\$.value`"),
        (b"{}", "missing required field `value`"),
        (b'{"value": ', "JSON is malformed|truncated"),
        (b"", "JSON is malformed|truncated"),
    ],
)
async def test_a_payload_that_does_not_decode(body: bytes, problem: str) -> None:
    async with TestCluster(app) as t:
        ann = await t.connect("pomelo")
        with pytest.raises(Refused, match=problem) as raised:
            await ann.request("nothing", body)
        assert raised.value.code == "bad-message"
        assert calls == []
        assert t.statistics()["app"]["bad_messages"] == 1
        assert t.statistics()["app"]["handler_errors"] == 0


async def test_a_message_may_check_itself() -> None:
    async with TestCluster(app) as t:
        ann = await t.connect()
        with pytest.raises(Refused, match="3 is odd") as raised:
            await ann.request("even", Number(3))
        assert raised.value.code == "bad-message"
        await ann.request("even", Number(4))
        assert calls == [4]


async def test_an_unknown_route() -> None:
    async with TestCluster(app) as t:
        ann = await t.connect()
        with pytest.raises(Refused, match="unknown-route"):
            await ann.request("no-such", Number(3))
        await ann.notify("no-such", Number(3))
        await t.settle()
        assert t.statistics()["app"]["refused"] + t.statistics()["engine"]["unknown_routes"] == 2
        assert ann.connected


async def test_one_session_s_packets_are_handled_in_order() -> None:
    async with TestCluster(app) as t:
        ann, bob = await t.connect(), await t.connect()
        for value in (30, 20, 10):
            await ann.notify("double-later", Number(value))
        await ann.notify("nothing", Number(1))
        await bob.notify("nothing", Number(2))
        await t.advance(1)
        # Ann's wait for each other, also across an await; Bob does not wait for Ann.
        assert calls == [2, 30, 20, 10, 1]


async def test_firefly_commands() -> None:
    async with TestCluster(app) as t:
        client = await t.connect("firefly")
        await client.send(b"\x81\xa5value\x05", command=78)
        packet = await client.receive()
        assert (packet.command, packet.body) == (78, b"\x81\xa5value\x28")
        # Not logged in, and a protocol without errors: no answer, but a count.
        await client.send(b"\x81\xa5value\x05", command=77)
        await t.settle()
        assert t.statistics()["app"]["refused"] == 1
        assert client.connected


async def test_hooks_run_in_the_session_s_order() -> None:
    heard: list[str] = []
    hooked = Routes()

    @hooked.opened
    async def opened(session: Session) -> None:
        await asyncio.sleep(0.1)
        heard.append("opened")

    @hooked.on("say", public=True)
    async def say(session: Session, msg: Number) -> None:
        await asyncio.sleep(0.1)
        heard.append(f"say {msg.value}")

    @hooked.closed
    def closed(session: Session, reason: Closed) -> None:
        heard.append(f"closed {reason.reason}")

    second = Routes()

    @second.opened
    def opened_too(session: Session) -> None:
        heard.append("opened too")

    @second.closed
    async def closed_too(session: Session, reason: Closed) -> None:
        await asyncio.sleep(0.1)
        heard.append("closed too")

    async with TestCluster(App("hooks", routes=[hooked, second])) as t:
        ann = await t.connect()
        await ann.notify("say", Number(1))
        await t.settle()
        ann.close()
        await t.advance(1)
        assert heard == ["opened", "opened too", "say 1", "closed left", "closed too"]


async def test_a_hook_that_raises_keeps_nobody_from_the_others() -> None:
    heard: list[str] = []
    first, second = Routes(), Routes()

    @first.closed
    def bad(session: Session, reason: Closed) -> None:
        raise RuntimeError("oh")

    @second.closed
    def good(session: Session, reason: Closed) -> None:
        heard.append("good")

    async with TestCluster(App("hooks", routes=[first, second])) as t:
        ann = await t.connect()
        ann.close()
        await t.settle()
        assert heard == ["good"]
        assert [str(error) for error in t.errors] == ["oh"]
        t.errors.clear()
        assert t.statistics()["engine"]["sessions"] == 0


async def test_a_session_has_a_context_of_its_own() -> None:
    language: contextvars.ContextVar[int] = contextvars.ContextVar("language", default=0)
    spoken = Routes()

    @spoken.on("set", public=True)
    async def set_language(session: Session, msg: Number) -> None:
        language.set(msg.value)

    @spoken.on("tell", public=True)
    async def tell(session: Session, msg: Number) -> Number:
        return Number(language.get())

    async with TestCluster(App("spoken", routes=[spoken])) as t:
        ann, bob = await t.connect(), await t.connect()
        await ann.request("set", Number(1))
        await bob.request("set", Number(2))
        assert await ann.request("tell", Number(0), Number) == Number(1)
        assert await bob.request("tell", Number(0), Number) == Number(2)


async def test_asyncio_s_time_outs_work_in_handlers() -> None:
    timed = Routes()

    @timed.on("wait", public=True)
    async def wait(session: Session, msg: Number) -> Number:
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(msg.value)
        except TimeoutError:
            return Number(-1)
        return msg

    async with TestCluster(App("timed", routes=[timed])) as t:
        ann = await t.connect()
        assert await ann.request("wait", Number(5), Number, timeout=10) == Number(-1)
        assert await ann.request("wait", Number(0), Number) == Number(0)


async def test_two_sets_of_routes_must_not_overlap() -> None:
    other = Routes()
    other.on("double")(double)
    with pytest.raises(RouteError, match="declared twice"):
        App("both", routes=[routes, other]).table()

"""The interface as users type it: never run, but checked by mypy and pyright in strict mode.

Each `assert_type` is a promise. A line with an ignore is a mistake that a checker must find: mypy and pyright
both fail on an ignore that nothing needs.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ssl import create_default_context
from typing import Any, assert_type

from msgspec import Struct

from photinus import (
    App,
    Call,
    CallFailed,
    CallTimeout,
    Closed,
    Group,
    Node,
    Outcome,
    Rate,
    Refused,
    RemoteError,
    Routes,
    Service,
    Session,
    SessionRef,
    Space,
    Unreachable,
    call,
    on,
)
from photinus.client import Client, Cut, Gap, Redirected, Renewed, Resumed, Waiting, connect
from photinus.testing import PomeloClient, TestCluster


class Login(Struct):
    token: str


class Welcome(Struct):
    name: str


class Say(Struct):
    text: str


class Hero(Struct):
    id: int
    name: str


lobby = Group("lobby")
routes = Routes()


@routes.on("login", public=True)
async def login(session: Session, msg: Login) -> Welcome:
    if not msg.token:
        raise Refused("bad-token", longest=24)
    await session.login(7, replace=True)
    await session.login("ann", roles="gm")
    await session.login("ann", roles={"gm", "healer"})
    lobby.add(session)
    assert_type(session.data, Any)
    return Welcome("Ann")


@routes.on("say")
def say(session: Session, msg: Say) -> None:
    lobby.send("said", msg, but=session)


@routes.on("echo")
def echo(session: Session, body: bytes) -> bytes:
    return body


@routes.on(77)
def command(session: Session[Hero], msg: Say) -> Say | None:
    assert_type(session.data, Hero)
    assert_type(session.data.name, str)
    return msg if session.data.id else None


@routes.on("slow")
def slow(session: Session, msg: Login) -> Awaitable[Welcome]:
    return login(session, msg)


@routes.default
def anything(session: Session, body: bytes) -> bytes:
    return body


def check(session: Session[Hero], call: Call) -> None:
    assert_type(session.data, Hero)
    assert_type(call.route, str | int | None)
    assert_type(call.message, Struct | bytes)


async def audit(session: Session, call: Call, outcome: Outcome) -> None:
    assert_type(outcome.reply, Struct | bytes | None)
    assert_type(outcome.error, BaseException | None)
    assert_type(outcome.seconds, float)


def look(session: Session, call: Call, outcome: Outcome) -> None: ...


other_routes = Routes(before=check, after=[audit, look], roles=("gm", "admin"), rate=Rate(5))


@other_routes.default(public=False)
async def anything_else(session: Session[Hero], body: bytes) -> None: ...


@other_routes.on("ban", roles="gm", rate=Rate(5, per=1.0, burst=10))
def ban(session: Session, msg: Say) -> None:
    assert_type(session.roles, frozenset[str])
    session.roles = session.roles | {"gm"}


@Routes().default(roles=["gm"], rate=Rate(0.5))
def anything_at_all(session: Session, body: bytes) -> bytes:
    return body


@routes.opened
def hello(session: Session) -> None: ...


@routes.closed
async def gone(session: Session, reason: Closed) -> None:
    assert_type(reason.reason, str)


# A decorator gives back the handler that it was given.
assert_type(say, Callable[[Session[Any], Say], None])
assert_type(command, Callable[[Session[Hero], Say], Say | None])
assert_type(anything, Callable[[Session[Any], bytes], bytes])
assert_type(ban, Callable[[Session[Any], Say], None])

app = App("game", routes=[routes])


@app.started
async def seed() -> None:
    assert_type(app.statistics(), dict[str, Any])


@app.stopping
def farewell() -> None: ...


assert_type(farewell, Callable[[], None])


def tick() -> None: ...


async def work() -> int:
    return 7


async def in_a_node(session: Session) -> None:
    assert_type(await login(session, Login("x")), Welcome)
    app.every(1, tick)
    app.after(1, work).cancel()
    assert_type(await app.task(work()), int)
    async with Node(app, listen=["tcp://127.0.0.1:0"]) as node:
        assert_type(node.addresses, tuple[str, ...])


async def as_a_client() -> None:
    async with connect("tcp://127.0.0.1:7000") as c:
        assert_type(await c.request("login", Login("x"), Welcome), Welcome)
        assert_type(await c.request("echo", b"x"), bytes)
        try:
            await c.request("buy", b"")
        except Refused as refused:
            assert_type(refused.code, str)
            assert_type(refused.fields, dict[str, object])
        async for said in c.subscribe("said", Say):
            assert_type(said, Say)
        async for body in c.subscribe("said"):
            assert_type(body, bytes)
        async for change in c.changes():
            assert_type(change, Waiting | Cut | Resumed | Gap | Renewed | Redirected)
        await c.notify("move", Say("x"), droppable=True, secret=True)
        assert_type(c.server_time(), float)
        assert_type(c.round_trip, float | None)


async def enter(c: Client) -> None:
    await c.request("login", Login("x"))


def entering() -> Client:
    return connect("wss://localhost", ssl=create_default_context(), enter=enter, changed=print, reconnect=5)


async def in_a_test() -> None:
    async with TestCluster(app, seed=7) as t:
        ann = await t.connect()
        assert_type(await ann.request("login", Login("x"), Welcome), Welcome)
        assert_type(await ann.receive("said", Say), Say)
        ann.cut(resume_after=1)
        assert_type(await ann.resume(), bool)
        assert_type(await t.connect("pomelo"), PomeloClient)
        raw = await t.connect("length4")
        assert_type(await raw.request(b"x"), bytes)
        await t.advance(0.1)


def wrong_message(session: Session, msg: int) -> None: ...
def wrong_reply(session: Session, msg: Say) -> int:
    return 1


def no_session(msg: Say) -> None: ...
def wrong_reason(session: Session, reason: str) -> None: ...
def wrong_hook(session: Session, call: Say) -> None: ...
def with_answer() -> int:
    return 1


routes.on("a")(wrong_message)  # type: ignore[type-var]
routes.on("b")(wrong_reply)  # type: ignore[type-var]
routes.on("c")(no_session)  # type: ignore[arg-type]
routes.on(1.5)  # type: ignore[arg-type]
routes.closed(wrong_reason)  # type: ignore[arg-type]
routes.on("d", roles=7)  # type: ignore[arg-type]
routes.on("e", rate=5)  # type: ignore[arg-type]
Rate("5")  # type: ignore[arg-type]
Routes(before=wrong_hook)  # type: ignore[arg-type]
Routes(after=check)  # type: ignore[arg-type]
app.started(with_answer)  # type: ignore[type-var]
app.stopping(check)  # type: ignore[arg-type]


class Bank(Service):
    async def open(self) -> None:
        assert_type(self.key, str)

    @call
    async def transfer(self, source: int, target: int, gold: int = 1) -> int:
        return gold

    @call(one_way=True)
    async def note(self, text: str) -> None: ...

    @call  # type: ignore[type-var]
    def balance(self, player: int) -> int:
        return player


class Station(Space):
    def arrive(self, who: SessionRef, state: Hero | None) -> None:
        who.send("said", Say("hello"), droppable=True)

    def leave(self, who: SessionRef) -> Hero | None: ...

    @call
    async def enter(self, who: SessionRef, hero_id: int) -> None: ...

    @on("say")
    def say(self, who: SessionRef, msg: Say) -> None: ...

    @on("login")
    async def login(self, who: SessionRef, msg: Login) -> Welcome:
        return Welcome(self.key)

    @on("text")  # type: ignore[type-var]
    def text(self, who: SessionRef, msg: str) -> None: ...


@routes.on("travel")
async def travel(session: Session[Hero], msg: Say) -> None:
    assert_type(Bank.at("north", timeout=2.0), Bank)
    assert_type(await Bank.at("north").transfer(1, 2), int)
    assert_type(await Bank.at_node("world-1").transfer(1, 2, gold=3), int)
    assert_type(await Bank.at_all(lambda bank: bank.transfer(1, 2)), dict[str, int | Exception])
    await Bank.at("north").note(7)  # type: ignore[arg-type]
    station = Station.at("station-7")
    try:
        await station.enter(session.ref, 7)
    except Unreachable as error:
        assert_type(error.sent, bool)
    except RemoteError as error:
        assert_type(error.type, str)
    except (CallTimeout, CallFailed):
        pass
    await session.attach(station)
    await session.attach(Station.at("station-8"), instead_of=station)
    await session.detach(Station.at("station-8"))
    await session.attach("station-7")  # type: ignore[arg-type]


@routes.rehomed
def rehomed(session: Session[Hero]) -> None: ...


cluster_app = App("game", routes=[routes], services=[Bank], spaces=[Station])


async def in_a_cluster() -> None:
    async with TestCluster(cluster_app, nodes=2, proxies=1, seed=7) as t:
        t.cut("world-1", "world-2")
        assert_type(await t.task(Bank.at("north").transfer(1, 2), node="world-1"), int)

"""Services: what may be declared, where they are, and the life of an instance."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar

import pytest
from msgspec import Struct

from photinus import (
    App,
    CallMismatch,
    Closed,
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
from photinus.errors import RouteError, UsageError
from photinus.testing import TestCluster
from tests.cluster.pair import Pair, pair_test


class Say(Struct):
    text: str


class House(Service):
    log: ClassVar[list[str]] = []
    opening: ClassVar[asyncio.Event | None] = None
    closing: ClassVar[asyncio.Event | None] = None
    broken: ClassVar[bool] = False

    def __init__(self) -> None:
        self.visits = 0

    async def open(self) -> None:
        self.log.append(f"open {self.key}")
        if self.opening is not None:
            await self.opening.wait()
        if self.broken:
            raise OSError("no floor")

    @call
    async def visit(self, who: str) -> int:
        self.visits += 1
        self.log.append(who)
        return self.visits

    @call
    async def leave(self) -> None:
        await self.close()
        self.log.append("left")

    async def close(self) -> None:
        self.log.append(f"close {self.key}")
        if self.closing is not None:
            await self.closing.wait()
        await super().close()


PINS = {"House/a": "right", "House/b": "right", "House/own": "left"}
house_test = pair_test(House, pins=PINS)


@pytest.fixture(autouse=True)
def _afresh() -> None:
    House.log.clear()
    House.opening = House.closing = None
    House.broken = False


@house_test
async def test_there_is_one_instance_a_key(pair: Pair) -> None:
    visits = [await pair.left.start(House.at(key).visit("ann")) for key in ("a", "a", "b", "a")]
    assert visits == [1, 2, 1, 3]
    assert House.log == ["open a", "ann", "ann", "open b", "ann", "ann"]
    # Whoever calls.
    assert await pair.right.start(House.at("a").visit("bob")) == 4
    assert len(pair.right.instances) == 2
    assert len(pair.left.instances) == 0


@house_test
async def test_calls_wait_for_open_and_keep_their_order(pair: Pair) -> None:
    House.opening = asyncio.Event()
    early = [pair.left.start(House.at("a").visit(str(n))) for n in range(3)]
    await pair.cluster.settle()
    assert House.log == ["open a"]
    cancelled = pair.left.start(House.at("a").visit("cancelled"))
    await pair.cluster.settle()
    cancelled.cancel()
    await pair.cluster.settle()
    House.opening.set()
    late = pair.left.start(House.at("a").visit("3"))
    assert await asyncio.gather(*early, late) == [1, 2, 3, 4]
    assert House.log == ["open a", "0", "1", "2", "3"]


@house_test
async def test_what_open_raises_is_the_callers_and_the_next_call_tries_again(pair: Pair) -> None:
    House.broken = True
    for _ in range(2):
        with pytest.raises(RemoteError) as raised:
            await pair.left.start(House.at("a").visit("ann"))
        assert (raised.value.type, raised.value.text) == ("OSError", "no floor")
    House.broken = False
    assert await pair.left.start(House.at("a").visit("ann")) == 1
    assert House.log == ["open a", "open a", "open a", "ann"]


@house_test
async def test_close_ends_it_and_the_next_call_makes_a_new_one(pair: Pair) -> None:
    await pair.left.start(House.at("a").visit("ann"))
    await pair.left.start(House.at("a").leave())
    assert len(pair.right.instances) == 0
    assert await pair.left.start(House.at("a").visit("bob")) == 1
    assert House.log == ["open a", "ann", "close a", "left", "open a", "bob"]


@house_test
async def test_a_call_during_close_waits_for_the_next_instance(pair: Pair) -> None:
    House.closing = asyncio.Event()
    await pair.left.start(House.at("a").visit("ann"))
    leaving = pair.left.start(House.at("a").leave())
    await pair.cluster.settle()
    visits = [pair.left.start(House.at("a").visit(str(n))) for n in range(2)]
    await pair.cluster.settle()
    assert House.log == ["open a", "ann", "close a"]
    House.closing.set()
    assert await asyncio.gather(leaving, *visits) == [None, 1, 2]
    assert House.log == ["open a", "ann", "close a", "left", "open a", "0", "1"]


@house_test
async def test_all_are_closed_at_the_end(pair: Pair) -> None:
    for key in ("a", "b"):
        await pair.left.start(House.at(key).visit("ann"))
    await pair.right.instances.close_all()
    assert House.log[-2:] == ["close a", "close b"]
    assert len(pair.right.instances) == 0
    with pytest.raises(Unreachable, match="right stops") as raised:
        await pair.left.start(House.at("a").visit("ann"))
    assert not raised.value.sent


@house_test
async def test_a_close_that_hangs_holds_nobody_up(pair: Pair) -> None:
    House.closing = asyncio.Event()
    await pair.left.start(House.at("a").visit("ann"))
    began = pair.cluster.now
    await pair.right.instances.close_all()
    assert pair.cluster.now - began == pytest.approx(3.0)
    assert [what for what, _ in pair.right.failures] == ["House/a.close"]


class Quick(Service):
    def __init__(self) -> None:
        raise ValueError("no")

    @call
    async def visit(self) -> None: ...


@pair_test(Quick, pins={"Quick/x": "right"})
async def test_what_the_class_itself_raises_is_the_callers(pair: Pair) -> None:
    with pytest.raises(RemoteError, match="ValueError: no"):
        await pair.left.start(Quick.at("x").visit())


class Rash(Service):
    async def open(self) -> None:
        await self.close()

    @call
    async def visit(self) -> None: ...


@pair_test(Rash, pins={"Rash/x": "right"})
async def test_one_that_is_not_open_cannot_be_closed(pair: Pair) -> None:
    with pytest.raises(RemoteError, match="cannot be closed before it is open"):
        await pair.left.start(Rash.at("x").visit())


class Counter(Service):
    def __init__(self) -> None:
        self.count = 0

    @call
    async def up(self) -> str:
        self.count += 1
        return f"{self.key} {self.count}"

    @call
    async def only_right(self) -> str:
        if self.key != "right":
            raise KeyError(self.key)
        return self.key


@pair_test(Counter)
async def test_a_node_has_an_instance_for_itself(pair: Pair) -> None:
    assert await pair.left.start(Counter.at_node("right").up()) == "right 1"
    assert await pair.left.start(Counter.at_node("left").up()) == "left 1"
    assert await pair.right.start(Counter.at_node("right").up()) == "right 2"
    with pytest.raises(Unreachable, match="no link to nowhere"):
        await pair.left.start(Counter.at_node("nowhere").up())


@pair_test(Counter)
async def test_all_nodes_of_a_role_are_called_at_once(pair: Pair) -> None:
    assert await pair.left.start(Counter.at_all(lambda counter: counter.up())) == {"left": "left 1", "right": "right 1"}
    assert await pair.left.start(Counter.at_all(lambda counter: counter.up(), role="proxy")) == {}
    found = await pair.left.start(Counter.at_all(lambda counter: counter.only_right()))
    assert found["right"] == "right"
    assert isinstance(found["left"], RemoteError)


def test_addresses() -> None:
    address = House.at("a")
    assert address.address == "House/a"
    assert repr(address) == "<House/a>"
    assert address == House.at("a", timeout=1)
    assert address != House.at("b")
    assert len({address, House.at("a")}) == 1
    for key in ("", 7, None):
        with pytest.raises(ValueError, match=r"House\.at takes a key"):
            House.at(key)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="longer than an address"):
        House.at("x" * 250)


def test_an_instance_is_made_by_the_node_only() -> None:
    with pytest.raises(UsageError, match="made by the node"):
        _ = House().key


def test_a_priority_that_there_is_not() -> None:
    with pytest.raises(RouteError, match="bulk, usual, high, not 'urgent'"):

        @call(priority="urgent")  # type: ignore[call-overload,untyped-decorator]
        async def hurry(self: Service) -> None: ...


def declared(make: Any) -> str:
    with pytest.raises(RouteError) as raised:
        make()
    return str(raised.value)


def test_the_wrong_shape_raises_where_it_is_decorated() -> None:
    def plain() -> None:
        class Wrong(Service):
            @call  # type: ignore[type-var]
            def go(self) -> int:
                return 1

    def bare() -> None:
        class Wrong(Service):
            @call
            async def go(self, x) -> int:  # type: ignore[no-untyped-def]
                return 1

    def silent() -> None:
        class Wrong(Service):
            @call
            async def go(self, x: int):  # type: ignore[no-untyped-def]
                return 1

    def several() -> None:
        class Wrong(Service):
            @call
            async def go(self, *x: int) -> None: ...

    def strange() -> None:
        class Wrong(Service):
            @call
            async def go(self, x: int | Say | SessionRef) -> None: ...

    def answered() -> None:
        class Wrong(Service):
            @call(one_way=True)
            async def go(self) -> int:
                return 1

    assert "a def, which cannot be awaited" in declared(plain)
    assert "parameter `x` has no annotation" in declared(bare)
    assert "nothing that says what it returns" in declared(silent)
    assert "the parameters (self, *x: 'int')" in declared(several)
    assert "expected async def (self, argument: A, …) -> R" in declared(strange)
    assert "a one_way method returns None" in declared(answered)


def test_handlers_of_attached_sessions_have_their_shape() -> None:
    class Right(Space):
        @on("say")
        def say(self, who: SessionRef, msg: Say) -> None: ...

        @on("ask")
        @on(7)
        async def ask(self, who: SessionRef, body: bytes) -> bytes:
            return body

    class Heir(Right):
        pass

    assert {route: handling.name for route, handling in Heir.__photinus__.handlers.items()} == {
        "say": "say",
        "ask": "ask",
        7: "ask",
    }

    def wrong() -> None:
        class Wrong(Space):
            @on("say")  # type: ignore[arg-type]
            def say(self, who: str, msg: Say) -> None: ...

    def twice() -> None:
        class Wrong(Space):
            @on("say")
            def say(self, who: SessionRef, msg: Say) -> None: ...

            @on("say")
            def tell(self, who: SessionRef, msg: Say) -> None: ...

    assert "parameter `who` is str" in declared(wrong)
    assert "declared twice" in declared(twice)


def test_hooks_are_async() -> None:
    def wrong() -> None:
        class Wrong(Service):
            def open(self) -> None: ...  # type: ignore[override]

    assert "expected async def (self) -> None" in declared(wrong)


def test_what_an_app_is_given() -> None:
    assert App("x", services=[House], spaces=[]).callees == {"House": House}
    assert "expected classes derived from Space" in declared(lambda: App("x", spaces=[House]))  # type: ignore[list-item]
    assert "expected classes derived from Service" in declared(lambda: App("x", services=[Service]))
    other = type("House", (Service,), {})
    assert "two services or spaces are called House" in declared(lambda: App("x", services=[House, other]))


class Gentle(Service):
    log: ClassVar[list[str]] = []

    @call
    async def greet(self) -> str:
        return f"hello from {self.address}"

    async def close(self) -> None:
        self.log.append("closed")


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_a_single_node_has_them_all() -> None:
    async def scenario() -> None:
        async with TestCluster(App("one", services=[Gentle])) as t:
            assert await Gentle.at("x").greet() == "hello from Gentle/x"
            assert await Gentle.at_node("one").greet() == "hello from Gentle@one"
            assert t.statistics()["instances"] == {"open": 2, "opened": 2}
            assert t.statistics()["calls"]["executed"] == 2
        assert Gentle.log == ["closed", "closed"]

    run(scenario())


def test_services_outlive_the_sessions() -> None:
    async def scenario() -> None:
        routes = Routes()
        said: list[str] = []

        @routes.closed
        async def closed(session: Session, reason: Closed) -> None:
            said.append(await Gentle.at("x").greet())
            Gentle.log.append(reason.reason)

        Gentle.log.clear()
        async with TestCluster(App("one", routes=[routes], services=[Gentle])) as t:
            await t.connect()
        assert said == ["hello from Gentle/x"]
        assert Gentle.log == ["shutdown", "closed"]

    run(scenario())


def test_a_reload_gives_instances_their_new_class() -> None:
    async def scenario() -> None:
        async with TestCluster(App("one", services=[Counter])) as t:
            assert await Counter.at("x").up() == "x 1"

            class Renewed(Service):
                count: int

                @call
                async def up(self) -> str:
                    self.count += 100
                    return f"now {self.count}"

            Renewed.__name__ = "Counter"
            await t.node.replace(App("one", services=[Renewed]))
            assert await Counter.at("x").up() == "now 101"
            with pytest.raises(CallMismatch, match="has no method only_right"):
                await Counter.at("x").only_right()

    run(scenario())

"""Calls between two halves, over a link that the test holds."""

from __future__ import annotations

import asyncio
import contextvars
from typing import ClassVar

import pytest
from msgspec import Struct

from photinus import CallMismatch, CallTimeout, Refused, RemoteError, Service, Unreachable, call
from photinus.cluster import peer as limits
from photinus.cluster.payload import MAX_CALL_BYTES, varint
from tests.cluster.pair import LINK, Pair, pair_test


class Coin(Struct):
    value: int


mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="none")


class Bank(Service):
    ran: ClassVar[list[str]] = []
    left: ClassVar[list[float]] = []
    gate: ClassVar[asyncio.Event]

    @call
    async def add(self, a: int, b: int = 10) -> int:
        return a + b

    @call
    async def change(self, coins: list[Coin], *, double: bool) -> Coin:
        return Coin(sum(coin.value for coin in coins) * (2 if double else 1))

    @call
    async def where(self) -> str:
        return self.address

    @call
    async def wait(self, what: str) -> str:
        self.ran.append(what)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.ran.append(f"{what} cancelled")
            raise
        return what

    @call
    async def stubborn(self) -> str:
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.ran.append("heard")
            await self.gate.wait()
        return "done"

    @call
    async def relay(self, seconds: float) -> str:
        return await Bank.at("left", timeout=seconds).wait("relayed")

    @call
    async def refuse(self) -> None:
        raise Refused("too-poor", missing=3)

    @call
    async def refuse_badly(self) -> None:
        raise Refused("bad", what=object())

    @call
    async def fail(self) -> None:
        raise KeyError("no such account")

    @call
    async def lie(self) -> int:
        return "seven"  # type: ignore[return-value]

    @call
    async def hide(self) -> list[int]:
        return object()  # type: ignore[return-value]

    @call
    async def fill(self, count: int) -> bytes:
        return bytes(count)

    @call
    async def take(self, data: bytes) -> int:
        return len(data)

    @call(one_way=True)
    async def note(self, what: str) -> None:
        self.ran.append(what)
        await asyncio.sleep(0)
        self.ran.append(f"{what} done")

    @call(priority="high")
    async def hurry_up(self, fails: bool) -> None:
        if fails:
            raise Refused("no")

    @call(priority="bulk")
    async def copy(self) -> None:
        await asyncio.Event().wait()

    @call(one_way=True)
    async def note_badly(self) -> None:
        raise KeyError("note")

    @call
    async def stain(self) -> str:
        before = mark.get()
        mark.set("stained")
        await asyncio.sleep(0)
        return before

    @call
    async def hurry(self) -> float:
        async with asyncio.timeout(1):
            await asyncio.sleep(0)
            return asyncio.get_running_loop().time()

    def secret(self) -> int:
        return 1


PINS = {"Bank/left": "left", "Bank/right": "right", "Other/x": "right"}
bank_test = pair_test(Bank, pins=PINS)


@pytest.fixture(autouse=True)
def _afresh() -> None:
    Bank.ran.clear()
    Bank.gate = asyncio.Event()


def there(timeout: float = 5.0) -> Bank:
    return Bank.at("right", timeout=timeout)


@bank_test
async def test_results_of_all_kinds(pair: Pair) -> None:
    async def ask() -> list[object]:
        return [
            await there().add(1, 2),
            await there().add(1),
            await there().add(b=1, a=1),
            await there().change([Coin(3), Coin(4)], double=True),
            await there().where(),
        ]

    assert await pair.left.start(ask()) == [3, 11, 2, Coin(14), "Bank/right"]
    assert pair.carried == 10
    assert pair.left.failures == pair.right.failures == []


@bank_test
async def test_a_call_to_the_own_node_needs_no_link_and_is_the_same(pair: Pair) -> None:
    pair.cut()
    coins = [Coin(1)]
    assert await pair.right.start(there().change(coins, double=False)) == Coin(1)
    with pytest.raises(CallMismatch, match="bad-arguments"):
        await pair.right.start(there().add("1"))  # type: ignore[arg-type]
    assert pair.carried == 0


@bank_test
async def test_wrong_numbers_of_arguments_are_a_type_error_as_in_any_call(pair: Pair) -> None:
    with pytest.raises(TypeError, match="too many positional"):
        await pair.left.start(there().add(1, 2, 3))  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="missing a required"):
        await pair.left.start(there().add())  # type: ignore[call-arg]
    assert pair.carried == 0


@pytest.mark.parametrize(
    ("make", "code", "text"),
    [
        (lambda: there().add("1"), "bad-arguments", r"Bank/right\.add: Expected `int`, got `str`"),  # type: ignore[arg-type]
        (lambda: there().add(object()), "bad-arguments", "add of Bank/right: .*object"),  # type: ignore[arg-type]
        (lambda: there().lie(), "bad-result", "lie of Bank/right: Expected `int`, got `str`"),
        (lambda: there().hide(), "bad-result", r"Bank/right\.hide: .*object"),
        (lambda: there().take(bytes(MAX_CALL_BYTES)), "too-large", "bytes of arguments"),
        (lambda: there().fill(MAX_CALL_BYTES), "too-large", "bytes of result"),
    ],
)
def test_what_does_not_fit_is_told_apart(make, code, text) -> None:  # type: ignore[no-untyped-def]
    @bank_test
    async def scenario(pair: Pair) -> None:
        with pytest.raises(CallMismatch, match=text) as raised:
            await pair.left.start(make())
        assert raised.value.code == code
        # The link and the instance are none the worse.
        assert await pair.left.start(there().add(1, 1)) == 2

    scenario()


@bank_test
async def test_the_largest_arguments_and_results_are_carried(pair: Pair) -> None:
    # What msgpack adds: an array of one, and a length of four bytes behind a byte.
    assert await pair.left.start(there().take(bytes(MAX_CALL_BYTES - 6))) == MAX_CALL_BYTES - 6
    assert len(await pair.left.start(there().fill(MAX_CALL_BYTES - 5))) == MAX_CALL_BYTES - 5


@bank_test
async def test_only_what_is_call_can_be_called(pair: Pair) -> None:
    for name in ("secret", "close", "ran", "nothing"):
        with pytest.raises(AttributeError, match=rf"Bank\.at\(…\)\.{name}: this is an address"):
            getattr(there(), name)


class Other(Service):
    @call
    async def add(self, a: int, b: int) -> int:
        return a + b


@bank_test
async def test_an_unknown_class_or_method_is_told(pair: Pair) -> None:
    with pytest.raises(CallMismatch, match="right has no service or space Other") as raised:
        await pair.left.start(Other.at("x").add(1, 1))
    assert raised.value.code == "unknown-call"


@bank_test
async def test_refused_passes_with_its_code_and_fields(pair: Pair) -> None:
    with pytest.raises(Refused) as raised:
        await pair.left.start(there().refuse())
    assert raised.value.code == "too-poor"
    assert raised.value.fields == {"missing": 3}
    assert pair.right.failures == []


@bank_test
async def test_other_exceptions_carry_their_name_and_text(pair: Pair) -> None:
    with pytest.raises(RemoteError) as raised:
        await pair.left.start(there().fail())
    assert (raised.value.type, raised.value.text) == ("KeyError", "'no such account'")
    ((what, error),) = pair.right.failures
    assert what == "Bank/right.fail"
    assert isinstance(error, KeyError)
    with pytest.raises(RemoteError, match="TypeError: Refused"):
        await pair.left.start(there().refuse_badly())


@bank_test
async def test_a_deadline_ends_the_call_on_both_sides(pair: Pair) -> None:
    began = pair.cluster.now
    with pytest.raises(CallTimeout, match="Bank/right"):
        await pair.left.start(there(timeout=2.0).wait("long"))
    assert pair.cluster.now == pytest.approx(began + 2.0, abs=0.02)
    await pair.cluster.advance(0.1)
    assert Bank.ran == ["long", "long cancelled"]
    assert pair.right.calls.statistics()["running"] == 0
    assert pair.left.calls.statistics()["timeouts"] == 1


@bank_test
async def test_a_deadline_ends_the_call_though_the_other_side_is_silent(pair: Pair) -> None:
    pair.hold()
    with pytest.raises(CallTimeout):
        await pair.left.start(there(timeout=1.0).add(1, 1))
    # It arrives late, and nobody takes its answer for that of the next call.
    pair.let_go()
    assert await pair.left.start(there().add(2, 2)) == 4
    await pair.cluster.settle()
    assert pair.left.calls.statistics()["malformed"] == 0


@bank_test
async def test_a_call_within_a_call_has_what_is_left(pair: Pair) -> None:
    began = pair.cluster.now
    with pytest.raises(CallTimeout):
        await pair.left.start(there(timeout=1.0).relay(60.0))
    await pair.cluster.advance(0.1)
    assert pair.cluster.now - began < 1.5
    assert Bank.ran == ["relayed", "relayed cancelled"]
    # With less than what is left it is its own deadline, and what comes of it is the callee's error.
    with pytest.raises(RemoteError) as raised:
        await pair.left.start(there(timeout=5.0).relay(0.5))
    assert raised.value.type == "CallTimeout"


class Starter(Service):
    background: ClassVar[list[asyncio.Task[int]]] = []

    @call
    async def start(self) -> None:
        async def later() -> int:
            await asyncio.sleep(10)
            return await Bank.at("left").add(1, 1)

        self.background.append(asyncio.create_task(later()))


@pair_test(Bank, Starter, pins={**PINS, "Starter/x": "right"})
async def test_what_a_call_leaves_behind_is_not_bound_by_its_deadline(pair: Pair) -> None:
    await pair.left.start(Starter.at("x", timeout=1.0).start())
    assert await Starter.background.pop() == 2


@bank_test
async def test_a_cancelled_caller_has_the_callee_cancelled(pair: Pair) -> None:
    task = pair.left.start(there().wait("long"))
    await pair.cluster.settle()
    assert Bank.ran == ["long"]
    task.cancel()
    await pair.cluster.settle()
    assert task.cancelled()
    assert Bank.ran == ["long", "long cancelled"]
    statistics = pair.left.calls.statistics()
    assert (statistics["pending"], statistics["cancelled"]) == (0, 1)


@bank_test
async def test_an_answer_that_crosses_the_cancellation_is_dropped(pair: Pair) -> None:
    task = pair.left.start(there().add(1, 1))
    await pair.cluster.settle()
    pair.hold()
    task = pair.left.start(there().add(1, 1))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    pair.let_go()
    await pair.cluster.settle()
    assert task.cancelled()
    assert await pair.left.start(there().add(2, 2)) == 4


@bank_test
async def test_one_that_does_not_heed_its_cancellation_goes_on(pair: Pair) -> None:
    with pytest.raises(CallTimeout):
        await pair.left.start(there(timeout=1.0).stubborn())
    await pair.cluster.advance(1.0)
    assert Bank.ran == ["heard"]
    assert pair.right.calls.statistics()["running"] == 1
    Bank.gate.set()
    await pair.cluster.settle()
    assert pair.right.calls.statistics()["running"] == 0
    assert await pair.left.start(there().add(2, 2)) == 4


@bank_test
async def test_a_lost_link_ends_all_that_was_under_way(pair: Pair) -> None:
    task = pair.left.start(there().wait("long"))
    await pair.cluster.settle()
    pair.cut()
    with pytest.raises(Unreachable, match="cut") as raised:
        await task
    assert raised.value.sent
    await pair.cluster.settle()
    assert Bank.ran == ["long", "long cancelled"]
    with pytest.raises(Unreachable, match="no link to right") as raised:
        await pair.left.start(there().add(1, 1))
    assert not raised.value.sent
    pair.join()
    assert await pair.left.start(there().add(1, 1)) == 2


@bank_test
async def test_of_several_links_the_next_takes_over(pair: Pair) -> None:
    pair.left.calls.linked(LINK + 1, "right", frozenset({"world"}))
    pair.left.calls.unlinked(LINK, "cut")
    task = pair.left.start(there(timeout=1.0).add(1, 1))
    await pair.cluster.settle()
    # It went over the other one, which the pair takes for the first.
    assert pair.carried == 2
    task.cancel()


@bank_test
async def test_more_calls_than_the_limit_wait_for_their_turn(
    pair: Pair,
) -> None:
    tasks = [pair.left.start(there(timeout=30.0).wait(str(n))) for n in range(limits.MOST_CALLS + 2)]
    await pair.cluster.settle()
    assert len(Bank.ran) == limits.MOST_CALLS
    statistics = pair.left.calls.statistics()
    assert (statistics["pending"], statistics["waiting"]) == (limits.MOST_CALLS, 2)
    # One of those that wait is cancelled, and one has no time.
    hasty = pair.left.start(there(timeout=1.0).wait("hasty"))
    await pair.cluster.settle()
    tasks[-2].cancel()
    with pytest.raises(CallTimeout, match="never had its turn"):
        await hasty
    Bank.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[:-2] == [str(n) for n in range(limits.MOST_CALLS)]
    assert results[-1] == str(limits.MOST_CALLS + 1)
    assert "hasty" not in Bank.ran
    assert pair.left.calls.statistics()["pending"] == 0


@bank_test
async def test_a_waiting_call_was_not_sent_when_the_link_is_lost(pair: Pair) -> None:
    tasks = [pair.left.start(there(timeout=30.0).wait(str(n))) for n in range(limits.MOST_CALLS + 1)]
    await pair.cluster.settle()
    pair.cut()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [each.sent for each in results if isinstance(each, Unreachable)] == [True] * limits.MOST_CALLS + [False]


@bank_test
async def test_a_node_runs_no_more_for_another_than_its_limit(pair: Pair) -> None:
    """As if the other kept no count of its own."""
    target = b"wait Bank/right"
    for number in range(1, limits.MOST_RUNNING + 2):
        body = varint(number) + varint(10_000) + varint(len(target)) + target + b"\x91\xa1x"
        await pair.feed(pair.right, True, body)
    assert pair.right.calls.statistics()["running"] == limits.MOST_RUNNING
    assert len(Bank.ran) == limits.MOST_RUNNING


@bank_test
async def test_one_way_calls_return_at_once_and_are_executed(pair: Pair) -> None:
    pair.hold()
    assert await pair.left.start(there().note("a")) is None  # type: ignore[func-returns-value]
    assert await pair.left.start(there().note_badly()) is None  # type: ignore[func-returns-value]
    assert Bank.ran == []
    pair.let_go()
    await pair.cluster.settle()
    assert Bank.ran == ["a", "a done"]
    assert [what for what, _ in pair.right.failures] == ["Bank/right.note_badly"]
    assert pair.right.sent == pair.left.sent
    assert not pair.left.sent


@bank_test
async def test_questions_answers_and_cancellations_go_in_the_lane_of_the_call(pair: Pair) -> None:
    await pair.left.start(there().hurry_up(False))
    with pytest.raises(Refused):
        await pair.left.start(there().hurry_up(True))
    assert (pair.left.priorities, pair.right.priorities) == ([2, 2], [2, 2])
    copying = pair.left.start(there().copy())
    await pair.cluster.settle()
    copying.cancel()
    await asyncio.wait([copying])
    await pair.cluster.settle()
    assert (pair.left.priorities[2:], pair.right.priorities[2:]) == ([0, 0], [0])
    await pair.left.start(there().note("usual"))
    assert pair.left.priorities[4:] == [1]


@bank_test
async def test_a_one_way_call_outlives_its_link(pair: Pair) -> None:
    await pair.left.start(there().note("a"))
    for _ in range(10):
        await asyncio.sleep(0)
        if Bank.ran:
            break
    pair.cut()
    await pair.cluster.settle()
    assert Bank.ran == ["a", "a done"]


@bank_test
async def test_each_call_has_a_context_of_its_own(pair: Pair) -> None:
    assert [await pair.left.start(there().stain()) for _ in range(2)] == ["none", "none"]


@bank_test
async def test_time_limits_work_from_the_first_step(pair: Pair) -> None:
    assert await pair.left.start(there().hurry()) == pair.cluster.now


@bank_test
async def test_a_call_with_no_time_is_not_sent(pair: Pair) -> None:
    with pytest.raises(CallTimeout, match="no time was left"):
        await pair.left.start(there(timeout=0).add(1, 1))
    assert pair.carried == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x01",
        b"\xff\xff\xff\xff\xff\xff",
        b"\x01\x88",
        b"\x01\x88\x27",
        b"\x01\x88\x27\x20wait",
        b"\x01\x88\x27\xff",
        b"\x01\xff\xff\xff\xff\xff\xff\xff",
    ],
)
def test_what_is_no_call_is_counted(body: bytes) -> None:
    @bank_test
    async def scenario(pair: Pair) -> None:
        await pair.feed(pair.right, True, body)
        assert pair.right.calls.statistics()["malformed"] == 1
        await pair.feed(pair.right, False, body)
        assert pair.right.calls.statistics()["malformed"] == 2
        assert await pair.left.start(there().add(1, 1)) == 2

    scenario()


@bank_test
async def test_targets_that_name_nothing_are_answered(pair: Pair) -> None:
    for number, target in enumerate(
        [b"", b"\xff\xfe", b"add", b"add Bank", b"__init__ Bank/right", b"secret Bank/right"], 1
    ):
        body = varint(number) + varint(1000) + varint(len(target)) + target + b"\x90"
        pair.hold()
        await pair.feed(pair.right, True, body)
        ((_, request, answer),) = pair.right.sent
        pair.right.sent.clear()
        assert not request
        assert answer[:2] in (bytes((number, 3)), bytes((number, 5))), target


@bank_test
async def test_a_call_for_another_node_s_key_is_not_executed(pair: Pair) -> None:
    """As if the tables of the two differed."""
    target = b"add Bank/left"
    pair.hold()
    await pair.feed(pair.right, True, b"\x01\x88\x27" + varint(len(target)) + target + b"\x92\x01\x01")
    ((_, _, answer),) = pair.right.sent
    assert answer[:2] == b"\x01\x05"
    assert b"it is on left" in answer


@bank_test
async def test_a_stop_ends_what_runs_and_takes_no_more(pair: Pair) -> None:
    task = pair.left.start(there().wait("long"))
    await pair.cluster.settle()
    await asyncio.wait(pair.right.calls.stop())
    with pytest.raises(Unreachable, match="cancelled on right") as raised:
        await task
    assert raised.value.sent
    with pytest.raises(Unreachable, match="it stops") as raised:
        await pair.left.start(there().add(1, 1))
    assert not raised.value.sent


@bank_test
async def test_text_that_is_no_utf8_is_a_mismatch(pair: Pair) -> None:
    target = b"wait Bank/right"
    pair.hold()
    await pair.feed(pair.right, True, b"\x01\x88\x27" + varint(len(target)) + target + b"\x91\xa1\x80")
    ((_, _, answer),) = pair.right.sent
    assert answer[:2] == b"\x01\x03"
    assert b"bad-arguments" in answer

"""The shape of handlers, and what is declared twice. That they are called is tested in test_node.py."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from msgspec import Struct

from photinus import Call, Closed, Outcome, Rate, Routes, Session
from photinus.errors import RouteError
from photinus.routes import table_of


class Say(Struct):
    text: str


class Hero(Struct):
    name: str


def handlers() -> dict[str, Callable[..., Any]]:
    def plain(session: Session, msg: Say) -> None: ...
    def raw(session: Session, msg: bytes) -> bytes:
        return msg

    async def asynchronous(session: Session, msg: Say) -> Say:
        return msg

    def typed_session(session: Session[Hero], msg: Say) -> Say | None: ...
    def awaitable(session: Session, msg: Say) -> Awaitable[Say]:
        return asynchronous(session, msg)

    class Called:
        async def __call__(self, session: Session, msg: Say) -> None: ...

        def method(self, session: Session, msg: Say) -> None: ...

    return {
        "plain": plain,
        "raw": raw,
        "asynchronous": asynchronous,
        "typed_session": typed_session,
        "awaitable": awaitable,
        "callable": Called(),
        "method": Called().method,
    }


@pytest.mark.parametrize("name", sorted(handlers()))
def test_good_shapes(name: str) -> None:
    handler = handlers()[name]
    routes = Routes()
    assert routes.on(name)(handler) is handler
    route = routes.declared[name]
    assert route.shape.message is (bytes if name == "raw" else Say)
    assert route.shape.asynchronous == (name in ("asynchronous", "awaitable", "callable"))
    assert not route.public


def test_names_of_the_place_are_seen() -> None:
    class Local(Struct):
        text: str

    routes = Routes()

    @routes.on("local", public=True)
    def local(session: Session, msg: Local) -> Local:
        return msg

    @routes.default
    def anything(session: Session, msg: Local) -> None: ...

    assert routes.declared["local"].shape.message is Local
    assert routes.declared["local"].public
    assert routes.fallback is not None
    assert routes.fallback.shape.message is Local
    place = routes.declared["local"].shape.place
    assert re.fullmatch(r".*test_routes\.py:\d+", place)


def bad_handlers() -> dict[str, tuple[Any, str]]:
    def no_annotation(session: Session, msg) -> None: ...  # type: ignore[no-untyped-def]
    def wrong_message(session: Session, msg: dict[str, int]) -> None: ...
    def no_session(msg: Say) -> None: ...
    def other_session(session: int, msg: Say) -> None: ...
    def three(session: Session, msg: Say, more: int = 0) -> None: ...
    def keyword(session: Session, *, msg: Say) -> None: ...
    def text(session: Session, msg: Say) -> str:
        return ""

    async def async_text(session: Session, msg: Say) -> str:
        return ""

    async def generator(session: Session, msg: Say) -> AsyncIterator[Say]:
        yield msg

    def unresolved(session: Session, msg: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    return {
        "no_annotation": (no_annotation, "parameter `msg` has no annotation"),
        "wrong_message": (wrong_message, "parameter `msg` is dict[str, int]"),
        "no_session": (no_session, "the parameters (msg: 'Say') -> 'None'"),
        "other_session": (other_session, "parameter `session` is int"),
        "three": (three, "the parameters (session"),
        "keyword": (keyword, "the parameters (session"),
        "text": (text, "it returns str"),
        "async_text": (async_text, "it returns str"),
        "generator": (generator, "a generator"),
        "unresolved": (unresolved, "an annotation that cannot be resolved here (name 'Missing'"),
        "a_class": (Say, "is not a function"),
        "no_callable": ("say", "'say' is not a function"),
    }


@pytest.mark.parametrize("name", sorted(bad_handlers()))
def test_bad_shapes_raise_where_they_are_decorated(name: str) -> None:
    handler, found = bad_handlers()[name]
    with pytest.raises(RouteError, match=re.escape(found)) as raised:
        Routes().on("say")(handler)
    assert "on('say') at" in str(raised.value)
    assert "expected (session: Session, message: M) -> R with M a Struct or bytes" in str(raised.value)


def test_hooks() -> None:
    routes = Routes()

    @routes.opened
    def hello(session: Session) -> None: ...

    @routes.closed
    async def gone(session: Session, reason: Closed) -> None: ...

    table = table_of([routes])
    assert [route.handler for route in table.opened] == [hello]
    assert [route.handler for route in table.closed] == [gone]
    assert table.closed[0].shape.asynchronous


def test_hooks_of_a_wrong_shape() -> None:
    def message(session: Session, msg: Say) -> None: ...
    def answer(session: Session) -> bytes:
        return b""

    with pytest.raises(RouteError, match=r"expected \(session: Session\) -> None; found: the parameters"):
        Routes().opened(message)  # type: ignore[arg-type]
    with pytest.raises(RouteError, match="it returns bytes"):
        Routes().opened(answer)  # type: ignore[type-var]
    with pytest.raises(RouteError, match="parameter `msg` is Say"):
        Routes().closed(message)  # type: ignore[arg-type]


def test_declared_twice() -> None:
    routes = Routes()

    @routes.on("say")
    def say(session: Session, msg: Say) -> None: ...

    with pytest.raises(RouteError, match=r"on\('say'\) at .*: declared twice \(first at .*test_routes"):
        routes.on("say")(say)
    for decorate in (routes.default, routes.default()):
        if routes.fallback is None:
            decorate(say)
        with pytest.raises(RouteError, match=r"default at .*: declared twice"):
            decorate(say)


def test_declared_in_two_sets_of_routes() -> None:
    one, two = Routes(), Routes()

    @one.on(7)
    @two.on(7)
    @two.default
    def say(session: Session, msg: Say) -> None: ...

    with pytest.raises(RouteError, match=r"on\(7\) at .*: declared twice"):
        table_of([one, two])
    two.declared.clear()
    one.default(say)
    with pytest.raises(RouteError, match=r"default at .*: declared twice"):
        table_of([one, two])


@pytest.mark.parametrize("route", ["", "x" * 256, -1, 2**32, True, None, 1.5])
def test_what_is_no_route(route: Any) -> None:
    with pytest.raises(RouteError, match="a route is a name of 1 to 255 bytes or a number"):
        Routes().on(route)


def test_the_default_may_be_kept_from_strangers() -> None:
    routes = Routes()

    @routes.default(public=False)
    def anything(session: Session, body: bytes) -> bytes:
        return body

    assert routes.fallback is not None
    assert not routes.fallback.public
    open_routes = Routes()
    open_routes.default(anything)
    assert open_routes.fallback is not None
    assert open_routes.fallback.public


def test_too_late() -> None:
    routes = Routes()
    routes.seal()

    def say(session: Session, msg: Say) -> None: ...

    with pytest.raises(RouteError, match="declared after a node took these routes"):
        routes.on("say")(say)


def bad_hooks() -> dict[str, tuple[Any, str]]:
    def no_call(session: Session) -> None: ...
    def message(session: Session, msg: Say) -> None: ...
    def answer(session: Session, call: Call) -> bool:
        return True

    def bare(session, call) -> None: ...  # type: ignore[no-untyped-def]
    def after(session: Session, call: Call, outcome: Outcome) -> None: ...

    return {
        "no_call": (no_call, "the parameters (session"),
        "message": (message, "parameter `msg` is Say"),
        "answer": (answer, "it returns bool"),
        "bare": (bare, "parameter `session` has no annotation"),
        "after": (after, "the parameters (session"),
        "text": (["say"], "'say' is not a function"),
        "none": (None, "None is not a function"),
    }


@pytest.mark.parametrize("name", sorted(bad_hooks()))
def test_hooks_around_handlers_of_a_wrong_shape(name: str) -> None:
    hook, found = bad_hooks()[name]
    with pytest.raises(RouteError, match=re.escape(found)) as raised:
        Routes(before=hook)
    assert "expected (session: Session, call: Call) -> None; found: " in str(raised.value)
    with pytest.raises(
        RouteError, match=re.escape("expected (session: Session, call: Call, outcome: Outcome) -> None")
    ):
        Routes(after=lambda _session, _call: None)  # type: ignore[arg-type, misc]


def test_who_may_call_and_how_often() -> None:
    routes = Routes()
    rate = Rate(5)

    @routes.on("ban", roles="gm")
    @routes.on("heal", roles=("gm", "healer"), rate=rate)
    @routes.on("say", public=True, rate=rate)
    @routes.default(roles=["gm"], rate=rate)
    def act(session: Session, msg: Say) -> None: ...

    assert routes.declared["ban"].roles == {"gm"}
    assert routes.declared["ban"].rate is None
    assert routes.declared["heal"].roles == {"gm", "healer"}
    assert routes.declared["heal"].rate is routes.declared["say"].rate is rate
    assert routes.fallback is not None
    assert (routes.fallback.roles, routes.fallback.rate, routes.fallback.public) == (frozenset({"gm"}), rate, False)


def test_who_may_call_and_how_often_for_all_of_them() -> None:
    routes = Routes(roles="gm", rate=Rate(5))

    @routes.on("ban")
    @routes.on("shut-down", roles="admin", rate=Rate(1, per=60))
    @routes.default
    def act(session: Session, msg: Say) -> None: ...

    @routes.opened
    def opened(session: Session) -> None: ...

    assert (routes.declared["ban"].roles, routes.declared["ban"].rate) == (frozenset({"gm"}), Rate(5))
    assert (routes.declared["shut-down"].roles, routes.declared["shut-down"].rate) == (
        frozenset({"admin"}),
        Rate(1, per=60),
    )
    assert routes.fallback is not None
    assert (routes.fallback.roles, routes.fallback.public) == (frozenset({"gm"}), False)
    assert routes.opening is not None
    assert routes.opening.rate is None
    # To open one of them to everybody would be a mistake that nobody notices.
    with pytest.raises(RouteError, match=r"on\('help'\): it is public, and for gm only"):
        routes.on("help", public=True)


@pytest.mark.parametrize("roles", [7, ("gm", 7), "", ("gm", ""), (["gm"],)])
def test_what_is_no_role(roles: Any) -> None:
    for declare in (lambda: Routes().on("ban", roles=roles), lambda: Routes(roles=roles)):
        with pytest.raises(RouteError, match="roles are names, such as 'gm'"):
            declare()


def test_public_and_for_some_only() -> None:
    with pytest.raises(RouteError, match=r"on\('ban'\): it is public, and for admin, gm only: which of the two\?"):
        Routes().on("ban", public=True, roles=("gm", "admin"))
    with pytest.raises(RouteError, match="default: it is public, and for gm only"):
        Routes().default(public=True, roles="gm")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"count": 0}, "`count` is a positive, finite number"),
        ({"count": -1.5}, "`count`"),
        ({"count": "5"}, "`count`"),
        ({"count": float("nan")}, "`count`"),
        ({"count": 5, "per": 0}, "`per` is a positive, finite number"),
        ({"count": 5, "per": float("inf")}, "`per`"),
        ({"count": 5, "burst": 0}, "`burst`, or else the count, is a whole number from 1 to 4294967295"),
        ({"count": 5, "burst": 2.5}, "`burst`"),
        ({"count": 1e10}, "`burst`"),
    ],
)
def test_what_is_no_rate(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(RouteError, match=re.escape(problem)):
        Rate(**arguments)


def test_a_rate() -> None:
    assert (Rate(5).tokens, Rate(5).interval) == (5, 0.2)
    assert (Rate(0.5).tokens, Rate(0.5).interval) == (1, 2)
    assert (Rate(5, per=10, burst=20).tokens, Rate(5, per=10).interval) == (20, 2)
    with pytest.raises(RouteError, match=r"on\('say'\): a rate is given as Rate\(count, per=seconds, burst=count\)"):
        Routes().on("say", rate=5)  # type: ignore[arg-type]

"""The task of a handler as others hold it: what it tells, what it refuses, and who gets its end."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import io
import weakref
from collections.abc import Callable

import pytest

from photinus import App, Refused, Routes, Session
from photinus.testing import TestCluster
from tests.handlers.stage import Stage, like_a_task

place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")


@like_a_task
async def test_it_is_one_object_all_along(stage: Stage) -> None:
    for _ in range(3):
        stage.saw(asyncio.current_task() is stage.task)
        await asyncio.sleep(0.1)

    async def child() -> None:
        stage.saw(asyncio.current_task() is stage.task)

    await child()
    await stage.aside(child())


@like_a_task
async def test_it_is_the_current_one_in_its_own_steps_only(stage: Stage) -> None:
    asyncio.get_running_loop().call_soon(lambda: stage.saw(asyncio.current_task()))
    await asyncio.sleep(0.1)
    asyncio.get_running_loop().call_soon(lambda: stage.saw(asyncio.current_task()))


@like_a_task
async def test_it_is_among_all_tasks_until_it_is_done(stage: Stage) -> None:
    async def outside() -> None:
        await asyncio.sleep(0.1)
        stage.saw(stage.task in asyncio.all_tasks())
        await asyncio.wait({stage.task})
        stage.saw(stage.task in asyncio.all_tasks())

    stage.aside(outside())
    stage.saw(stage.task in asyncio.all_tasks())
    await asyncio.sleep(0.5)
    stage.saw(stage.task in asyncio.all_tasks())


@like_a_task
async def test_its_children_may_be_eager(stage: Stage) -> None:
    """From 3.12 on: a child that makes its first step inside of its parent's."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(getattr(asyncio, "eager_task_factory", None))

    async def child() -> None:
        stage.saw("child", asyncio.current_task() is stage.task)
        await asyncio.sleep(0)
        stage.saw("child", asyncio.current_task() is stage.task)

    async with asyncio.TaskGroup() as group:
        group.create_task(child())
        stage.saw("itself", asyncio.current_task() is stage.task)
    loop.set_task_factory(None)


@like_a_task
async def test_what_it_says_of_itself(stage: Stage) -> None:
    task = stage.task
    stage.saw(asyncio.isfuture(task), inspect.isawaitable(task), asyncio.iscoroutine(task), callable(task))
    stage.saw(task.get_loop() is asyncio.get_running_loop(), task.done(), task.cancelled(), task.cancelling())
    stage.saw(inspect.iscoroutine(task.get_coro()), type(task).__class_getitem__(int).__args__)
    task.set_name(7)
    stage.saw(task.get_name())
    await asyncio.sleep(0.1)
    stage.saw(task.get_name(), asyncio.ensure_future(task) is task, asyncio.isfuture(task))


@like_a_task
async def test_its_context_is_the_one_it_runs_in(stage: Stage) -> None:
    place.set("hall")
    if hasattr(asyncio.Task, "get_context"):
        stage.saw(stage.task.get_context()[place])  # type: ignore[attr-defined]
    await asyncio.sleep(0.1)
    place.set("roof")
    if hasattr(asyncio.Task, "get_context"):
        stage.saw(stage.task.get_context()[place])  # type: ignore[attr-defined]


def raised(function: Callable[[], object]) -> object:
    try:
        return function()
    except (asyncio.InvalidStateError, RuntimeError, asyncio.CancelledError) as error:
        return error


@like_a_task
async def test_its_result_before_there_is_one(stage: Stage) -> None:
    stage.saw(raised(stage.task.result), raised(stage.task.exception))
    await asyncio.sleep(0.1)
    stage.saw(raised(stage.task.result), raised(stage.task.exception))


@like_a_task
async def test_nobody_else_may_say_what_it_comes_to(stage: Stage) -> None:
    stage.saw(raised(lambda: stage.task.set_result(None)))
    stage.saw(raised(lambda: stage.task.set_exception(LookupError())))


@like_a_task
async def test_its_result_is_had_by_all_who_ask(stage: Stage) -> bytes:
    async def asks() -> None:
        stage.saw(await stage.task)
        stage.saw(await stage.task, stage.task.result(), stage.task.exception(), stage.task.cancelled())

    stage.aside(asks())
    stage.aside(asks())
    await asyncio.sleep(0.1)
    return b"the result"


@like_a_task
async def test_its_result_may_be_a_tuple_or_an_error(stage: Stage) -> object:
    async def asks() -> None:
        stage.saw(*await stage.task)

    stage.aside(asks())
    await asyncio.sleep(0.1)
    return (LookupError("a value"), StopIteration(7))


@like_a_task
async def test_its_error_is_had_by_all_who_ask(stage: Stage) -> None:
    async def asks() -> None:
        for _ in range(2):
            try:
                await stage.task
            except LookupError as error:
                stage.saw(error, error is stage.task.exception())

    stage.frames = False  # those of whoever asked last
    stage.aside(asks())
    await asyncio.sleep(0.1)
    raise LookupError("for everybody")


@like_a_task
async def test_its_cancellation_is_had_by_all_who_ask(stage: Stage) -> None:
    async def asks() -> None:
        for _ in range(2):
            try:
                await stage.task
            except asyncio.CancelledError as error:
                stage.saw(error)
        stage.saw(raised(stage.task.result), raised(stage.task.exception))

    stage.aside(asks())
    await asyncio.sleep(0.1)
    stage.task.cancel("no more")
    await asyncio.sleep(0.1)


@like_a_task
async def test_callbacks_at_the_end(stage: Stage) -> None:
    def called(task: asyncio.Task[object]) -> None:
        stage.saw("called", task is stage.task, task.done(), place.get())

    def not_called(task: asyncio.Task[object]) -> None:
        stage.saw("called all the same")

    elsewhere = contextvars.copy_context()
    elsewhere.run(place.set, "elsewhere")
    stage.task.add_done_callback(called)
    stage.task.add_done_callback(called, context=elsewhere)
    for _ in range(2):
        stage.task.add_done_callback(not_called)
    place.set("after")
    await asyncio.sleep(0.1)
    stage.task.add_done_callback(called)
    stage.saw(stage.task.remove_done_callback(not_called), stage.task.remove_done_callback(not_called))


@like_a_task
async def test_callbacks_after_the_end(stage: Stage) -> None:
    async def outside() -> None:
        await asyncio.wait({stage.task})
        stage.task.add_done_callback(lambda task: stage.saw("late", task is stage.task))
        stage.saw("not yet", stage.task.remove_done_callback(print))
        await asyncio.sleep(0)

    stage.aside(outside())


@like_a_task
async def test_a_callback_that_fails_is_the_loops_to_report(stage: Stage) -> None:
    reports: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, report: reports.append(report))

    def fails(task: asyncio.Task[object]) -> None:
        raise LookupError("in a callback")

    async def outside() -> None:
        await asyncio.wait({stage.task})
        await asyncio.sleep(0)
        stage.saw(*(report["exception"] for report in reports))
        loop.set_exception_handler(None)

    stage.task.add_done_callback(fails)
    stage.aside(outside())


@like_a_task
async def test_its_stack(stage: Stage) -> None:
    def stack() -> list[str]:
        frames = [frame.f_code.co_name for frame in stage.task.get_stack()]
        return [name for name in frames if name not in ("run", "handler")]

    def printed() -> list[str]:
        file = io.StringIO()
        stage.task.print_stack(file=file, limit=5)
        lines = file.getvalue().splitlines()
        return [lines[0].partition(" for ")[0], *lines[-1:]]

    async def outside() -> None:
        await asyncio.sleep(0.05)
        stage.saw(stack(), printed()[0], len(stage.task.get_stack(limit=1)))
        await asyncio.wait({stage.task})
        stage.saw(stack(), printed())

    stage.aside(outside())
    await asyncio.sleep(0.1)
    raise LookupError("seen in the stack")


@like_a_task
async def test_what_it_looks_like(stage: Stage) -> None:
    def looks() -> list[bool]:
        text = repr(stage.task)
        return [part in text for part in ("pending", "cancelling", "finished", "exception=", "wait_for=<Future", "me")]

    async def outside() -> None:
        await asyncio.sleep(0.05)
        stage.saw(looks())
        stage.task.cancel()
        stage.saw(looks())
        await asyncio.wait({stage.task})
        stage.saw(looks())

    stage.task.set_name("me")
    stage.saw(looks())
    stage.aside(outside())
    try:
        await asyncio.sleep(0.1)
    finally:
        raise LookupError


@like_a_task
async def test_what_asyncio_and_anyio_read_of_its_private_parts(stage: Stage) -> None:
    task, future = stage.task, asyncio.get_running_loop().create_future()

    def parts() -> list[object]:
        waits_for = task._fut_waiter  # type: ignore[attr-defined]
        must_cancel = task._must_cancel  # type: ignore[attr-defined]
        return [waits_for is future, waits_for is None, must_cancel, task._state]

    async def outside() -> None:
        await asyncio.sleep(0.1)
        stage.saw(parts())
        future.set_result(None)
        stage.saw(parts())
        task.cancel()
        stage.saw(parts())

    stage.aside(outside())
    stage.saw(parts())
    try:
        await future
    except asyncio.CancelledError:
        stage.saw(parts())
    task.cancel()
    stage.saw(parts())


@like_a_task
async def test_weak_references_end_with_it(stage: Stage) -> None:
    gone: list[str] = []
    reference = weakref.ref(stage.task, lambda _: gone.append("gone"))
    table = weakref.WeakKeyDictionary({stage.task: "mine"})

    async def outside() -> None:
        await asyncio.sleep(0.1)
        stage.saw(reference() is stage.task, table.get(stage.task))

    await stage.aside(outside())
    stage.saw(reference() is stage.task, table.get(stage.task), gone)


async def test_a_cycle_through_it_is_collected() -> None:
    kept: list[weakref.ref[asyncio.Task[object]]] = []
    routes = Routes()

    @routes.on("do", public=True)
    async def handler(session: Session, body: bytes) -> None:
        task = asyncio.current_task()
        assert task is not None
        kept.append(weakref.ref(task))
        await asyncio.sleep(0.1)
        error = Refused("no")
        error.task = task  # type: ignore[attr-defined]
        raise error

    async with TestCluster(App("game", routes=[routes])) as t:
        ann = await t.connect()
        with pytest.raises(Refused):
            await ann.request("do", b"")
        gc.collect()
        assert kept[0]() is None

"""anyio keeps books on the tasks it meets, and looks into their private parts."""

from __future__ import annotations

import asyncio

import anyio

from tests.handlers.stage import Stage, like_a_task


@like_a_task
async def test_a_scope_that_is_cancelled_from_within(stage: Stage) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anyio.sleep(10)
    stage.saw(scope.cancelled_caught, scope.cancel_called, stage.task.cancelling())
    await anyio.sleep(0.1)


@like_a_task
async def test_a_scope_that_is_cancelled_from_outside(stage: Stage) -> None:
    with anyio.CancelScope() as scope:
        asyncio.get_running_loop().call_later(0.1, scope.cancel)
        try:
            await anyio.sleep(10)
        finally:
            stage.saw(scope.cancel_called)
    stage.saw(scope.cancelled_caught, stage.task.cancelling())


@like_a_task
async def test_time_limits(stage: Stage) -> None:
    with anyio.move_on_after(0.5) as limit:
        await anyio.sleep(10)
    stage.saw(limit.cancelled_caught)
    try:
        with anyio.fail_after(0.5), anyio.CancelScope(shield=True):
            await anyio.sleep(1)
        stage.saw("kept, by a shield")
        with anyio.fail_after(0.5):
            await anyio.sleep(1)
    except TimeoutError as error:
        stage.saw(error, stage.task.cancelling())


@like_a_task
async def test_scopes_in_each_other(stage: Stage) -> None:
    with anyio.move_on_after(0.5) as outer:
        with anyio.CancelScope(shield=True), anyio.move_on_after(0.7) as inner:
            await anyio.sleep(10)
        stage.saw("behind the shield", inner.cancelled_caught)
        await anyio.sleep(10)
    stage.saw(outer.cancelled_caught, stage.task.cancelling())


@like_a_task
async def test_a_group_with_a_child_that_fails(stage: Stage) -> None:
    async def fails() -> None:
        await anyio.sleep(0.1)
        raise LookupError("a child")

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(fails)
            await anyio.sleep(10)
    except* LookupError as errors:
        stage.saw(errors)
    stage.saw(stage.task.cancelling())


@like_a_task
async def test_a_cancellation_of_asyncios_own(stage: Stage) -> None:
    asyncio.get_running_loop().call_later(0.1, stage.task.cancel, "from outside")
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 5)
        await anyio.sleep(10)


@like_a_task
async def test_what_it_calls_the_task(stage: Stage) -> None:
    me = anyio.get_current_task()
    stage.saw(me.name == stage.task.get_name(), me.coro is stage.task.get_coro())
    await anyio.lowlevel.checkpoint()
    stage.saw(anyio.get_current_task() == me)

"""What asyncio builds on the current task: timeouts, task groups, and the functions that gather."""

from __future__ import annotations

import asyncio

from tests.handlers.stage import Stage, like_a_task


async def fails(after: float = 0.1) -> None:
    await asyncio.sleep(after)
    raise LookupError("a child")


async def gives(value: str, after: float = 0.1) -> str:
    await asyncio.sleep(after)
    return value


@like_a_task
async def test_a_timeout_that_is_exceeded(stage: Stage) -> bytes:
    limit = asyncio.timeout(0.5)
    try:
        async with limit:
            await asyncio.sleep(0.1)
            await asyncio.sleep(10)
    except TimeoutError as error:
        stage.saw(error, error.__cause__, limit.expired(), stage.task.cancelling())
    await asyncio.sleep(0.1)
    return b"too late"


@like_a_task
async def test_a_timeout_that_is_kept(stage: Stage) -> bytes:
    async with asyncio.timeout(0.5) as limit:
        await asyncio.sleep(0.1)
    await asyncio.sleep(1)
    stage.saw(limit.expired(), stage.task.cancelling())
    return b"in time"


@like_a_task
async def test_a_timeout_that_is_over_before_it_begins(stage: Stage) -> None:
    try:
        async with asyncio.timeout(0):
            await asyncio.sleep(10)
    except TimeoutError:
        stage.saw("over", stage.task.cancelling())


@like_a_task
async def test_a_timeout_that_is_moved(stage: Stage) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(None) as limit:
            await asyncio.sleep(0.1)
            limit.reschedule(loop.time() + 0.2)
            await asyncio.sleep(10)
    except TimeoutError:
        stage.saw(round(loop.time() - began, 6))


@like_a_task
async def test_timeouts_in_each_other(stage: Stage) -> None:
    for outer, inner in ((1.0, 0.5), (0.5, 1.0), (0.5, 0.5)):
        try:
            async with asyncio.timeout(outer):
                try:
                    async with asyncio.timeout(inner):
                        await asyncio.sleep(10)
                except TimeoutError:
                    stage.saw("inner", stage.task.cancelling())
                    await asyncio.sleep(10)
        except TimeoutError:
            stage.saw("outer", stage.task.cancelling())


@like_a_task
async def test_a_timeout_and_a_cancellation(stage: Stage) -> None:
    asyncio.get_running_loop().call_later(0.1, stage.task.cancel, "from outside")
    try:
        async with asyncio.timeout(0.5):
            await asyncio.sleep(10)
    except asyncio.CancelledError as error:
        stage.saw(error, stage.task.cancelling())
        raise


@like_a_task
async def test_wait_for(stage: Stage) -> None:
    stage.saw(await asyncio.wait_for(gives("in time"), 0.5))
    try:
        await asyncio.wait_for(asyncio.Event().wait(), 0.5)
    except TimeoutError as error:
        stage.saw(error, stage.task.cancelling())
    try:
        await asyncio.wait_for(fails(), 0.5)
    except LookupError as error:
        stage.saw(error)


@like_a_task
async def test_wait_for_is_cancelled(stage: Stage) -> None:
    asyncio.get_running_loop().call_later(0.1, stage.task.cancel, "while it waited")
    await asyncio.wait_for(asyncio.Event().wait(), 0.5)


@like_a_task
async def test_a_group_whose_children_succeed(stage: Stage) -> None:
    async with asyncio.TaskGroup() as group:
        children = [group.create_task(gives(each)) for each in "abc"]
    stage.saw([child.result() for child in children], stage.task.cancelling())


@like_a_task
async def test_a_group_with_a_child_that_fails(stage: Stage) -> None:
    others: list[asyncio.Task[str]] = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            others.append(group.create_task(gives("not any more", after=5)))
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError as error:
                stage.saw("the body", error, stage.task.cancelling())
                raise
    except* LookupError as errors:
        stage.saw(errors, others[0].cancelled())
    stage.saw(stage.task.cancelling())
    await asyncio.sleep(0.1)


@like_a_task
async def test_a_group_with_a_child_that_fails_after_the_body(stage: Stage) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(fails())


@like_a_task
async def test_a_group_whose_body_fails(stage: Stage) -> None:
    async with asyncio.TaskGroup() as group:
        stage.saw(group.create_task(gives("cancelled")).get_name().startswith("Task-"))
        raise ValueError("the body")


@like_a_task
async def test_a_group_that_is_cancelled(stage: Stage) -> None:
    asyncio.get_running_loop().call_later(0.1, stage.task.cancel, "from outside")
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(gives("never", after=5))
            await asyncio.sleep(10)
    except asyncio.CancelledError as error:
        stage.saw(error, stage.task.cancelling())
        raise


@like_a_task
async def test_groups_in_each_other(stage: Stage) -> None:
    try:
        async with asyncio.TaskGroup() as outer:
            outer.create_task(fails(0.2))
            async with asyncio.TaskGroup() as inner:
                inner.create_task(gives("never", after=5))
                await asyncio.sleep(10)
    except* LookupError as errors:
        stage.saw(errors)
    stage.saw(stage.task.cancelling())


@like_a_task
async def test_a_group_in_a_timeout(stage: Stage) -> None:
    try:
        async with asyncio.timeout(0.5), asyncio.TaskGroup() as group:
            group.create_task(gives("never", after=5))
    except TimeoutError as error:
        stage.saw(error, stage.task.cancelling())


@like_a_task
async def test_gather(stage: Stage) -> None:
    stage.saw(await asyncio.gather(gives("b", 0.2), gives("a")))
    results = await asyncio.gather(gives("a"), fails(), return_exceptions=True)
    stage.saw(*results)
    await asyncio.gather(gives("a"), fails())


@like_a_task
async def test_gather_is_cancelled(stage: Stage) -> None:
    asyncio.get_running_loop().call_later(0.1, stage.task.cancel, "all of them")
    await asyncio.gather(gives("a", 5), gives("b", 5))


@like_a_task
async def test_wait_and_as_completed(stage: Stage) -> None:
    children = {stage.aside(gives("late", 5)), stage.aside(gives("early"))}
    done, pending = await asyncio.wait(children, return_when=asyncio.FIRST_COMPLETED)
    stage.saw([child.result() for child in done], len(pending))
    for each in asyncio.as_completed([gives("second", 0.2), gives("first")]):
        stage.saw(await each)


@like_a_task
async def test_it_is_gathered_shielded_and_waited_for(stage: Stage) -> None:
    async def gathers() -> None:
        stage.saw(await asyncio.gather(stage.task, gives("other")))

    async def shields() -> None:
        stage.saw(await asyncio.shield(stage.task))

    async def waits() -> None:
        done, _ = await asyncio.wait({stage.task}, timeout=5)
        stage.saw(done == {stage.task})

    for coroutine in (gathers(), shields(), waits()):
        stage.aside(coroutine)
    await asyncio.sleep(0.5)


@like_a_task
async def test_it_is_gathered_and_cancelled(stage: Stage) -> None:
    async def gathers() -> None:
        try:
            await asyncio.gather(stage.task, gives("other", 5))
        except asyncio.CancelledError as error:
            stage.saw("gathered", error)

    async def collects() -> None:
        stage.saw(*await asyncio.gather(stage.task, return_exceptions=True))

    stage.aside(gathers())
    stage.aside(collects())
    asyncio.get_running_loop().call_later(0.1, stage.task.cancel, "gone")
    await asyncio.sleep(10)


@like_a_task
async def test_locks_queues_and_barriers(stage: Stage) -> None:
    lock, queue, condition = asyncio.Lock(), asyncio.Queue[str](1), asyncio.Condition()

    async def other() -> None:
        async with lock:
            await asyncio.sleep(0.1)
            await queue.put("from the other")
        await queue.put("and more")
        async with condition:
            condition.notify()

    stage.aside(other())
    await asyncio.sleep(0)
    async with lock:
        stage.saw(await queue.get())
    async with condition:
        await condition.wait()
    stage.saw(await queue.get())


@like_a_task
async def test_a_thread(stage: Stage) -> None:
    stage.saw(await asyncio.to_thread(str, 7))
    try:
        await asyncio.to_thread(int, "x")
    except ValueError as error:
        stage.saw(error)

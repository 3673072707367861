"""What a handler may wait for, what it may not, and how it goes on."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator
from contextlib import asynccontextmanager
from typing import Any

from tests.handlers.futures import Future
from tests.handlers.stage import Stage, like_a_task


class Yields:
    """An awaitable that gives these to the task, one after another."""

    def __init__(self, *what: object) -> None:
        self._what = what

    def __await__(self) -> Generator[Any, Any, list[object]]:
        sent: list[object] = []
        for each in self._what:
            answer = yield each
            sent.append(answer)
        return sent


async def complaint(stage: Stage, about: Awaitable[object]) -> None:
    """What is thrown at it, up to the names of objects, which differ from run to run."""
    try:
        stage.saw("nothing wrong", await about)
    except RuntimeError as error:
        stage.saw(type(error), str(error).partition("<")[0])


@like_a_task
async def test_futures_that_are_done(stage: Stage) -> None:
    future = asyncio.get_running_loop().create_future()
    future.set_result("at once")
    stage.saw(await future)
    future = asyncio.get_running_loop().create_future()
    future.set_exception(LookupError("at once"))
    try:
        await future
    except LookupError as error:
        stage.saw(error)
    future = asyncio.get_running_loop().create_future()
    future.cancel("at once")
    await future


@like_a_task
async def test_futures_that_come_to_something(stage: Stage) -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_later(0.1, future.set_result, "value")
    stage.saw(await future)
    future = loop.create_future()
    loop.call_later(0.1, future.set_exception, LookupError("error"))
    try:
        await future
    except LookupError as error:
        stage.saw(error)
    future = loop.create_future()
    loop.call_later(0.1, future.cancel, "message")
    await future


@like_a_task
async def test_one_future_by_two(stage: Stage) -> None:
    future = asyncio.get_running_loop().create_future()

    async def other() -> None:
        try:
            await future
        except LookupError as error:
            stage.saw("other", error)

    stage.aside(other())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.1, future.set_exception, LookupError("for both"))
    try:
        await future
    except LookupError as error:
        stage.saw("itself", error)


@like_a_task
async def test_turns_are_taken(stage: Stage) -> None:
    async def other() -> None:
        for turn in range(4):
            stage.saw("other", turn)
            await asyncio.sleep(0)

    stage.aside(other())
    for turn in range(4):
        stage.saw("itself", turn)
        await asyncio.sleep(0)


@like_a_task
async def test_the_order_of_futures_done_in_one_turn(stage: Stage) -> None:
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(3)]

    async def other(number: int) -> None:
        await futures[number]
        stage.saw("other", number)

    stage.aside(other(0))
    stage.aside(other(2))
    await asyncio.sleep(0)
    for future in futures:
        loop.call_later(0.1, future.set_result, None)
    await futures[1]
    stage.saw("itself")


@like_a_task
async def test_what_is_sent_is_none(stage: Stage) -> None:
    future = asyncio.get_running_loop().create_future()
    future.set_result("not this")
    future._asyncio_future_blocking = True
    stage.saw(await Yields(None, future, None))


@like_a_task
async def test_itself(stage: Stage) -> None:
    await complaint(stage, stage.task)
    await complaint(stage, Yields(stage.task))


@like_a_task
async def test_a_future_that_is_yielded_and_not_awaited(stage: Stage) -> None:
    future = asyncio.get_running_loop().create_future()
    await complaint(stage, Yields(future))


@like_a_task
async def test_what_is_no_future(stage: Stage) -> None:
    await complaint(stage, Yields(7))
    await complaint(stage, Yields("text", None))
    generator = (each for each in "abc")
    await complaint(stage, Yields(generator))
    stage.saw(list(generator))


@like_a_task
async def test_a_future_of_another_loop(stage: Stage) -> None:
    other = asyncio.new_event_loop()
    try:
        future = other.create_future()
        await complaint(stage, future)
        # It can be put right, and then all is as before.
        await asyncio.sleep(0.1)
    finally:
        other.close()


@like_a_task
async def test_a_complaint_that_is_not_caught(stage: Stage) -> None:
    await Yields(7)


@like_a_task
async def test_a_future_that_is_not_asyncios(stage: Stage) -> None:
    loop = asyncio.get_running_loop()
    future = Future(loop, remembers=False)
    loop.call_later(0.1, stage.task.cancel, "it does not want to")
    loop.call_later(0.2, future.done, "done")
    try:
        stage.saw(await future)
    except asyncio.CancelledError as error:
        stage.saw(error, future.cancellations)


@like_a_task
async def test_an_error_shows_where_it_came_from(stage: Stage) -> None:
    async def deep() -> None:
        await asyncio.sleep(0.1)
        raise LookupError("deep")

    async def deeper() -> None:
        try:
            await deep()
        except LookupError as error:
            raise ValueError("wrapped") from error

    await deeper()


@like_a_task
async def test_an_error_while_another_is_handled(stage: Stage) -> None:
    try:
        int("x")
    except ValueError:
        await asyncio.sleep(0.1)
        raise LookupError("second")  # noqa: B904 - the context is what is looked at


@like_a_task
async def test_a_stop_iteration(stage: Stage) -> None:
    await asyncio.sleep(0.1)
    raise StopIteration("not a return")


async def counting(stage: Stage) -> AsyncGenerator[int, str | None]:
    try:
        for number in range(3):
            stage.saw("sent", (yield number))
            await asyncio.sleep(0.1)
    except ValueError as error:
        stage.saw("thrown", error)
        await asyncio.sleep(0.1)
        yield -1
    finally:
        await asyncio.sleep(0.1)
        stage.saw("closed", asyncio.current_task() is stage.task)


@like_a_task
async def test_asynchronous_generators(stage: Stage) -> None:
    async for number in counting(stage):
        stage.saw(number)
    numbers = counting(stage)
    stage.saw(await anext(numbers), await numbers.asend("word"), await numbers.athrow(ValueError("enough")))
    await numbers.aclose()
    numbers = counting(stage)
    stage.saw(await anext(numbers))
    await numbers.aclose()


@like_a_task
async def test_an_asynchronous_generator_that_is_left_is_closed_by_the_loop(stage: Stage) -> None:
    async for number in counting(stage):
        stage.saw(number)
        break
    await asyncio.sleep(1)


@like_a_task
async def test_asynchronous_contexts(stage: Stage) -> None:
    @asynccontextmanager
    async def room() -> AsyncIterator[str]:
        await asyncio.sleep(0.1)
        try:
            yield "inside"
        finally:
            await asyncio.sleep(0.1)
            stage.saw("left")

    async with room() as where:
        stage.saw(where)
        raise LookupError(where)


@like_a_task
async def test_a_generator_based_coroutine(stage: Stage) -> bytes:
    @types.coroutine
    def old() -> Generator[Any, Any, bytes]:
        yield
        yield from asyncio.sleep(0.1).__await__()
        return b"as of old"

    return await old()

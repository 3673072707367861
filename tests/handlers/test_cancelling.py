"""Cancellation: asked for by whom it may, delivered where asyncio delivers it, counted as asyncio counts."""

from __future__ import annotations

import asyncio

from tests.handlers.stage import Stage, like_a_task


@like_a_task
async def test_from_outside_uncaught(stage: Stage) -> None:
    async def outside() -> None:
        await asyncio.sleep(0.1)
        stage.saw(stage.task.cancel("enough"), stage.task.cancelling(), stage.task.cancelled(), stage.task.done())

    stage.aside(outside())
    try:
        await asyncio.sleep(10)
    finally:
        stage.saw(asyncio.current_task() is stage.task, stage.task.cancelling())


@like_a_task
async def test_from_outside_caught_and_taken_back(stage: Stage) -> bytes:
    async def outside() -> None:
        await asyncio.sleep(0.1)
        stage.saw(stage.task.cancel("enough"))

    stage.aside(outside())
    try:
        await asyncio.sleep(10)
    except asyncio.CancelledError as error:
        stage.saw(error, stage.task.cancelling(), stage.task.uncancel(), stage.task.uncancel())
    await asyncio.sleep(0.1)
    return b"went on"


@like_a_task
async def test_swallowed_and_asked_again(stage: Stage) -> bytes:
    async def outside() -> None:
        for message in ("once", "twice"):
            await asyncio.sleep(0.1)
            stage.saw(stage.task.cancel(message), stage.task.cancelling())

    stage.aside(outside())
    for _ in range(2):
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError as error:
            stage.saw(error)
    return b"stubborn"


@like_a_task
async def test_twice_in_one_turn(stage: Stage) -> None:
    async def outside() -> None:
        await asyncio.sleep(0.1)
        stage.saw(stage.task.cancel("first"), stage.task.cancel("second"), stage.task.cancelling())

    stage.aside(outside())
    try:
        await asyncio.sleep(10)
    except asyncio.CancelledError as error:
        stage.saw(error)
        await asyncio.sleep(0)
        raise


@like_a_task
async def test_itself_before_it_suspends(stage: Stage) -> bytes:
    stage.saw(stage.task.cancel("now"), stage.task.cancelling())
    try:
        await asyncio.sleep(10)
    except asyncio.CancelledError as error:
        stage.saw(error)
    return b"was cancelled"


@like_a_task
async def test_itself_before_a_bare_yield(stage: Stage) -> bytes:
    stage.task.cancel("now")
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError as error:
        stage.saw(error)
    return b"was cancelled"


@like_a_task
async def test_itself_before_it_returns(stage: Stage) -> bytes:
    """What it returns is lost."""
    stage.task.cancel("too late to be caught")
    return b"nobody gets this"


@like_a_task
async def test_itself_before_it_raises(stage: Stage) -> bytes:
    stage.task.cancel()
    raise LookupError("this is what counts")


@like_a_task
async def test_itself_taken_back_before_it_suspends(stage: Stage) -> bytes:
    """Since 3.13 that also takes back what was not yet delivered."""
    stage.saw(stage.task.cancel(), stage.task.uncancel())
    try:
        await asyncio.sleep(0.1)
    except asyncio.CancelledError as error:
        stage.saw(error)
        return b"delivered"
    return b"not delivered"


@like_a_task
async def test_before_it_goes_on(stage: Stage) -> None:
    """The future is done, its waiter has not been called yet: the cancellation comes first."""
    future = asyncio.get_running_loop().create_future()

    async def outside() -> None:
        await asyncio.sleep(0.1)
        future.set_result("came too late")
        stage.saw(stage.task.cancel("overtakes"))

    stage.aside(outside())
    try:
        stage.saw(await future)
    except asyncio.CancelledError as error:
        stage.saw(error, future.done(), future.cancelled())
        raise


@like_a_task
async def test_what_it_waits_for_fails_and_it_is_cancelled(stage: Stage) -> None:
    future = asyncio.get_running_loop().create_future()

    async def outside() -> None:
        await asyncio.sleep(0.1)
        future.set_exception(LookupError("not seen"))
        stage.task.cancel()

    stage.aside(outside())
    try:
        await future
    except asyncio.CancelledError as error:
        stage.saw(error, error.__context__)
        raise


@like_a_task
async def test_is_passed_on_to_what_it_waits_for(stage: Stage) -> None:
    async def child() -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError as error:
            stage.saw("child", error)
            raise

    async def outside() -> None:
        await asyncio.sleep(0.1)
        stage.task.cancel("through")

    stage.aside(outside())
    try:
        await stage.aside(child())
    except asyncio.CancelledError as error:
        stage.saw("itself", error)
        raise


@like_a_task
async def test_what_it_waits_for_refuses(stage: Stage) -> bytes:
    async def refuses() -> str:
        for _ in range(2):
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                stage.saw("refused")
        return "done all the same"

    async def outside() -> None:
        for _ in range(2):
            await asyncio.sleep(0.1)
            stage.saw(stage.task.cancel(), stage.task.cancelling())

    stage.aside(outside())
    stage.saw(await stage.aside(refuses()), stage.task.cancelling())
    return b"not cancelled"


@like_a_task
async def test_shielded(stage: Stage) -> None:
    async def inner() -> str:
        await asyncio.sleep(1)
        return "finished"

    async def outside() -> None:
        await asyncio.sleep(0.1)
        stage.task.cancel("only the outer")

    stage.aside(outside())
    precious = stage.aside(inner())
    try:
        await asyncio.shield(precious)
    except asyncio.CancelledError as error:
        stage.saw(error, precious.done())
        stage.saw(await precious)
        raise


@like_a_task
async def test_raised_by_hand(stage: Stage) -> None:
    stage.saw(stage.task.cancelling())
    raise asyncio.CancelledError("of its own accord", 7)


@like_a_task
async def test_raised_by_hand_after_a_suspension(stage: Stage) -> None:
    await asyncio.sleep(0.1)
    raise asyncio.CancelledError


@like_a_task
async def test_turned_into_another_error(stage: Stage) -> None:
    asyncio.get_running_loop().call_later(0.1, stage.task.cancel)
    try:
        await asyncio.sleep(10)
    except asyncio.CancelledError as error:
        raise ValueError("cleaning up failed") from error


@like_a_task
async def test_cleaning_up_takes_time(stage: Stage) -> None:
    asyncio.get_running_loop().call_later(0.1, stage.task.cancel, "stop")
    try:
        await asyncio.sleep(10)
    finally:
        await asyncio.sleep(0.5)
        stage.saw("cleaned up", stage.task.cancelling())


@like_a_task
async def test_after_the_end(stage: Stage) -> None:
    async def outside() -> None:
        await asyncio.wait({stage.task})
        stage.saw(stage.task.cancel(), stage.task.cancelling(), stage.task.uncancel(), stage.task.cancelled())

    stage.aside(outside())
    await asyncio.sleep(0.1)


@like_a_task
async def test_whoever_awaits_it_is_cancelled_and_so_is_it(stage: Stage) -> None:
    async def awaits() -> None:
        try:
            await stage.task
        except asyncio.CancelledError as error:
            stage.saw("awaits", error)
            raise

    waiting = stage.aside(awaits())
    asyncio.get_running_loop().call_later(0.1, waiting.cancel, "both")
    try:
        await asyncio.sleep(10)
    except asyncio.CancelledError as error:
        stage.saw("itself", error)
        raise


@like_a_task
async def test_by_a_wait_for_around_it(stage: Stage) -> None:
    async def impatient() -> None:
        try:
            await asyncio.wait_for(stage.task, 0.5)
        except TimeoutError as error:
            stage.saw(error, stage.task.cancelled())

    stage.aside(impatient())
    try:
        await asyncio.sleep(10)
    finally:
        stage.saw("ended", stage.task.cancelling())

"""Hooks: what an application does around the handlers of a Routes, such as validation or an audit.

`Routes(before=check, after=[count, note])`: `before` hooks run in order and may refuse the call,
`after` hooks run in reverse order and see what became of it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct

from .session import Session


class Call(Struct, frozen=True):
    """One call of a handler: its route (a name, a number, None for the default) and its message."""

    route: str | int | None
    message: Struct | bytes


class Outcome(Struct, frozen=True):
    """What became of a call: the `reply`, or the `error` that was raised by the handler or a before hook."""

    reply: Struct | bytes | None
    error: BaseException | None
    seconds: float
    """How long it took, with its before hooks, on the loop's clock."""


Before = Callable[[Session[Any], Call], Awaitable[None] | None]
After = Callable[[Session[Any], Call, Outcome], Awaitable[None] | None]


class Hook(Struct, frozen=True):
    """One declared hook."""

    function: Callable[..., Any]
    asynchronous: bool
    place: str


class Hooks(Struct, frozen=True):
    """The hooks of one Routes."""

    before: tuple[Hook, ...]
    after: tuple[Hook, ...]

    @property
    def asynchronous(self) -> bool:
        return any(hook.asynchronous for hook in self.before + self.after)


# Told of an after hook that raised: the session, the route, the hook, the exception.
Failed = Callable[[Session[Any], str | int | None, Hook, Exception], None]


def around(
    hooks: Hooks,
    route: str | int | None,
    handler: Callable[..., Any],
    *,
    suspends: bool,
    failed: Failed,
    now: Callable[[], float],
) -> Callable[[Session[Any], Any], Any]:
    """The handler with these hooks around it, as one function of a session and a message.

    It is an `async def` if the handler is one (`suspends`) or a hook is. After hooks run for every
    call that before hooks ran for, whatever these or the handler raised; what an after hook raises
    is told to `failed`, and the reply is what it would have been.
    """
    before, after = hooks.before, hooks.after[::-1]

    @functools.wraps(handler)
    def at_once(session: Session[Any], message: Any) -> Any:
        call, began = Call(route, message), now()
        try:
            for hook in before:
                hook.function(session, call)
            reply = handler(session, message)
        except Exception as error:
            look(session, call, None, error, began)
            raise
        if after:
            look(session, call, reply, None, began)
        return reply

    def look(session: Session[Any], call: Call, reply: Any, error: Exception | None, began: float) -> None:
        outcome = Outcome(reply, error, now() - began)
        for hook in after:
            try:
                hook.function(session, call, outcome)
            except Exception as problem:  # noqa: BLE001 - it is reported, and the reply goes out
                failed(session, route, hook, problem)

    @functools.wraps(handler)
    async def in_time(session: Session[Any], message: Any) -> Any:
        call, began = Call(route, message), now()
        try:
            for hook in before:
                waiting = hook.function(session, call)
                if hook.asynchronous:
                    await waiting
            reply = handler(session, message)
            if suspends:
                reply = await reply
        # The node's stop cancels handlers: that is an outcome too.
        except (Exception, asyncio.CancelledError) as error:
            await look_in_time(session, call, None, error, began)
            raise
        if after:
            await look_in_time(session, call, reply, None, began)
        return reply

    async def look_in_time(
        session: Session[Any], call: Call, reply: Any, error: BaseException | None, began: float
    ) -> None:
        outcome = Outcome(reply, error, now() - began)
        for hook in after:
            try:
                waiting = hook.function(session, call, outcome)
                if hook.asynchronous:
                    await waiting
            except Exception as problem:  # noqa: BLE001 - it is reported, and the reply goes out
                failed(session, route, hook, problem)

    return in_time if suspends or hooks.asynchronous else at_once

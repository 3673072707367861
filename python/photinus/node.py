"""A node: one application on one engine and one event loop, from start to graceful stop."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from . import engine as engines
from .app import App, AppHook, Reporter
from .certificates import LOOK_SECONDS, Certificates
from .cluster.guests import DATA_SECONDS
from .cluster.node import Cluster
from .cluster.service import Handling
from .cluster.table import has_tls_links
from .cluster.table import roles as roles_of
from .cluster.watch import LOOK_SECONDS as LOOK_AT_LINKS_SECONDS
from .config import DEFAULT_THREADS, MOST_THREADS, Config, Role
from .engine import Engine, Handler, MemoryNetwork
from .engine import Session as NativeSession
from .errors import ConfigError, Refused, UsageError
from .hooks import Hook, around
from .message import ENCODERS_INTO, decoders, error_body, is_bad_message
from .routes import Route, Table
from .scope import Scope
from .session import Closed, Players, Session
from .tasks import Tasks, Timer

T = TypeVar("T")

# What was sent gets this long to leave, and handlers and tasks to end, when a node stops.
STOP_SECONDS = 5.0
# Each thing that an application does when a stop begins gets this long: enough to tell the players and
# to write a little down, and with what follows still less than supervisors wait (10 s and more).
STOPPING_SECONDS = 3.0

_log = logging.getLogger("photinus")


class Node:
    """Runs an App: `async with Node(app, listen=["tcp://127.0.0.1:0"]) as node: node.addresses`.

    `listen` replaces the configuration's listeners. It runs on whatever asyncio loop is running;
    `engine` is for a loop that was made for it (photinus.engine.new_event_loop), or for an engine
    without sockets.

    ConfigError on entering if a listener's URL or a limit is wrong; OSError if the system refuses
    an address.
    """

    def __init__(
        self,
        app: App,
        *,
        listen: Sequence[str] | None = None,
        config: Config | None = None,
        engine: Engine | None = None,
        watch: Callable[[BaseException], None] | None = None,
    ) -> None:
        config = Config() if config is None else config
        self.app = app
        self.name = config.node.name or app.name
        self.addresses: tuple[str, ...] = ()
        """The URLs of the listeners, with the addresses really bound."""
        self.engine = engine_for(config) if engine is None else engine
        self.certificates = Certificates(config.tls, self.engine, links=has_tls_links(config))
        self.scope = Scope(self.name)
        self.players = self.scope.add(Players())
        self.scope.add(Reporter(self.statistics))
        self._listen = config.node.listen if listen is None else tuple(listen)
        self._attached = engine is not None
        self._detach: Callable[[], None] | None = None
        self._watch = watch
        self._config = config
        self._cluster: Cluster | None = None
        self._tasks: Tasks | None = None
        self._declared: list[asyncio.Task[Any]] = []
        self._serving = False
        self._stopped = False
        self._reloads = 0
        self.reload_errors = 0
        """Attempts to `replace` the App that came to nothing; counted by whoever made them."""
        self._handler_errors = 0
        self._hook_errors = 0
        self._call_errors = 0
        self._refused = 0
        self._bad_messages = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Serves from here on. A node is started once.

        What a `started` hook of the application raises is raised here, and nothing was served.
        """
        loop = asyncio.get_running_loop()
        table = self.app.table()
        if self.engine.owner is not None:
            raise UsageError("this engine has a node already: each needs its own")
        self._tasks = tasks = self.scope.add(Tasks(self.scope, loop, self._task_failed))
        self.scope.add(self.engine)
        self.scope.add(self.app)
        self.engine.owner = self.scope
        self._cluster = self._join(loop)
        self._install(self.app, table, loop)
        self.scope.register()
        try:
            if not self._attached:
                self._detach = engines.attach(self.engine, loop)
            self.certificates.load()
            self.addresses = tuple(self._bind(url) for url in self._listen)
            self._cluster.start()
            await self._started(loop)
            self.engine.start()
            if self.certificates.given:
                tasks.start_timer(Timer(LOOK_SECONDS, self.certificates.look, repeats=True))
            if self._cluster.has_others:
                tasks.start_timer(Timer(DATA_SECONDS, self._cluster.guests.keep, repeats=True))
                tasks.start_timer(Timer(LOOK_AT_LINKS_SECONDS, self._cluster.watch.look, repeats=True))
            self._declared = self.app.start_in(tasks)
            self._serving = True
        except BaseException:
            await self.stop(timeout=0)
            raise

    async def stop(self, *, timeout: float = STOP_SECONDS) -> None:
        """Takes no more clients, tells those there are, and ends everything within the timeout.

        The application's `stopping` hooks come first, and have STOPPING_SECONDS each. Sessions get
        what waits for them and are closed with the reason `shutdown`; timers and tasks are cancelled
        after their `closed` handlers, which may need them.
        """
        if self._stopped:
            return
        self._stopped = True
        try:
            if self._serving:
                await self._stopping()
        finally:
            if self._cluster is not None and self._serving:
                await self._cluster.guests.part()
            # The sessions' last handlers may still call services; those end behind them.
            last = None if self._cluster is None else self._cluster.stop
            await engines.stop(self.engine, timeout=timeout, last=last)
            if self._tasks is not None:
                await self._tasks.stop(max(timeout, engines.GOODBYE_SECONDS))
            if self._detach is not None:
                self._detach()
                self._detach = None
            self.scope.unregister()

    async def replace(self, app: App, *, renew: Callable[[list[Any]], list[Any]] | None = None) -> None:
        """Runs this App from now on instead, as an edited game is; listeners, connections, sessions,
        logins and groups stay.

        It happens in one step, behind which every packet that waits is handled by the new App; what
        that has no route for is refused as `unknown-route`. Handlers of the old App that are
        suspended run to their end, and what handlers have started goes on. The old App's declared
        timers and tasks are cancelled, and those of the new one start when they have ended, or
        STOP_SECONDS have passed. Neither App's `stopping` and `started` hooks are called: the node
        does neither.

        `renew` is given the `data` of all sessions and returns what takes its place: the same in the
        new App's classes. A session whose handler is suspended gets its new data when that is done.
        What `renew` raises, and RouteError if the new App's routes contradict each other, leaves
        everything as it was. UsageError if the node does not run.
        """
        tasks = self._running()
        if tasks is None:
            raise UsageError("replace: this node does not run")
        table = app.table()
        sessions = self.engine.sessions()
        renewed = [] if renew is None else renew([session.data for session in sessions])
        caught_up = None if renew is None else partial(self._catch_up, renew)
        if self._cluster is not None and app is not self.app:
            self._cluster.instances.replace(app.callees)
        self._install(app, table, asyncio.get_running_loop(), caught_up)
        # Nothing was awaited since the data was read, so nobody has changed it.
        idle = set(self.engine.sessions(idle=True))
        for session, data in zip(sessions, renewed, strict=renew is not None):
            if session in idle:
                session.data = data
        if app is not self.app:
            self.scope.replace(self.app, app)
            self.app = app
        self._reloads = number = self._reloads + 1
        declared, self._declared = self._declared, []
        await tasks.end(declared, STOP_SECONDS)
        if self._running() and self._reloads == number:
            try:
                self._declared = app.start_in(tasks)
            except Exception as error:  # noqa: BLE001 - the App runs already, and goes on without them
                self._task_failed(f"the start of the tasks of {app}", error)

    def statistics(self) -> dict[str, Any]:
        """The engine's statistics, and under `app` what happened above it since the start."""
        app = {
            "handler_errors": self._handler_errors,
            "hook_errors": self._hook_errors,
            "call_errors": self._call_errors,
            "refused": self._refused,
            "bad_messages": self._bad_messages,
            "reloads": self._reloads,
            "reload_errors": self.reload_errors,
            "players": len(self.players),
            "tasks": {} if self._tasks is None else self._tasks.statistics(),
        }
        cluster = {} if self._cluster is None else self._cluster.statistics()
        return {**self.engine.statistics(), **cluster, "app": app}

    @property
    def roles(self) -> tuple[Role, ...]:
        """What it does: hold clients, run the game, or both."""
        return roles_of(self._config)

    def reaches(self, node: str) -> bool:
        """Whether calls to that node have a link now; its own always have."""
        return self._cluster is not None and self._cluster.calls.reaches(node)

    def _join(self, loop: asyncio.AbstractEventLoop) -> Cluster:
        cluster = Cluster(
            self.name,
            self._config,
            self.app.callees,
            self.engine,
            loop=loop,
            context=self.scope.context,
            failed=self._call_failed,
        )
        self.scope.add(cluster.calls)
        self.scope.add(cluster.abroad)
        return cluster

    def _running(self) -> Tasks | None:
        return self._tasks if self._serving and not self._stopped else None

    def _install(
        self,
        app: App,
        table: Table,
        loop: asyncio.AbstractEventLoop,
        caught_up: Callable[[NativeSession], None] | None = None,
    ) -> None:
        app.seal()
        cluster = self._cluster
        if cluster is None:
            raise UsageError("this node does not run")
        cluster.guests.install(table.data(), _in_turn(table.rehomed))
        self.engine.install(
            session_type=Session,
            routes={
                **{key: self._handler(route, loop) for key, route in table.routes.items()},
                **{key: _attached(cluster, handling) for key, handling in cluster.handlers().items()},
            },
            default=None if table.default is None else self._handler(table.default, loop),
            opened=_in_turn(table.opened),
            resumed=_in_turn(table.resumed),
            told=_in_turn(table.told),
            closed=self._closed(cluster, table.closed),
            failed=self._failed,
            refusals={
                **{code: partial(Refused, code) for code in ("unknown-route", "login-required", "forbidden")},
                "too-fast": _too_fast,
            },
            encoders=ENCODERS_INTO,
            event_loop=loop,
            context=self.scope.context,
            caught_up=caught_up,
            linked=cluster.linked,
            unlinked=cluster.unlinked,
            frames=cluster.calls.handle_frame,
            bound=cluster.guests.handle_bound,
            done=cluster.guests.handle_done,
        )

    def _handler(self, route: Route, loop: asyncio.AbstractEventLoop) -> Handler:
        message, hooks = route.shape.message, route.hooks
        call, asynchronous = route.handler, route.shape.asynchronous
        if hooks is not None:
            call = around(hooks, route.key, call, suspends=asynchronous, failed=self._hook_failed, now=loop.time)
            asynchronous = asynchronous or hooks.asynchronous
        return Handler(
            call,
            asynchronous=asynchronous,
            public=route.public,
            decode=None if message is None or message is bytes else decoders(message),
            roles=sorted(route.roles),
            rate=None if route.rate is None else (route.rate.interval, route.rate.tokens),
            secret=route.secret,
        )

    async def _started(self, loop: asyncio.AbstractEventLoop) -> None:
        for hook in self.app.starting:
            try:
                # As code of this node, whoever starts it.
                await loop.create_task(hook(), context=self.scope.context.copy())
            except Exception as error:
                error.add_note(f"raised by the started hook at {hook.shape.place}: the node did not start")
                raise

    async def _stopping(self) -> None:
        async def in_time(hook: AppHook) -> None:
            limit = asyncio.timeout(STOPPING_SECONDS)
            try:
                async with limit:
                    await hook()
            except TimeoutError as error:
                if limit.expired():
                    raise TimeoutError(f"it was not done within {STOPPING_SECONDS:g} s") from error
                raise

        for hook in self.app.ending:
            # A task of the node, which reports what it raises. One that does not heed that it was
            # cancelled is left behind.
            task = self.scope.part(Tasks).start(in_time(hook), name=f"stopping hook at {hook.shape.place}")
            await asyncio.wait([task], timeout=STOPPING_SECONDS + engines.GOODBYE_SECONDS)

    def _bind(self, url: str) -> str:
        try:
            return self.engine.listen(url)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        except OSError as error:
            raise OSError(error.errno, error.strerror, url) from error

    def _closed(self, cluster: Cluster, routes: tuple[Route, ...]) -> Callable[[Session[Any], str, str], Any]:
        application = _in_turn(routes)
        release = self.players.closed
        guests = cluster.guests

        def closed(session: Session[Any], by: Any, reason: str) -> Any:
            visits = guests.is_visitor(session)
            guests.closed(session)
            return None if visits else closed_at_home(session, by, reason)

        def closed_at_home(session: Session[Any], by: Any, reason: str) -> Any:
            if application is None:
                release(session)
                return None
            try:
                result = application(session, Closed(by, reason))
            except BaseException:
                release(session)
                raise
            if result is None:
                release(session)
                return None
            return released(session, result)

        async def released(session: Session[Any], result: Any) -> None:
            try:
                await result
            finally:
                release(session)

        return closed

    def _failed(self, session: Session[Any], route: str | int | None, error: BaseException) -> bytes | None:
        """Called by the engine with what came out of a handler, or instead of one.

        Returns the error answer, which the engine uses where the peer waits for one.
        """
        if isinstance(error, asyncio.CancelledError):
            # The node stops. Nobody is at fault.
            return error_body(error, session.format)
        if isinstance(error, Refused):
            self._refused += 1
        elif is_bad_message(error):
            self._bad_messages += 1
        else:
            self._handler_error(session, route, error)
        try:
            return error_body(error, session.format)
        except TypeError as unencodable:
            self._handler_error(session, route, unencodable)
            return error_body(unencodable, session.format)

    def _handler_error(self, session: NativeSession, route: Any, error: BaseException) -> None:
        self._handler_errors += 1
        if isinstance(route, tuple):
            # A space's or a service's, behind its class's number.
            route = cast("tuple[int, str | int]", route)[1]
        where = "a handler without a route" if route is None else f"the handler of {route!r}"
        _log.error("%s failed for session %s", where, session.address, exc_info=error)
        if self._watch is not None:
            self._watch(error)

    def _hook_failed(self, session: Session[Any], route: str | int | None, hook: Hook, error: Exception) -> None:
        self._hook_errors += 1
        _log.error(
            "the after hook at %s failed for session %s, route %r", hook.place, session.address, route, exc_info=error
        )
        if self._watch is not None:
            self._watch(error)

    def _call_failed(self, what: str, error: BaseException) -> None:
        self._call_errors += 1
        _log.error("%s failed", what, exc_info=error)
        if self._watch is not None:
            self._watch(error)

    def _catch_up(self, renew: Callable[[list[Any]], list[Any]], session: NativeSession) -> None:
        """A handler of this session is done that may have begun before the last `replace`."""
        try:
            (session.data,) = renew([session.data])
        except Exception as error:  # noqa: BLE001 - it is reported, and the session keeps what it has
            self._handler_error(session, None, error)

    def _task_failed(self, what: str, error: BaseException) -> None:
        _log.error("%s failed", what, exc_info=error)
        if self._watch is not None:
            self._watch(error)


def run(
    app: App,
    main: Callable[[Node], Coroutine[Any, Any, T]],
    *,
    listen: Sequence[str] | None = None,
    config: Config | None = None,
) -> T:
    """Runs a node for as long as `main(node)` does, on a loop that is made for its engine.

    This is asyncio.run with the shorter way from the engine to the handlers. Like it, it is for the
    outermost call of a program.
    """
    config = Config() if config is None else config
    engine = engine_for(config)

    async def serve() -> T:
        async with Node(app, listen=listen, config=config, engine=engine) as node:
            return await main(node)

    with (
        asyncio.Runner(loop_factory=lambda: engines.new_event_loop(engine)) as runner,
        engines.woken_by_signals(runner.get_loop()),
    ):
        return runner.run(serve())


def engine_for(config: Config, *, memory: bool = False, network: MemoryNetwork | None = None, name: str = "") -> Engine:
    """An engine with these limits; ConfigError names the one that it does not accept. One in memory is alone, or has
    this name in a network."""
    limits = config.limits.given()
    threads = threads_for(config)
    try:
        engine = Engine(threads=threads, memory=memory, limits=limits, network=network, name=name)
    except ValueError as error:
        raise ConfigError(f"[limits] {error}") from error
    for app in config.native.apps:
        try:
            engine.add_app(app)
        except ValueError as error:
            raise ConfigError(f"[native] apps: {error}") from error
    return engine


def threads_for(config: Config) -> int:
    """Native threads that lead reactors. A proxy's Python has nothing to do with what it forwards."""
    if isinstance(config.engine.threads, int):
        return config.engine.threads
    if roles_of(config) == ("proxy",):
        return max(1, min(len(os.sched_getaffinity(0)) - 1, MOST_THREADS)) if sys.platform == "linux" else 1
    return DEFAULT_THREADS


def _attached(cluster: Cluster, handling: Handling) -> Handler:
    """Whoever is attached may call it: that is for the session's home to decide."""
    message = handling.shape.message
    return Handler(
        cluster.guests.handler(handling.name),
        asynchronous=handling.shape.asynchronous,
        public=True,
        decode=None if message is None or message is bytes else decoders(message),
        of_target=True,
    )


def _too_fast(seconds: float) -> Refused:
    return Refused("too-fast", retry_after=seconds)


def _in_turn(routes: tuple[Route, ...]) -> Callable[..., Any] | None:
    """The `opened`, `resumed` or `closed` handlers of several Routes as one; each is called, whatever the
    others do."""
    handlers = [route.handler for route in routes]
    if len(handlers) < 2:
        return handlers[0] if handlers else None

    async def all_of_them(*arguments: Any) -> None:
        errors: list[Exception] = []
        for handler in handlers:
            try:
                result = handler(*arguments)
                if result is not None:
                    await result
            except Exception as error:  # noqa: BLE001 - all are raised again below
                errors.append(error)
        if errors:
            raise ExceptionGroup("handlers failed", errors) if len(errors) > 1 else errors[0]

    return all_of_them

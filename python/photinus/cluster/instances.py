"""The services and spaces that are on one node: made at the first call, opened, found, closed.

The life of an instance: its `open` runs, and what is asked of it meanwhile is held, in order; then it
is open; then its `close` runs, and what is asked for meanwhile is held for the next one, which is made
when `close` is through. What is held is let go in one step, so that nothing overtakes it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from enum import Enum
from typing import Any

import msgspec

from ..errors import UsageError
from .callee import Entry, NoSuchCall, NotHere
from .payload import Malformed, parse_target
from .placement import Placement
from .service import Service

# The name of what every service and space has beside its own methods: its number here, and its class's.
ATTACH = "@attach"
# What a `close` may take when the node stops. As long as a handler gets then.
CLOSE_SECONDS = 3.0

_encode = msgspec.msgpack.Encoder().encode
_no_arguments = msgspec.msgpack.Decoder(tuple[()]).decode

# Told of the instance, or of why there is none.
Ready = Callable[["Service | BaseException"], None]


class State(Enum):
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"


class Instance:
    """One service or space, and what is held for it, or for the next under its address."""

    __slots__ = ("held", "service", "state", "targets", "task")

    def __init__(self, service: Service) -> None:
        self.service = service
        self.state = State.OPENING
        self.held: list[Ready] = []
        # Of the entries by which it is called at once.
        self.targets: list[bytes] = []
        # Of its `open`: asyncio itself holds tasks only weakly.
        self.task: asyncio.Task[Any] | None = None


class Instances:
    """Those of one node, of these classes by their names. `run` and `failed` are as in Calls."""

    def __init__(
        self,
        classes: Mapping[str, type[Service]],
        node: str,
        placement: Placement,
        *,
        run: Callable[..., asyncio.Task[Any] | None],
        context: Context,
        failed: Callable[[str, BaseException], None],
    ) -> None:
        self.entries: dict[bytes, Entry] = {}
        self._classes = dict(classes)
        self._node = node
        self._placement = placement
        self._run = run
        self._context = context
        self._failed = failed
        self._instances: dict[str, Instance] = {}
        self.evict: Callable[[Service, int], Coroutine[Any, Any, None]] | None = None
        """Whoever knows the sessions that are attached to what ends, under its number."""
        # By the numbers under which sessions are attached to them.
        self._targets: dict[int, Service] = {}
        self._last_target = 0
        # For good: links to other nodes know them.
        self._class_numbers: dict[str, int] = {}
        self._stopping = False
        self._opened = 0

    def __len__(self) -> int:
        return len(self._instances)

    def prepare(self, target: bytes, ready: Callable[[Entry | BaseException], None]) -> None:
        """As Callees says."""
        try:
            name, address = parse_target(target)
            method = self._class(address).__photinus__.calls.get(name)
        except (Malformed, NoSuchCall) as error:
            ready(error if isinstance(error, NoSuchCall) else NoSuchCall(str(error)))
            return
        if name == ATTACH and "@" not in address:
            self.find(address, lambda found: ready(found if isinstance(found, BaseException) else self._numbers(found)))
            return
        if method is None:
            ready(NoSuchCall(f"{address} has no method {name} that is @call"))
            return

        def found(service: Service | BaseException) -> None:
            if isinstance(service, BaseException):
                ready(service)
                return
            bound = _positional(getattr(service, name), method.shape.signature)
            entry = Entry(bound, method.decode, _encode, f"{address}.{name}", method.question.priority)
            instance = self._instances.get(address)
            if instance is not None and instance.service is service and instance.state is State.OPEN:
                if target not in self.entries:
                    instance.targets.append(target)
                self.entries[target] = entry
            ready(entry)

        self.find(address, found)

    def find(self, address: str, ready: Ready) -> None:
        """Gives the instance at this address, made if there is none: at once, or when it is open, and then from where
        no task runs. Call it from there, too."""
        instance = self._instances.get(address)
        if instance is None:
            try:
                service_class = self._class(address)
                self._check_place(address)
            except (NoSuchCall, NotHere) as error:
                ready(error)
                return
            self._open(address, service_class, [ready])
        elif instance.state is State.OPEN:
            ready(instance.service)
        else:
            instance.held.append(ready)

    def is_ending(self, address: str, service: Service) -> bool:
        instance = self._instances.get(address)
        return instance is None or instance.service is not service or instance.state is State.CLOSING

    async def end(self, address: str, service: Service, hook: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        """Ends this instance with this hook. Raises what that raises; it has ended all the same."""
        instance = self._instances[address]
        if instance.state is State.OPENING:
            raise UsageError(f"{address}: it cannot be closed before it is open")
        self._forget(instance)
        instance.state = State.CLOSING
        try:
            for number in [number for number, of in self._targets.items() if of is service]:
                if self.evict is not None:
                    await self.evict(service, number)
                del self._targets[number]
            await hook(service)
        finally:
            # Only now: until then there is one instance of a key.
            del self._instances[address]
            held, instance.held = instance.held, []
            if held:
                # The task that this is would be in the way of those that are held.
                asyncio.get_running_loop().call_soon(self._again, address, held, context=self._context)

    async def close_all(self) -> None:
        """The node stops: no instance is made any more, and each is closed, within CLOSE_SECONDS."""
        self._stopping = True

        async def close(address: str, instance: Instance) -> None:
            if instance.state is State.OPENING and instance.task is not None:
                instance.task.cancel()
                return
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await instance.service.close()
            except Exception as error:  # noqa: BLE001 - it is reported, and the stop goes on
                self._failed(f"{address}.close", error)

        open_now = [
            (address, instance) for address, instance in self._instances.items() if instance.state is not State.CLOSING
        ]
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(close(*each), context=self._context.copy()) for each in open_now]
        if tasks:
            await asyncio.wait(tasks)

    def replace(self, classes: Mapping[str, type[Service]]) -> None:
        """These classes take the place of those of the same names, also of the instances that there are.

        What a class with other slots cannot take over, or has no class any more, goes on as it was until it ends.
        """
        self._classes = dict(classes)
        self.entries.clear()
        for address, instance in self._instances.items():
            instance.targets.clear()
            renewed = classes.get(_class_name(address))
            if renewed is None or type(instance.service) is renewed:
                continue
            try:
                instance.service.__class__ = renewed
            except TypeError as error:
                self._failed(f"{address} in its new class", error)

    def by_target(self, target: int) -> Service | None:
        """The one that has this number."""
        return self._targets.get(target)

    def class_number(self, name: str) -> int:
        """Of a class that has handlers of its own; 0 of one that has none."""
        found = self._classes.get(name)
        if found is None or not found.__photinus__.handlers:
            return 0
        return self._class_numbers.setdefault(name, len(self._class_numbers) + 1)

    def classes(self) -> list[type[Service]]:
        return list(self._classes.values())

    def statistics(self) -> dict[str, int]:
        return {"open": len(self._instances), "opened": self._opened}

    def _class(self, address: str) -> type[Service]:
        name = _class_name(address)
        found = self._classes.get(name)
        # A name alone is no address.
        if found is None or len(address) < len(name) + 2:
            raise NoSuchCall(f"{address}: {self._node} has no service or space {name}")
        return found

    def _check_place(self, address: str) -> None:
        if self._stopping:
            raise NotHere(f"{address}: {self._node} stops")
        node = self._placement.node_of(address)
        if node != self._node:
            raise NotHere(f"{address}: it is on {node} by the table of {self._node}")

    def _open(self, address: str, service_class: type[Service], held: list[Ready]) -> None:
        try:
            service = service_class.__new__(service_class)
            service.__photinus_instance__ = address, self
            self._context.copy().run(service.__init__)  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001 - it is told to those who asked for it
            for ready in held:
                ready(error)
            return
        instance = Instance(service)
        instance.held = held
        self._instances[address] = instance
        self._opened += 1

        def opened(error: BaseException | None, _: object) -> None:
            instance.task = None
            held, instance.held = instance.held, []
            if error is None:
                instance.state = State.OPEN
            else:
                del self._instances[address]
                if isinstance(error, asyncio.CancelledError) and self._stopping:
                    error = NotHere(f"{address}: {self._node} stops")
            for ready in held:
                if instance.state is State.CLOSING:
                    # One of them closed it at once: the others are for the next.
                    instance.held.append(ready)
                else:
                    ready(service if error is None else error)

        task = self._run(service.open(), self._context.copy(), opened)
        if task is not None:
            instance.task = task

    def _again(self, address: str, held: list[Ready]) -> None:
        for ready in held:
            self.find(address, ready)

    def _numbers(self, service: Service) -> Entry:
        """The number of an instance, and of its class, as a call that gives them."""
        target = next((number for number, of in self._targets.items() if of is service), 0)
        if not target:
            target = self._last_target = self._last_target + 1
            self._targets[target] = service
        numbers = target, self.class_number(type(service).__name__)

        async def attach() -> tuple[int, int]:
            return numbers

        return Entry(attach, _no_arguments, _encode, f"{service.address}.attach")

    def _forget(self, instance: Instance) -> None:
        for target in instance.targets:
            self.entries.pop(target, None)
        instance.targets.clear()


def _class_name(address: str) -> str:
    return address.replace("@", "/").partition("/")[0]


def _positional(method: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    """The method as it is called from elsewhere: with all arguments in their order."""
    named = [each.name for each in signature.parameters.values() if each.kind is each.KEYWORD_ONLY]
    if not named:
        return method
    first = len(signature.parameters) - len(named)

    def call(*arguments: Any) -> Any:
        return method(*arguments[:first], **dict(zip(named, arguments[first:], strict=True)))

    return call

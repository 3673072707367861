"""A node's part in the cluster: its links, by the table, and what goes over them.

Who dials whom, so that there is one link where one is enough: a proxy dials every world node; of two
world nodes that are no proxies, the one whose name is greater dials.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextvars import Context

from ..config import Config
from ..engine import Engine
from ..errors import ConfigError
from ..session import Abroad
from .calls import Calls
from .guests import Guests
from .instances import Instances
from .placement import Placement
from .service import Handling, Service
from .table import member, roles
from .watch import Watch

# Calls that run when the node stops are cancelled, and get this long to end.
STOP_CALLS_SECONDS = 1.0
# Of the roles on the wire (docs/bluenet.md).
ROLE_BITS = {"proxy": 1, "world": 2}


class Cluster:
    """What a node has of its cluster; a node without a table is one by itself.

    `classes` are its services and spaces by name; `failed` is told of what was called and raised. The `generation`
    grows at each start of a node of this name; it is the time if none is given.
    """

    def __init__(
        self,
        name: str,
        config: Config,
        classes: Mapping[str, type[Service]],
        engine: Engine,
        *,
        loop: asyncio.AbstractEventLoop,
        context: Context,
        failed: Callable[[str, BaseException], None],
        generation: int | None = None,
    ) -> None:
        self.name = name
        # A node's later start has a later time, as long as nobody sets its machine's clock back between the two.
        self._generation = time.time_ns() if generation is None else generation
        self.roles = roles(config)
        self._config = config.cluster
        self._own = member(config)
        self._engine = engine
        nodes = config.cluster.nodes
        worlds = [other for other, node in nodes.items() if "world" in node.roles] if nodes else [name]
        self.placement = Placement(worlds, config.cluster.places if nodes else {})
        self.instances = Instances(classes, name, self.placement, run=engine.run, context=context, failed=failed)
        self.watch = Watch(nodes, engine.statistics)
        self.calls = Calls(
            name,
            frozenset(self.roles),
            self.placement,
            self.instances,
            send=engine.send_frame,
            run=engine.run,
            loop=loop,
            context=context,
            failed=failed,
        )
        self.guests = Guests(name, self._generation, engine, self.calls, self.instances, failed=failed)
        self.abroad = Abroad(self.guests.ref, self.guests.send, self.guests.attach, self.guests.detach)

    def start(self) -> None:
        """Joins the cluster and dials whom this node dials. ConfigError if a link cannot be as the table says, OSError
        if the system refuses its address."""
        if self._own is None:
            return
        bits = sum(ROLE_BITS[role] for role in self.roles)
        secret = self._config.secret.encode()
        self._engine.join(self._config.name, self.name, bits, secret, generation=self._generation)
        own = self._link(self._own.link, "protocol=link")
        try:
            self._engine.listen(own)
            self._engine.set_homes(here="world" in self.roles, weights={})
            for other, node in self._config.nodes.items():
                if other != self.name and dials(self.name, self.roles, other, node.roles):
                    self._engine.dial(other, self._link(node.link))
        except ValueError as error:
            raise ConfigError(str(error)) from error
        except OSError as error:
            raise OSError(error.errno, error.strerror, own) from error

    @property
    def has_others(self) -> bool:
        """It is one of several nodes."""
        return self._own is not None

    def handlers(self) -> dict[tuple[int, str | int], Handling]:
        """Those of attached sessions' routes, by their classes' numbers."""
        return {
            (number, route): handling
            for each in self.instances.classes()
            if (number := self.instances.class_number(each.__name__))
            for route, handling in each.__photinus__.handlers.items()
        }

    def unlinked(self, link: int, reason: str) -> None:
        """The engine has lost a link for good."""
        self.watch.unlinked(link, reason)
        self.calls.unlinked(link, reason)
        self.guests.unlinked(link)

    def linked(self, link: int, node: str, generation: int, bits: int) -> None:
        """The engine has a new link."""
        self.watch.linked(link, node)
        self.guests.linked(link, node, generation)
        self.calls.linked(link, node, frozenset(role for role, bit in ROLE_BITS.items() if bits & bit))

    def _link(self, url: str, *options: str) -> str:
        if self._config.plain_links and url.startswith("tcp:"):
            options = (*options, "plain=1")
        return "&".join([url + ("&" if "?" in url else "?") + options[0], *options[1:]]) if options else url

    async def stop(self) -> None:
        """The end of what runs here: first the calls from elsewhere, then the services and spaces, which may still
        call others."""
        running = self.calls.stop()
        if running:
            await asyncio.wait(running, timeout=STOP_CALLS_SECONDS)
        await self.instances.close_all()
        self.calls.close()

    def statistics(self) -> dict[str, dict[str, int]]:
        return {
            "calls": self.calls.statistics(),
            "instances": self.instances.statistics(),
            "guests": self.guests.statistics(),
        }


def dials(name: str, own: tuple[str, ...], other: str, its: tuple[str, ...]) -> bool:
    """Whether the node of this name dials the other."""
    if "world" not in its:
        return False
    return "proxy" in own or ("proxy" not in its and name > other)

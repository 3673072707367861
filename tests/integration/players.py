"""Clients that send numbered requests without waiting for answers, and know what became of each."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import msgspec

from photinus.client import Change, Client, connect
from photinus.errors import RequestTimeout
from tests.integration.game import Answer, Ask, Tick
from tests.integration.realm import Realm, until

# Between two requests of one player.
PACE_SECONDS = 0.01
# Longer than any fault lasts: an answer that has not come by then is lost.
ANSWER_SECONDS = 10.0


class Player(ABC):
    """`answers` are in the order in which they came."""

    def __init__(self) -> None:
        self.sent = 0
        self.answers: list[Answer] = []
        self._going = True
        self._playing = asyncio.create_task(self._play())

    @property
    def node(self) -> str:
        """Who answered last."""
        return self.answers[-1].node

    async def further(self, count: int = 20, *, node: str = "") -> None:
        """Until so many more answers have come to what is sent from now on, all from that node if it is named."""
        first = self.sent + 1

        def come() -> bool:
            if self._playing.done():
                self._playing.result()
            last = self.answers[-count:]
            return len(last) == count and last[0].number >= first and {node or self.node} == {of.node for of in last}

        await until(come, self.told)

    async def finish(self) -> None:
        """Sends no more, and waits for the answers to what was sent."""
        self._going = False
        await self._playing

    async def close(self) -> None:
        """Plays no more, whatever becomes of it."""
        self._playing.cancel()
        await asyncio.wait([self._playing])

    def check(self, *, lost: bool = False, cut: bool = False) -> None:
        """Nothing is doubled or out of order; and nothing missing, unless something may be `lost`. Only who was `cut`
        from the proxy may have noticed."""
        numbers = [answer.number for answer in self.answers]
        if not lost:
            assert numbers == list(range(1, self.sent + 1)), self.told()
        assert numbers == sorted(set(numbers)), self.told()

    def told(self) -> str:
        """For whoever reads of a failure."""
        return f"{type(self).__name__}: sent {self.sent}, last answers {self.answers[-30:]}"

    @abstractmethod
    async def _play(self) -> None: ...


class PhotinusPlayer(Player):
    """photinus.client, which is pushed each answer, too, and ticks that it has not asked for."""

    def __init__(self, client: Client, changes: list[Change]) -> None:
        super().__init__()
        self.pushed: list[Answer] = []
        self.ticks: list[Tick] = []
        self.lost: list[int] = []
        """Requests without an answer."""
        self._changes = changes
        self._client = client
        self._pushes = client.subscribe("asked", Answer)
        self._ticking = client.subscribe("tick", Tick)

    async def _play(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            listening = [tasks.create_task(self._listen()), tasks.create_task(self._hear_ticks())]
            async with asyncio.TaskGroup() as asking:
                while self._going:
                    self.sent += 1
                    asking.create_task(self._ask(self.sent))
                    await asyncio.sleep(PACE_SECONDS)
            # The last push was in front of the last answer.
            await until(lambda: self.pushed[-1:] == self.answers[-1:], self.told)
            for each in listening:
                each.cancel()

    def check(self, *, lost: bool = False, cut: bool = False) -> None:
        super().check(lost=lost)
        assert cut or not self._changes, "the client was to see nothing of it"
        numbers = [answer.number for answer in self.pushed]
        assert numbers == sorted(set(numbers))
        if not lost:
            assert not self.lost
            assert self.pushed == self.answers
        # Each home counts anew, and whoever was lost is not heard of again.
        nodes = list(dict.fromkeys(tick.node for tick in self.ticks))
        assert len(nodes) == 1 or lost
        expected = [(number, node) for node in nodes for number in range(1, 1 + self._count(node))]
        assert [(tick.number, tick.node) for tick in self.ticks] == expected

    async def _ask(self, number: int) -> None:
        try:
            self.answers.append(await self._client.request("ask", Ask(number), Answer, timeout=ANSWER_SECONDS))
        except RequestTimeout:
            self.lost.append(number)

    async def _listen(self) -> None:
        async for answer in self._pushes:
            self.pushed.append(answer)

    async def _hear_ticks(self) -> None:
        async for tick in self._ticking:
            self.ticks.append(tick)

    def _count(self, node: str) -> int:
        return sum(tick.node == node for tick in self.ticks)


class LengthPlayer(Player):
    """A socket that writes a length of four bytes in front of each packet, and no more."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__()
        self._reader = reader
        self._writer = writer

    async def _play(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(self._listen())
            while self._going:
                self.sent += 1
                body = msgspec.msgpack.encode(Ask(self.sent))
                self._writer.write(len(body).to_bytes(4, "big") + body)
                await self._writer.drain()
                await asyncio.sleep(PACE_SECONDS)
            await until(lambda: self.answers and self.answers[-1].number == self.sent, self.told)
            listening.cancel()

    async def _listen(self) -> None:
        while True:
            size = int.from_bytes(await self._reader.readexactly(4), "big")
            self.answers.append(msgspec.msgpack.decode(await self._reader.readexactly(size), type=Answer))


@asynccontextmanager
async def playing(
    realm: Realm, *, photinus: int = 6, length: int = 4, through: str = ""
) -> AsyncIterator[list[Player]]:
    """So many who have been answered, and play on until they are told to finish, or the block is left. Those of
    photinus.client connect to `through`, if not to the proxy itself."""
    async with AsyncExitStack() as stack:
        players: list[Player] = []
        for _ in range(photinus):
            changes: list[Change] = []
            client = connect(through or realm.photinus, changed=changes.append)
            players.append(PhotinusPlayer(await stack.enter_async_context(client), changes))
            stack.push_async_callback(players[-1].close)
        for _ in range(length):
            reader, writer = await asyncio.open_connection("127.0.0.1", realm.length)
            stack.push_async_callback(_closed, writer)
            players.append(LengthPlayer(reader, writer))
            stack.push_async_callback(players[-1].close)
        await asyncio.gather(*(player.further(1) for player in players))
        yield players


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()

"""Many senders at once: frames stay whole, and what one sender says keeps its order."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from pathlib import Path

import pytest

from photinus import Group
from tests.adversity.clients import Client
from tests.adversity.codecs import ALL
from tests.adversity.servers import World, echoing, serve

pytestmark = pytest.mark.timeout(30)

TASKS, THREADS = 100, 10
TASK_MESSAGES, THREAD_MESSAGES = 20, 200


def said_by(sender: str, number: int) -> bytes:
    # Of many lengths, so that a frame cut in two would not go unnoticed.
    return f"{sender}:{number}:".encode() + b"." * (number * 7 % 300)


def in_order(client: Client, count: int) -> dict[str, int]:
    """How many messages each sender's are; each must be whole, and the next of its sender."""
    heard: dict[str, int] = defaultdict(int)
    for _ in range(count):
        body = client.hear().body
        sender = body.split(b":")[0].decode()
        assert body == said_by(sender, heard[sender])
        heard[sender] += 1
    return heard


@pytest.mark.parametrize("protocol", ALL)
def test_tasks_and_threads_sending_to_one_session(protocol: str) -> None:
    world = echoing()
    with serve(world.app, protocol) as server:
        client = server.connect(protocol)
        assert client.ask(b"here").body == b"here"
        session = world.sessions[0]

        async def task(name: str) -> None:
            for number in range(TASK_MESSAGES):
                session.send(1, said_by(name, number))
                if number % 3 == 0:
                    await asyncio.sleep(0)

        def thread(name: str) -> None:
            for number in range(THREAD_MESSAGES):
                session.send(1, said_by(name, number))

        threads = [threading.Thread(target=thread, args=(f"thread{number}",)) for number in range(THREADS)]
        tasks = [asyncio.run_coroutine_threadsafe(task(f"task{number}"), server.loop) for number in range(TASKS)]
        for each in threads:
            each.start()
        heard = in_order(client, TASKS * TASK_MESSAGES + THREADS * THREAD_MESSAGES)
        for each in threads:
            each.join()
        for one in tasks:
            one.result(0)
        assert heard == {
            **{f"task{number}": TASK_MESSAGES for number in range(TASKS)},
            **{f"thread{number}": THREAD_MESSAGES for number in range(THREADS)},
        }
        assert client.ask(b"still here").body == b"still here"


def test_groups_across_reactors() -> None:
    group = Group("all")
    world = echoing()
    with serve(world.app, threads=3) as server:
        clients = [server.connect(protocol) for protocol in ALL * 3]
        for client in clients:
            assert client.ask(b"here").body == b"here"
        server.call(lambda: [group.add(session) for session in world.sessions])
        names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
        assert {"photinus-io-0", "photinus-io-1", "photinus-io-2"} <= set(names)
        assert len(group) == len(clients)
        # Reactors are told apart in a session's id (its slot's first bits): each has its share.
        assert len({session.id >> 28 for session in world.sessions}) == 3

        def thread(name: str) -> None:
            for number in range(THREAD_MESSAGES):
                group.send(1, said_by(name, number))

        threads = [threading.Thread(target=thread, args=(f"thread{number}",)) for number in range(4)]
        for each in threads:
            each.start()
        server.call(lambda: thread("loop"))
        for client in clients:
            heard = in_order(client, 5 * THREAD_MESSAGES)
            assert heard == dict.fromkeys(("loop", "thread0", "thread1", "thread2", "thread3"), THREAD_MESSAGES)
        for each in threads:
            each.join()


def test_group_and_single_messages_keep_one_order() -> None:
    """Also while members come and go between them."""
    group = Group("all")
    world = echoing()
    with serve(world.app, "length4", threads=2) as server:
        clients = [server.connect("length4") for _ in range(6)]
        for client in clients:
            assert client.ask(b"here").body == b"here"
        a, *others = world.sessions

        def turn() -> None:
            for number in range(0, 100, 4):
                group.add(a)
                group.send(1, said_by("a", number))
                a.send(1, said_by("a", number + 1))
                group.send(1, said_by("a", number + 2), but=others[0])
                group.discard(a)
                group.send(1, b"not for a")
                a.send(1, said_by("a", number + 3))

        server.call(lambda: [group.add(other) for other in others])
        server.call(turn)
        by_address = {client.address: client for client in clients}
        assert in_order(by_address[a.address], 100) == {"a": 100}
        first = [by_address[others[0].address].hear().body for _ in range(50)]
        assert first == [body for number in range(0, 100, 4) for body in (said_by("a", number), b"not for a")]


def test_a_thread_that_outlives_its_session() -> None:
    world: World = echoing()
    with serve(world.app, "length4") as server:
        client = server.connect("length4")
        assert client.ask(b"here").body == b"here"
        session, stop = world.sessions[0], threading.Event()

        def thread() -> None:
            while not stop.is_set():
                session.send(1, b"x" * 100)

        talker = threading.Thread(target=thread)
        talker.start()
        client.reset()
        server.until(lambda: session.closed)
        server.until(lambda: server.node.statistics()["loop"]["dropped_closed"] > 0)
        stop.set()
        talker.join()
        assert len(world.ends) == 1
        server.until(lambda: server.count("waiting_out_bytes") == 0)

"""Clients that come and go by the thousand while the server talks to all of them."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from photinus import App, Closed, Group, Routes, Session
from photinus.config import Limits
from tests.adversity.clients import Ended
from tests.adversity.codecs import ALL
from tests.adversity.servers import echoing, serve

pytestmark = pytest.mark.timeout(40)

VISITS, CROWD = 2000, 4


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_connects_and_disconnects_while_broadcasts_run(threads: int) -> None:
    routes, group = Routes(), Group("crowd")
    opened: list[int] = []
    closed: Counter[str] = Counter()
    sent = 0

    @routes.opened
    def joins(session: Session) -> None:
        opened.append(session.id)
        assert group.add(session)

    @routes.closed
    def leaves(session: Session, reason: Closed) -> None:
        closed[reason.reason] += 1
        assert session not in group

    @routes.default
    def echo(session: Session, body: bytes) -> bytes:
        return body

    def broadcast() -> None:
        nonlocal sent
        group.send(1, b"%d" % sent)
        sent += 1

    app = App("world", routes=[routes])
    app.every(0.001, broadcast)
    visits = VISITS // max(1, threads) // CROWD
    with serve(app, threads=threads, limits=Limits(max_payload=1000)) as server:
        stop = threading.Event()

        def stay(protocol: str) -> None:
            with server.connect(protocol) as client:
                first = int(client.hear().body)
                following = first
                while not stop.is_set():
                    following += 1
                    assert int(client.hear().body) == following
                assert following > first

        def visit(thread: int) -> None:
            for number in range(visits):
                client = server.connect(ALL[(number + thread) % len(ALL)])
                match number // len(ALL) % 4:
                    case 0:
                        client.close()
                    case 1:
                        client.reset()
                    case 2:
                        client.hear()
                        client.close()
                    case _:
                        client.write(b"\xff" * 64)
                        client.rest()
                        client.close()

        errors: list[BaseException] = []

        def watched(work: object, argument: object) -> None:
            try:
                work(argument)  # type: ignore[operator]
            except BaseException as error:  # noqa: BLE001 - raised again by the test
                errors.append(error)

        residents = [threading.Thread(target=watched, args=(stay, protocol)) for protocol in ALL]
        visitors = [threading.Thread(target=watched, args=(visit, thread)) for thread in range(CROWD)]
        for each in residents + visitors:
            each.start()
        for each in visitors:
            each.join()
        stop.set()
        for each in residents:
            each.join()
        assert errors == []
        server.until(lambda: server.count("connections") == 0)
        server.until(lambda: closed.total() == len(opened) and server.count("sessions") == 0)
        counts = server.counts("accepted", "sessions_opened", "sessions_closed", "sessions")
        total = CROWD * visits + len(ALL)
        assert counts == {
            "accepted": total,
            "sessions_opened": total,
            "sessions_closed": total,
            "sessions": 0,
        }
        assert sum(server.ends().values()) == total
        assert server.ends()["protocol"] == sum(server.wire_errors().values())
        assert (len(opened), len(set(opened)), len(group)) == (total, total, 0)


def test_what_is_sent_to_an_ended_session_reaches_no_later_one() -> None:
    world = echoing()
    with serve(world.app, "length4") as server:
        for number in range(50):
            client = server.connect("length4")
            assert client.ask(b"here").body == b"here"
            # All that were there before still speak.
            server.send(world.sessions[:-1], [b"a ghost"])
            assert client.ask(b"%d" % number).body == b"%d" % number
            client.close()
            server.until(lambda number=number: len(world.ends) == number + 1)  # type: ignore[misc]
        assert len({session.id for session in world.sessions}) == 50


def test_no_more_sessions_than_the_limit() -> None:
    world = echoing()
    with serve(world.app, "length4", limits=Limits(sessions=3)) as server:
        clients = [server.connect("length4") for _ in range(3)]
        assert [client.ask(b"here").body for client in clients] == [b"here"] * 3
        for turned_away in range(1, 4):
            with pytest.raises((Ended, ConnectionError)):
                server.connect("length4").ask(b"me too")
            assert server.count("refused_full") == turned_away
        assert [client.ask(b"still here").body for client in clients] == [b"still here"] * 3
        clients[0].close()
        server.until(lambda: server.count("sessions") == 2)
        assert server.connect("length4").ask(b"now").body == b"now"

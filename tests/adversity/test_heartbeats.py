"""Heartbeats (pomelo's): whoever does not answer is gone, whoever only answers is not."""

from __future__ import annotations

import pytest

from tests.adversity.servers import echoing, serve

pytestmark = pytest.mark.timeout(30)


def test_silence() -> None:
    world = echoing()
    with serve(world.app, "pomelo&heartbeat=1") as server:
        silent, answering = server.connect(), server.connect()
        server.until(lambda: server.count("sessions") == 2)
        heard = 0
        while not world.ends:
            assert answering.hear(heartbeats=True).kind == "heartbeat"
            heard += 1
        # One was the first word after the handshake.
        assert heard >= 3
        assert world.ends == [("network", "heartbeat")]
        assert server.ends() == {"heartbeat": 1}
        assert silent.rest() == []
        assert answering.ask(b"still here").body == b"still here"


def test_none_are_sent_where_there_are_none() -> None:
    with serve(echoing().app, "pomelo&heartbeat=0") as server:
        client = server.connect()
        assert client.ask(b"{}").body == b"{}"
        assert server.count("heartbeats_sent") == 0

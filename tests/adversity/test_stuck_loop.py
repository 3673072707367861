"""The loop's thread is busy with pure Python for five seconds: the engine goes on without it."""

from __future__ import annotations

import re
import socket
import threading
import time
from pathlib import Path

import pytest

from photinus import Session
from photinus.config import Limits
from tests.adversity.clients import Client, Ended
from tests.adversity.servers import serve, serving

pytestmark = pytest.mark.timeout(50)

INBOX = 64 << 10
# What one more read brings, with what its packets cost beside their payloads.
READ = (64 << 10) * 2
BODY = b"." * 64
FLOOD = 40_000
PACKETS = 300


def resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    kilobytes = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    assert kilobytes is not None
    return int(kilobytes[1]) << 10


class Flooder(threading.Thread):
    """Sends its packets as fast as it can, and tells when TCP makes it wait."""

    def __init__(self, client: Client) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.stalled = threading.Event()
        self.whole = False

    def run(self) -> None:
        connection = self.client.socket
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 << 10)
        packets = b"".join(self.client.codec.packet(b"%08d" % number + BODY) for number in range(FLOOD))
        connection.settimeout(1.0)
        at = 0
        while at < len(packets):
            try:
                at += connection.send(packets[at : at + 65536])
            except TimeoutError:
                self.stalled.set()
        connection.settimeout(20.0)
        self.whole = True


class Listener(threading.Thread):
    """Has nothing to say, but answers heartbeats."""

    def __init__(self, client: Client) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.heartbeats = 0
        self.ended = False

    def run(self) -> None:
        while True:
            try:
                said = self.client.hear(heartbeats=True)
            except Ended:
                self.ended = True
                return
            if said.kind != "heartbeat":
                return
            self.heartbeats += 1


@pytest.mark.parametrize(("loop", "seconds"), [("own", 5.0), ("uvloop", 2.5)])
def test_a_loop_that_is_stuck(loop: str, seconds: float) -> None:
    heard: dict[str, list[int]] = {}

    def handle(session: Session, body: bytes) -> bytes | None:
        heard.setdefault(session.address, []).append(int(body[:8]))
        return None if body[8:] == BODY else body

    limits = Limits(inbound_session_bytes=INBOX, session_packets_per_s=0, session_bytes_per_s=0, overload_wait_ms=0)
    protocols = ("length2", "length4", "firefly", "pomelo&heartbeat=1")
    with serve(serving(handle).app, *protocols, limits=limits, loop=loop) as server:
        idle, listener = server.connect("length2"), Listener(server.connect())
        clients = [server.connect(protocol) for protocol in ("length2", "length4", "firefly")]
        flooder = Flooder(server.connect("length4"))
        server.until(lambda: server.count("sessions") == 6)
        listener.start()
        before = resident_bytes()
        with server.stuck():
            over = time.monotonic() + seconds
            heartbeats = listener.heartbeats
            flooder.start()
            for client in clients:
                client.write(b"".join(client.codec.packet(b"%08d" % number) for number in range(PACKETS)))
            assert flooder.stalled.wait(20)
            # One of the others comes and one goes, meanwhile.
            late = server.connect("length4")
            late.say(b"%08d" % 0)
            idle.close()
            server.until(lambda: server.count("closed_left") == 1)
            assert server.count("paused_session") == 1
            assert server.count("unhandled_bytes") <= INBOX + READ + 4 * PACKETS * 64
            time.sleep(max(0.0, over - time.monotonic()))
            assert server.count("unhandled_bytes") <= INBOX + READ + 4 * PACKETS * 64
            assert resident_bytes() - before < 32 << 20
            assert listener.heartbeats > heartbeats
            assert not flooder.whole
            assert heard == {}
        for client in clients:
            assert [int(client.hear().body) for _ in range(PACKETS)] == list(range(PACKETS))
        assert late.hear().body == b"%08d" % 0
        flooder.join(20)
        assert flooder.whole
        by_address = {client.address: PACKETS for client in clients}
        by_address |= {flooder.client.address: FLOOD, late.address: 1}
        server.until(lambda: {address: len(numbers) for address, numbers in heard.items()} == by_address)
        assert all(numbers == list(range(len(numbers))) for numbers in heard.values())
        assert not listener.ended
        assert server.ends() == {"left": 1}
        listener.client.say(b"%08d" % 7)
        listener.join(20)

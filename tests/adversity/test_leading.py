"""The loop's thread leads the sockets, and is kept from it in every way: the stand-by does it then."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from photinus import Session
from tests.adversity.clients import Client
from tests.adversity.servers import Server, echoing, serve, serving

pytestmark = pytest.mark.timeout(40)

ROOT = Path(__file__).parent.parent.parent

# A C function that keeps the GIL, as an extension may: in a thread, while the loop leads.
KEEPING_THE_GIL = """
import asyncio, ctypes, os, threading
from photinus.node import run
from tests.adversity.servers import echoing

def keep():
    os.read(0, 1)
    sleep = ctypes.PyDLL(None).usleep
    os.write(1, b"kept\\n")
    sleep(3_000_000)
    os.write(1, b"let go\\n")

async def main(node):
    keeper = threading.Thread(target=keep)
    keeper.start()
    os.write(1, node.addresses[0].encode() + b"\\n")
    await asyncio.to_thread(keeper.join)

run(echoing().app, main, listen=["tcp://127.0.0.1:0?protocol=pomelo"])
"""


def test_a_thread_that_keeps_the_gil() -> None:
    command = [sys.executable, "-c", KEEPING_THE_GIL]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        with Client(url) as first:
            assert first.ask(b"before").body == b"before"
            process.stdin.write(b"!")
            assert process.stdout.readline() == b"kept\n"
            # Each wakes the thread that leads: once it waits for the GIL, the other one has to be there.
            for _ in range(5):
                Client(url).close()
            assert select.select([process.stdout], [], [], 0)[0] == [], "all that while the GIL was kept"
            assert process.stdout.readline() == b"let go\n"
            assert process.wait(20) == 0


def test_a_handler_at_a_breakpoint() -> None:
    """What stands in a debugger's prompt lets go of the GIL, and not of the loop."""
    reached, (prompt, answer) = threading.Event(), os.pipe()

    def stop_here(session: Session, body: bytes) -> bytes:
        if body == b"stop":
            reached.set()
            os.read(prompt, 1)
        return body

    with serve(serving(stop_here).app, "pomelo&heartbeat=1", "length4") as server:
        listener, stopped = server.connect("pomelo&heartbeat=1"), server.connect("length4")
        stopped.say(b"stop")
        assert reached.wait(20)
        # Longer than a silent peer would live.
        for _ in range(4):
            assert listener.hear(heartbeats=True).kind == "heartbeat"
        # Who comes now waits in line, or is told to come again.
        late = server.connect("length4")
        assert late.rest() == []
        os.write(answer, b"c")
        assert stopped.hear().body == b"stop"
        assert listener.ask(b"still here").body == b"still here"
    os.close(prompt)
    os.close(answer)


@contextmanager
def taking_turns(server: Server) -> Iterator[None]:
    """The loop is busy for longer than a lease and then idle, again and again."""
    over = threading.Event()

    def busy() -> None:
        until = time.monotonic() + 0.004
        while time.monotonic() < until:
            pass
        if not over.is_set():
            server.loop.call_later(0.004, busy)

    server.loop.call_soon_threadsafe(busy)
    try:
        yield
    finally:
        over.set()


def test_sends_and_packets_during_every_hand_over() -> None:
    world, messages = echoing(), 3000
    with serve(world.app, "length4") as server, taking_turns(server):
        client, echo = server.connect("length4"), server.connect("length4")
        assert client.ask(b"here").body == b"here"
        session = next(session for session in world.sessions if session.address == client.address)

        def thread(name: bytes) -> None:
            for number in range(messages):
                session.send(1, b"%b %d" % (name, number))
                if number % 100 == 0:
                    time.sleep(0.001)

        threads = [threading.Thread(target=thread, args=(name,)) for name in (b"a", b"b")]
        for each in threads:
            each.start()
        following = {b"a": 0, b"b": 0}
        for turn in range(2 * messages):
            name, number = client.hear().body.split()
            assert int(number) == following[name]
            following[name] += 1
            if turn % 30 == 0:
                assert echo.ask(b"%d" % turn).body == b"%d" % turn
        for each in threads:
            each.join()
        server.until(lambda: server.count("take_overs") > 20)


@pytest.mark.parametrize("loop", ["own", "uvloop"])
def test_a_loop_closed_with_packets_queued(loop: str) -> None:
    """Nobody stops the node: the program ends all the same, and says nothing of it."""
    script = f"""
import asyncio, socket, uvloop
from photinus import Node
from photinus.config import Config
from photinus.engine import Engine, new_event_loop
from photinus.node import engine_for
from tests.adversity.servers import echoing

engine = engine_for(Config()) if {loop == "own"} else None
loop = new_event_loop(engine) if engine else uvloop.new_event_loop()
node = Node(echoing().app, listen=["tcp://127.0.0.1:0?protocol=length2"], engine=engine)
loop.run_until_complete(node.start())
port = int(node.addresses[0].split(":")[2].split("?")[0])
client = socket.create_connection(("127.0.0.1", port))
client.sendall(b"\\0\\x05hello" * 1000)
loop.run_until_complete(asyncio.sleep(0.01))
client.sendall(b"\\0\\x05hello" * 1000)
while node.statistics()["engine"]["packets_in"] < 2000:
    pass
loop.close()
print("closed")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "closed\n", "")

"""A signal ends the loop's sleep at once, however it falls."""

from __future__ import annotations

import subprocess
import sys

# The interpreter runs a signal's handler when it comes to it. A signal that another thread takes does
# not even interrupt the poll; nor does one that falls between the interpreter's last look and the poll.
ANSWERING = """
import asyncio, signal, threading
import photinus
from photinus.node import run

async def main(node):
    answered = asyncio.Event()
    signal.signal(signal.SIGUSR1, lambda *_: answered.set())
    sleeping, end = threading.Event(), threading.Event()
    def take():
        sleeping.wait()
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        end.wait()
    other = threading.Thread(target=take)
    other.start()
    asyncio.get_running_loop().call_soon(sleeping.set)
    await answered.wait()
    end.set()
    other.join()

run(photinus.App("quiet"), main, listen=["tcp://127.0.0.1:0"])
"""


def test_a_signal_that_does_not_interrupt_the_poll() -> None:
    for _ in range(5):
        subprocess.run([sys.executable, "-c", ANSWERING], timeout=30, check=True)

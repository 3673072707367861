"""tests/stutter.py: what it does to a command, and that the command does not notice otherwise."""

from __future__ import annotations

import re
import subprocess
import sys

# A process of its own, whose parent has ended, waits until it has been told to go on three times.
GOES_ON = """
import os, signal, sys
read, write = os.pipe()
if os.fork() == 0:
    times = []
    signal.signal(signal.SIGCONT, lambda *_: len(times) < 3 and times.append(1))
    if os.fork() == 0:
        for _ in range(4000):
            if len(times) == 3:
                os.write(write, b"went on")
                break
            signal.sigtimedwait([], 0.01)
    os._exit(0)
os.wait()
os.close(write)
print(os.read(read, 100).decode(), flush=True)
sys.exit(7)
"""


def stutter(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "tests.stutter", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=50, check=False)


def test_every_process_of_a_command_is_stopped_and_goes_on() -> None:
    done = stutter("--pause", "0.01", "--longest", "0.1", sys.executable, "-c", GOES_ON)
    assert (done.returncode, done.stdout) == (7, "went on\n")
    stops = re.fullmatch(r"stopped (\d+) times, seed 1\n", done.stderr)
    assert stops is not None
    assert int(stops[1]) >= 3


def test_wrong_use() -> None:
    assert "a command is missing" in stutter().stderr
    done = stutter("--pause", "0", "true")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--pause must be above 0" in done.stderr

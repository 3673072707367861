"""The demo as `make demo` runs it, with a stand-in for the native bots that plays one of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

BOTS = """
import asyncio, json, sys
from photinus.client import connect
from examples.chat.world import Login, Walk

assert sys.argv[1:] == ["game", "--to", sys.argv[3], "--count", "1"], sys.argv

async def play():
    loop = asyncio.get_running_loop()
    async with connect(sys.argv[3]) as client:
        await client.request("login", Login("bot-0"))
        end = loop.run_in_executor(None, sys.stdin.read)
        while not end.done():
            await client.notify("walk", Walk(1, 2))
            print(json.dumps({"p50_us": 1.5, "p99_us": 2.5}), flush=True)
            await asyncio.sleep(0.05)

asyncio.run(play())
"""


def demo(bots: str, folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    program = folder / "bots"
    program.write_text(f"#!{sys.executable}\n{bots}", "utf-8")
    program.chmod(0o755)
    return subprocess.Popen(
        [sys.executable, "-m", "examples.chat", "--bots", str(program), "--count", "1", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check_summary(output: str) -> None:
    summary = output.strip().splitlines()[-1]
    assert re.match(
        r"done after \d+ s: 1 players, [1-9]\d* packets/s in, [1-9]\d* out, .* us of Python a packet", summary
    )


def test_it_ends_by_itself(tmp_path: Path) -> None:
    with demo(BOTS, tmp_path, DEMO_SECONDS="2.5") as process:
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    check_summary(output)
    # Without a terminal, a line a second.
    assert len(re.findall(r"^1 players, .*answers p99 2 us", output, re.MULTILINE)) >= 2
    assert re.search(r"-m examples\.chat\.play tcp://127\.0\.0\.1:\d+ --name Ann", output)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_is_ended(tmp_path: Path, number: signal.Signals) -> None:
    with demo(BOTS, tmp_path) as process:
        assert process.stdout is not None
        output = ""
        while not output.startswith("1 players"):
            output = process.stdout.readline()
            assert output
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    check_summary(output)


def test_bots_that_fail(tmp_path: Path) -> None:
    with demo("raise SystemExit(7)", tmp_path) as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "the bots have stopped, with exit code 7" in output


def test_wrong_use(tmp_path: Path) -> None:
    with demo(BOTS, tmp_path, DEMO_SECONDS="soon") as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "DEMO_SECONDS: expected a number of seconds, got 'soon'" in errors
    with demo(BOTS, tmp_path, "--bots", "/no/such/program") as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "/no/such/program: no such file" in errors

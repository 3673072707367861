"""README and CONTRIBUTING say only what is so: the code runs, the commands and the files exist."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from msgspec import Struct

from photinus.client import connect

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


class Say(Struct):
    text: str


def code() -> str:
    (block,) = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return str(block)


def command() -> list[str]:
    """README's command for that code, on a free port instead."""
    (line,) = re.findall(r"`\.venv/bin/(photinus run chat\.py [^`]*)`", README)
    words = shlex.split(line.replace(":3250", ":0"))
    return [str(Path(sys.executable).with_name(words[0])), *words[1:]]


def test_the_code_is_short() -> None:
    assert len([line for line in code().splitlines() if line.strip()]) <= 15


async def test_the_code_runs_as_the_readme_says(tmp_path: Path) -> None:
    (tmp_path / "chat.py").write_text(code(), "utf-8")
    server = await asyncio.create_subprocess_exec(*command(), cwd=tmp_path, stdout=asyncio.subprocess.PIPE)
    assert server.stdout is not None
    try:
        printed = ""
        while not (line := (await server.stdout.readline()).decode()).startswith("ready"):
            assert line, f"it ended after printing {printed!r}"
            printed += line
        (url,) = re.findall(r"tcp://\S+", printed)
        async with AsyncExitStack() as stack:
            ann = await stack.enter_async_context(connect(url))
            bob = await stack.enter_async_context(connect(url))
            heard = bob.subscribe("said", Say)
            assert await bob.request("say", Say("I listen"), Say) == Say("I listen")
            assert await ann.request("say", Say("hello"), Say) == Say("hello")
            async with asyncio.timeout(5):
                assert await anext(heard) == Say("hello")
        server.terminate()
        assert await server.wait() == 0
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_the_commands_exist(text: str) -> None:
    named = set(re.findall(r"^    make ([a-z-]+)", text, re.MULTILINE)) | set(re.findall(r"`make ([a-z-]+)", text))
    assert named
    assert named <= set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_the_files_exist(text: str) -> None:
    named = set(re.findall(r"\]\(([^):]+)\)", text))
    named |= set(re.findall(r"\b((?:crates|python|docs|tests|fuzz)/[\w./-]*\w)", text))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []

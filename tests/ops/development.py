"""`photinus dev` in a process of its own, as a terminal's user sees it."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

# Generous: the machine may have much else to do.
PATIENCE = 20.0


class Development:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def until(self, beginning: str) -> str:
        """The next line that begins so. Everything until then is in `lines`."""
        return await self._until(lambda line: line.startswith(beginning), f"begins with {beginning!r}")

    async def until_word(self, word: str) -> str:
        """The next line in which this stands."""
        return await self._until(lambda line: word in line, f"has {word!r} in it")

    async def _until(self, wanted: Callable[[str], bool], what: str) -> str:
        assert self.process.stdout is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while line := (await self.process.stdout.readline()).decode():
                    self.lines.append(line.rstrip("\n"))
                    if wanted(line):
                        return self.lines[-1]
        raise AssertionError(f"no line {what}:\n" + "\n".join(self.lines))

    @property
    def addresses(self) -> list[str]:
        said = "listening on "
        return [line.removeprefix(said) for line in self.lines if line.startswith(said)]

    @property
    def address(self) -> str:
        """For clients of the photinus protocol."""
        return self.addresses[-1]

    async def end(self) -> int:
        self.process.terminate()
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def developing(folder: Path, *arguments: str, **environment: str) -> AsyncGenerator[Development]:
    """Up to its `ready` line. Standard error is mixed in."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "photinus", "dev", *arguments),
        *("--listen", "tcp://127.0.0.1:0"),
        cwd=folder,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        development = Development(process)
        await development.until("ready")
        yield development
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

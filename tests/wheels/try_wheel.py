"""Tries a wheel as its users do: `try_wheel.py PYTHON FOLDER`.

In an empty environment of that Python, in a folder that knows nothing of this repository and without
Rust, it installs the wheel that pip finds fit in the folder of wheels, and plays with it. Before that
it compares what is in the wheel with what is in the repository.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "python"


def main(python: str, folder: str) -> None:
    wheels = Path(folder).resolve()
    with tempfile.TemporaryDirectory(prefix="photinus-wheel-") as place:
        subprocess.run([python, "-m", "venv", "venv"], cwd=place, check=True)
        bare = Path(place, "venv", "bin")
        # Nothing else is on PATH: no Rust, no compiler.
        environment = {**os.environ, "PATH": str(bare)}
        environment.pop("PYTHONPATH", None)

        def run(*command: str | Path) -> str:
            done = subprocess.run(command, cwd=place, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            return done.stdout

        pip = (
            bare / "python",
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "--quiet",
            "--only-binary",
            ":all:",
        )
        # The wheel from here and nowhere else; then what it says it needs, from where that always comes from.
        report = run(*pip, "--no-index", "--no-deps", "--find-links", wheels, "--report", "-", "photinus")
        wheel = next(path for path in wheels.glob("*.whl") if path.name in report)
        check_content(wheel)
        run(*pip, "photinus")
        assert run(bare / "photinus", "--version").startswith("photinus, version ")
        run(bare / "photinus", "new", "game")
        shutil.copy(__file__, place)
        run(bare / "python", Path(__file__).name, "play")
        print(f"{wheel.name}: installed and played in a bare environment")  # noqa: T201 - a script


def check_content(wheel: Path) -> None:
    """All files of the package are in it, the licence, and the metadata that an index shows."""
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = next(name.partition("/")[0] for name in names if ".dist-info/" in name)
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
    files = {
        str(path.relative_to(SOURCE))
        for path in (SOURCE / "photinus").rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".so")
    }
    assert not files - names, f"not in {wheel.name}: {sorted(files - names)}"
    engines = [name for name in names if name.endswith(".so")]
    assert len(engines) == 1, engines
    assert not names - files - {*engines} - {name for name in names if name.startswith(info)}
    assert f"{info}/licenses/LICENSE" in names
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert str(metadata.get_payload()).startswith("# Photinus")
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert "manylinux2014" in wheel.name


async def play() -> None:
    """What `photinus new` of the installed package has made: its bot plays on `photinus dev`."""
    import photinus

    assert Path(photinus.__file__).is_relative_to(sys.prefix), photinus.__file__
    assert shutil.which("cargo") is None
    command = ("photinus", "dev", "--listen", "tcp://127.0.0.1:0?protocol=pomelo")
    node = await asyncio.create_subprocess_exec(*command, cwd="game", stdout=subprocess.PIPE)
    assert node.stdout is not None
    try:
        address = (await node.stdout.readline()).decode().strip().removeprefix("listening on ")
        bot = await asyncio.create_subprocess_exec(
            sys.executable, "bot.py", address, cwd="game", stdout=subprocess.PIPE
        )
        said, _ = await bot.communicate()
        assert bot.returncode == 0 and b"walked 15 steps" in said, said
        node.send_signal(signal.SIGTERM)
        assert await node.wait() == 0
    finally:
        if node.returncode is None:
            node.kill()


if __name__ == "__main__":
    if sys.argv[1:] == ["play"]:
        asyncio.run(asyncio.wait_for(play(), 30))
    else:
        main(*sys.argv[1:])

"""Where the programs are that the tests of real clients run: Node.js, and a browser.

Without one of them its tests are skipped, which pytest tells; with CI=true they fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

POMELO = Path(__file__).parent / "pomelo"
# What current clients are written for.
NODE_VERSION = 20
# Debian's and Ubuntu's names for it, and Google's.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def node() -> str:
    """Node.js, with the clients of pomelo/package.json installed."""
    program = shutil.which("node")
    if program is None:
        absent("Node.js is not installed: apt-get install nodejs npm")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < NODE_VERSION:
        absent(f"Node.js {version} is there, and {NODE_VERSION} is needed")
    if not (POMELO / "node_modules").exists():
        absent("the clients of tests/clients/pomelo are not installed: make clients")
    return program


def chromium() -> str:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        absent("Chromium is not installed: apt-get install chromium")
    return program


def absent(what: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)

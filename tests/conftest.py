"""Tests that are `async def` run under asyncio.run, each on a loop of its own."""

from __future__ import annotations

import asyncio
import inspect
import os
from typing import Any

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments: dict[str, Any] = {name: pyfuncitem.funcargs[name] for name in names}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(autouse=True)
def only_settings_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer has set in the environment configures no node here."""
    for name in [name for name in os.environ if name.startswith("PHOTINUS_")]:
        monkeypatch.delenv(name)

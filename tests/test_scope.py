from __future__ import annotations

import asyncio

import pytest

from photinus import scope
from photinus.errors import NoNode
from photinus.scope import Scope


class Part:
    pass


def test_parts_are_found_by_type() -> None:
    here = Scope("here")
    part = here.add(Part())
    assert here.part(Part) is part
    assert here.holds(part)
    assert not here.holds(Part())


def test_code_of_a_node_finds_it() -> None:
    here, there = Scope("here"), Scope("there")
    assert here.call(scope.current) is here
    assert there.call(lambda: here.call(scope.current)) is here
    assert here.call(lambda: here.entered)
    assert not here.entered


async def test_tasks_inherit_it() -> None:
    here = Scope("here")

    async def find() -> Scope:
        return scope.current()

    assert await asyncio.create_task(find(), context=here.context) is here


def test_code_of_none_finds_the_only_one() -> None:
    here, there = Scope("here"), Scope("there")
    with pytest.raises(NoNode, match="no node runs"):
        scope.current()
    here.register()
    try:
        assert scope.current() is here
        there.register()
        with pytest.raises(NoNode, match="several nodes"):
            scope.current()
    finally:
        there.unregister()
        here.unregister()
        # Once is enough.
        here.unregister()
    with pytest.raises(NoNode):
        scope.current()

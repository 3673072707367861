from __future__ import annotations

from typing import Any

import pytest

from photinus import PhotinusError, Refused
from photinus.errors import ConnectionLost, RequestTimeout


def test_a_refusal_has_a_code_and_fields() -> None:
    refused = Refused("too-poor", missing=3)
    assert refused.code == "too-poor"
    assert refused.fields == {"missing": 3}
    assert str(refused) == "too-poor (missing=3)"
    assert str(Refused("no")) == "no"


@pytest.mark.parametrize("code", ["", None, 7, b"no"])
def test_what_is_no_code(code: Any) -> None:
    with pytest.raises(TypeError, match="Refused takes a code, such as 'too-poor', not"):
        Refused(code)


def test_a_refusal_of_its_own_class() -> None:
    class TooPoor(Refused):
        def __init__(self, missing: int) -> None:
            super().__init__("too-poor", missing=missing)

    refused = TooPoor(3)
    assert (refused.code, refused.fields) == ("too-poor", {"missing": 3})


def test_a_field_cannot_hide_the_code() -> None:
    with pytest.raises(TypeError, match="a field cannot be `code`"):
        Refused("too-poor", code=3)


def test_they_are_what_asyncio_s_own_are() -> None:
    assert issubclass(RequestTimeout, TimeoutError)
    assert issubclass(ConnectionLost, ConnectionError)
    assert issubclass(RequestTimeout, PhotinusError)

from __future__ import annotations

import pytest

from photinus import PhotinusError, Refused
from photinus.errors import ConnectionLost, RequestTimeout


def test_a_refusal_has_a_code_and_fields() -> None:
    refused = Refused("too-poor", missing=3)
    assert refused.code == "too-poor"
    assert refused.fields == {"missing": 3}
    assert str(refused) == "too-poor (missing=3)"
    assert str(Refused("no")) == "no"


def test_a_field_cannot_hide_the_code() -> None:
    with pytest.raises(TypeError, match="a field cannot be `code`"):
        Refused("too-poor", code=3)


def test_they_are_what_asyncio_s_own_are() -> None:
    assert issubclass(RequestTimeout, TimeoutError)
    assert issubclass(ConnectionLost, ConnectionError)
    assert issubclass(RequestTimeout, PhotinusError)

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from photinus.cluster.payload import (
    Malformed,
    Status,
    failure,
    parse_target,
    read_varint,
    target_of,
    varint,
)
from photinus.errors import CallMismatch, CallTimeout, Refused, RemoteError, Unreachable


@given(st.integers(0, 2**32 - 1), st.binary(max_size=4))
def test_numbers_come_back(value: int, behind: bytes) -> None:
    encoded = varint(value)
    assert read_varint(encoded + behind, 0) == (value, len(encoded))


@pytest.mark.parametrize("body", [b"", b"\x80", b"\xff\xff\xff\xff\xff\xff"])
def test_a_number_without_an_end_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        read_varint(body, 0)


def test_targets() -> None:
    target = target_of("add", "Bank/a b/c")
    assert target == b"\x0eadd Bank/a b/c"
    assert parse_target(target[1:]) == ("add", "Bank/a b/c")


@pytest.mark.parametrize("status", [*range(12), 255])
@given(body=st.binary(max_size=40))
def test_whatever_an_answer_holds_the_call_ends(status: int, body: bytes) -> None:
    assert isinstance(
        failure(status, body, "a call", "there"), Refused | RemoteError | CallMismatch | CallTimeout | Unreachable
    )


def test_answers() -> None:
    encode = msgspec.msgpack.encode
    refused = failure(Status.REFUSED, encode({"code": "no", "msg": "no", "left": 2}), "a call", "there")
    assert isinstance(refused, Refused)
    assert (refused.code, refused.fields) == ("no", {"left": 2})
    unreachable = failure(Status.UNREACHABLE, encode([False, "it stops"]), "a call", "there")
    assert isinstance(unreachable, Unreachable)
    assert not unreachable.sent
    mismatch = failure(Status.MISMATCH, encode(["unknown-call", "no Bank"]), "a call", "there")
    assert isinstance(mismatch, CallMismatch)
    assert mismatch.code == "unknown-call"
    assert isinstance(failure(Status.TIMEOUT, b"", "a call", "there"), CallTimeout)

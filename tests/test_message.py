from __future__ import annotations

import msgspec
import pytest
from msgspec import Struct

from photinus import Refused
from photinus.message import ENCODERS, decode, decoders, encode, error_body, refusal

FORMATS = sorted(ENCODERS)


class Point(Struct):
    x: int
    y: int = 0


@pytest.mark.parametrize("serializer", FORMATS)
def test_structs_and_bytes_come_back(serializer: str) -> None:
    assert decode(encode(Point(1, 2), serializer), Point, serializer) == Point(1, 2)
    assert encode(b"\xffraw", serializer) == b"\xffraw"
    assert decode(b"\xffraw", bytes, serializer) == b"\xffraw"


def test_decoders_are_made_once() -> None:
    assert decoders(Point) is decoders(Point)
    assert sorted(decoders(Point)) == FORMATS


def body_of(error: BaseException, serializer: str) -> object:
    body = error_body(error, serializer)
    decoded: object = msgspec.json.decode(body) if serializer == "json" else msgspec.msgpack.decode(body)
    return decoded


@pytest.mark.parametrize("serializer", FORMATS)
def test_a_refusal_tells_its_code_and_fields(serializer: str) -> None:
    assert body_of(Refused("too-poor", missing=3), serializer) == {"code": "too-poor", "msg": "too-poor", "missing": 3}
    assert body_of(Refused("no", msg="not today"), serializer) == {"code": "no", "msg": "not today"}


@pytest.mark.parametrize("serializer", FORMATS)
def test_everything_else_tells_nothing(serializer: str) -> None:
    error = RuntimeError("postgresql://user:password@host")
    assert body_of(error, serializer) == {"code": "internal", "msg": "internal error"}


def test_an_error_of_a_handler_s_own_decoding_tells_nothing() -> None:
    def handler() -> None:
        msgspec.json.decode(b'{"x": "1"}', type=Point)

    with pytest.raises(msgspec.ValidationError) as raised:
        handler()
    assert body_of(raised.value, "json") == {"code": "internal", "msg": "internal error"}
    # As the engine sees it, which calls the decoder without any Python under it.
    bare = raised.value.with_traceback(None)
    assert body_of(bare, "json") == {"code": "bad-message", "msg": "Expected `int`, got `str` - at `$.x`"}


@pytest.mark.parametrize(
    ("serializer", "value", "problem"),
    [
        ("json", object(), "objects of type object"),
        ("msgpack", object(), "objects of type object"),
        ("json", {(): 1}, "Only dicts with str-like"),
        ("msgpack", 2**70, "can't serialize ints"),
        ("json", "\ud800", "surrogates not allowed"),
    ],
)
def test_a_field_that_cannot_be_encoded_is_the_caller_s_fault(serializer: str, value: object, problem: str) -> None:
    refused = Refused("no", why="rain", what=value)
    expected = r"Refused\('no'\) cannot be told: one of its fields \(code, msg, why, what\) cannot be encoded: .*"
    with pytest.raises(TypeError, match=expected + problem) as raised:
        error_body(refused, serializer)
    assert raised.value.__cause__ is refused


@pytest.mark.parametrize("serializer", FORMATS)
def test_a_refusal_comes_back(serializer: str) -> None:
    back = refusal(error_body(Refused("too-poor", missing=3), serializer), serializer)
    assert (back.code, back.fields) == ("too-poor", {"missing": 3})
    back = refusal(error_body(Refused("no", msg="not today"), serializer), serializer)
    assert back.fields == {"msg": "not today"}


def test_an_error_without_a_code_is_still_one() -> None:
    for body in (b"{}", b'{"code": ""}'):
        assert refusal(body, "json").code == "unknown"


@pytest.mark.parametrize("body", [b"", b"[1]", b"\xff", b"3"])
def test_an_unreadable_error_is_still_one(body: bytes) -> None:
    assert refusal(body, "json").code == "unreadable"


def test_an_error_of_another_server_may_have_a_number() -> None:
    assert refusal(b'{"code": 500, "msg": "oh"}', "json").code == "500"

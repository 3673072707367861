"""The golden vectors, read by the reference codec. The Rust codecs read the same in crates/proto/tests."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.reference import Json, Listener, WireError, decode, encode
from tests.wire.reference_compression import inflate

HERE = Path(__file__).parent
SPECIFICATION = HERE.parent.parent / "docs" / "protocol.md"


def vectors() -> Iterator[Json]:
    for path in sorted(HERE.glob("*.json")):
        yield from json.loads(path.read_text("utf-8")).get("vectors", [])  # bluenet.json has others


def compressed() -> list[Json]:
    vectors: list[Json] = json.loads((HERE / "photinus.json").read_text("utf-8"))["compressed"]
    return vectors


def named(*directions: str) -> list[object]:
    return [
        pytest.param(vector, id=f"{vector['listener']['protocol']}: {vector['name']}")
        for vector in vectors()
        if vector["direction"] in directions
    ]


@pytest.mark.parametrize("vector", named("client"))
@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_a_server_reads(vector: Json, size: int) -> None:
    before = bytes.fromhex(vector.get("before", ""))
    data = before + bytes.fromhex(vector["hex"])
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    prior = decode(Listener.of(vector["listener"]), "server", [before])
    outcome = decode(Listener.of(vector["listener"]), "server", chunks)
    assert outcome.events[len(prior.events) :] == vector["events"]
    assert outcome.reply[len(prior.reply) :].hex() == vector["reply"]
    assert outcome.error == vector["error"]
    assert outcome.left == vector["left"]


@pytest.mark.parametrize("vector", named("server"))
@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_a_client_reads(vector: Json, size: int) -> None:
    before = bytes.fromhex(vector.get("before", ""))
    data = before + bytes.fromhex(vector["hex"])
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    prior = decode(Listener.of(vector["listener"]), "client", [before])
    outcome = decode(Listener.of(vector["listener"]), "client", chunks)
    assert outcome.events[len(prior.events) :] == vector["events"]
    assert outcome.error == vector.get("refused")
    assert outcome.left == 0


@pytest.mark.parametrize("vector", named("client", "server"))
def test_what_is_sent(vector: Json) -> None:
    messages = vector.get("messages") or [vector[key] for key in ("message",) if key in vector]
    listener = Listener.of(vector["listener"])
    if not messages:
        return
    # What a server reads and refuses may have been written all the same.
    if vector["error"] is None or vector["direction"] == "client":
        assert b"".join(encode(listener, message) for message in messages).hex() == vector["hex"]
    else:
        with pytest.raises(WireError, match=f"^{vector['error']}$"):
            encode(listener, messages[0])


@pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["name"]) for vector in compressed()])
def test_what_is_inflated(vector: Json) -> None:
    data = bytes.fromhex(vector["hex"])
    if vector["error"] is None:
        assert inflate(vector["algorithm"], data, vector["limit"]).hex() == vector["plain"]
    else:
        with pytest.raises(WireError, match=f"^{vector['error']}$"):
            inflate(vector["algorithm"], data, vector["limit"])


def test_the_hex_of_the_specification_is_in_the_vectors() -> None:
    """What docs/protocol.md shows in code blocks of the kind `hex`; what stands behind `#` there are remarks."""
    known = {vector["hex"] for vector in vectors()} | {vector.get("reply", "") for vector in vectors()}
    blocks = re.findall(r"^```hex\n(.*?)^```", SPECIFICATION.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 10
    for block in blocks:
        shown = re.sub(r"#.*|\s", "", block)
        assert shown in known, block


def test_the_sections_that_vectors_name_are_in_the_specification() -> None:
    sections = set(re.findall(r"^#+ (\d+\.\d+) ", SPECIFICATION.read_text("utf-8"), re.MULTILINE))
    assert {vector["section"] for vector in vectors()} <= sections

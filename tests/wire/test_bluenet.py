"""The golden vectors of what nodes say to each other, read by the reference. Rust reads them in crates/proto/tests."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from tests.wire import reference_bluenet as reference
from tests.wire import reference_payload as payloads
from tests.wire.reading import Json, WireError

HERE = Path(__file__).parent
SPECIFICATION = HERE.parent.parent / "docs" / "bluenet.md"
VECTORS: Json = json.loads((HERE / "bluenet.json").read_text("utf-8"))
PAYLOADS = ("packets", "messages", "lists", "controls")
LISTS = ("headers", "frames", "said", "hellos", "greetings", "tags", *PAYLOADS)


def named(which: str) -> list[object]:
    return [pytest.param(vector, id=vector["name"]) for vector in VECTORS[which]]


@pytest.mark.parametrize("vector", named("headers"))
def test_headers(vector: Json) -> None:
    data = bytes.fromhex(vector["hex"])
    if vector["error"] is None:
        assert reference.decode_header(data) == vector["header"]
        assert reference.encode_header(vector["header"]).hex() == vector["hex"]
    else:
        with pytest.raises(WireError, match=f"^{vector['error']}$"):
            reference.decode_header(data)


@pytest.mark.parametrize("vector", named("frames"))
@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_frames(vector: Json, size: int) -> None:
    data = bytes.fromhex(vector["hex"])
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    outcome = reference.decode(vector["max_frame"], vector["sent"], chunks)
    assert outcome.events == vector["events"]
    assert (outcome.error, outcome.left, outcome.reply.hex()) == (vector["error"], vector["left"], vector["reply"])
    if vector["error"] is None and vector["left"] == 0:
        assert b"".join(map(reference.encode, vector["events"])) == data


@pytest.mark.parametrize("vector", named("said"))
def test_what_a_link_says_for_itself(vector: Json) -> None:
    assert reference.encode(vector["event"]).hex() == vector["hex"]


@pytest.mark.parametrize("vector", named("hellos"))
def test_hellos(vector: Json) -> None:
    assert [message.hex() for message in reference.converse(vector)] == vector["messages"]


@pytest.mark.parametrize("vector", named("greetings"))
def test_greetings(vector: Json) -> None:
    judged = reference.judge(vector["acceptor"], bytes.fromhex(vector["secret"]), bytes.fromhex(vector["hex"]))
    assert (judged.reply.hex(), judged.refused, judged.error) == (
        vector["reply"],
        vector["refused"],
        vector["error"],
    )


@pytest.mark.parametrize("vector", named("tags"))
def test_tags(vector: Json) -> None:
    assert payloads.decode_tag(bytes.fromhex(vector["hex"])) == (vector["place"], vector["epoch"])
    if vector["place"] is not None:
        assert payloads.encode_tag(vector["place"], vector["epoch"]).hex() == vector["hex"]


@pytest.mark.parametrize(
    ("key", "read", "write", "vector"),
    [
        pytest.param(key, read, write, vector, id=f"{which}-{vector['name']}")
        for which, key, read, write in (
            ("packets", "packet", payloads.decode_packet, payloads.encode_packet),
            ("messages", "message", payloads.decode_message, payloads.encode_message),
            ("lists", "message", payloads.decode_list, payloads.encode_list),
            ("controls", "control", payloads.decode_control, payloads.encode_control),
        )
        for vector in VECTORS[which]
    ],
)
def test_payloads(key: str, read: Callable[[bytes], Json], write: Callable[[Json], bytes], vector: Json) -> None:
    data = bytes.fromhex(vector["hex"])
    if vector["error"] is None:
        assert read(data) == vector[key]
        assert write(vector["written"] if "written" in vector else vector[key]).hex() == vector["hex"]
    else:
        with pytest.raises(WireError, match=f"^{vector['error']}$"):
            read(data)


def test_each_control_frame_has_a_vector_and_a_line_in_the_specification() -> None:
    shown = {vector["control"]["control"] for vector in VECTORS["controls"] if vector["error"] is None}
    assert shown == set(payloads.TAGS)
    tables = SPECIFICATION.read_text("utf-8").split("\n## 9 ")[1].split("\n## ")[0]
    told: dict[str, int] = {}
    for tags, names in re.findall(r"^\| ([\d, ]+) \| ([A-Z, -]+)", tables, re.MULTILINE):
        told |= {name.strip().lower(): int(tag) for tag, name in zip(tags.split(","), names.split(","), strict=True)}
    assert told == payloads.TAGS


def test_the_hex_of_the_specification_is_in_the_vectors() -> None:
    """What docs/bluenet.md shows in code blocks of the kind `hex`; what stands behind `#` there are remarks."""
    known = {cast(str, vector.get("hex", "")) for which in LISTS for vector in VECTORS[which]}
    known |= {cast(str, vector["reply"]) for which in ("frames", "greetings") for vector in VECTORS[which]}
    known |= {message for vector in VECTORS["hellos"] for message in vector["messages"]}
    blocks = re.findall(r"^```hex\n(.*?)^```", SPECIFICATION.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 18
    for block in blocks:
        shown = re.sub(r"#.*|\s", "", block)
        assert shown in known, block


def test_the_sections_that_vectors_name_are_in_the_specification() -> None:
    sections = set(re.findall(r"^#+ (\d+(?:\.\d+)?) ", SPECIFICATION.read_text("utf-8"), re.MULTILINE))
    assert {vector["section"] for which in LISTS for vector in VECTORS[which]} <= sections

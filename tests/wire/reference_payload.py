"""What stands in payloads between nodes (docs/bluenet.md, 7 to 9) once more, written apart from the Rust code and in
another manner: control frames are a table of fields, which one reader and one writer go through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.wire.reading import Json, WireError

PACKETS = ("message", "request", "notify")
MESSAGES = ("answer", "error", "push", "push-number", "kick", "redirect")
WITH_VALUE = MESSAGES[:4]
FORMATS = ("json", "msgpack")
ARRIVALS = ("fresh", "gap", "state")
ENDERS = ("client", "server", "network", "protocol")
TEXT_BYTES = 1024
NAMED, NUMBERED = 0, 1

# 9: tag, name, and the fields in their order, each with what it is.
CONTROLS: dict[int, tuple[str, dict[str, str]]] = {
    1: ("arrive", {"target": "number", "speaks": "byte", "flags": "flags", "address": "text", "state": "state"}),
    2: ("fence", {}),
    3: ("detach", {}),
    4: ("cut", {}),
    5: ("resumed", {"gap": "bool", "address": "text"}),
    6: ("closed", {"by": "by", "reason": "text"}),
    7: ("done", {"request": "number", "place": "place", "reason": "text"}),
    16: ("fenced", {"state": "rest"}),
    17: ("arrived", {}),
    18: ("refused", {"reason": "text"}),
    19: ("data", {"state": "rest"}),
    20: ("attach", {"request": "number", "target": "number", "class": "number", "node": "text"}),
    21: ("move", {"request": "number", "place": "place", "target": "number", "class": "number", "node": "text"}),
    22: ("leave", {"request": "number", "place": "place"}),
    23: ("group-add", {"group": "number"}),
    24: ("group-remove", {"group": "number"}),
    25: ("xoff", {}),
    26: ("xon", {}),
    32: ("name", {"index": "number", "number": "number", "name": "text"}),
    33: ("routes", {"entries": "entries"}),
    34: ("leaving", {}),
    40: ("gone", {}),
}
TAGS = {name: tag for tag, (name, _) in CONTROLS.items()}


class Fields:
    """What is left of a payload."""

    def __init__(self, payload: bytes) -> None:
        self.left = payload

    def take(self, count: int) -> bytes:
        if count > len(self.left):
            raise WireError("bad-frame")
        taken, self.left = self.left[:count], self.left[count:]
        return taken

    def rest(self) -> bytes:
        return self.take(len(self.left))

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self, below: int = 2**32) -> int:
        written = b""
        while not written or written[-1] & 128:
            written += self.take(1)
        value = sum((byte & 127) << 7 * place for place, byte in enumerate(written))
        if value >= below or number(value) != written:
            raise WireError("bad-frame")
        return value

    def text(self) -> str:
        length = self.number()
        if length > TEXT_BYTES:
            raise WireError("bad-frame")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise WireError("bad-text") from None


def number(value: int) -> bytes:
    more, last = divmod(value, 128)
    return bytes([last | 128]) + number(more) if more else bytes([last])


def text(value: str) -> bytes:
    data = value.encode()[:TEXT_BYTES].decode(errors="ignore").encode()
    return number(len(data)) + data


def _one_of(names: tuple[str, ...], place: int) -> str:
    if place >= len(names):
        raise WireError("bad-frame")
    return names[place]


def _set_in(names: tuple[str, ...], bits: int) -> list[str]:
    if bits >= 2 ** len(names):
        raise WireError("bad-frame")
    return [name for bit, name in enumerate(names) if bits & 2**bit]


def _bits(names: tuple[str, ...], chosen: list[str]) -> int:
    return sum(2 ** names.index(name) for name in chosen)


# 7: tags


def encode_tag(place: int, epoch: int) -> bytes:
    return ((place + 1) * 4096 + epoch).to_bytes(4, "big")


def decode_tag(data: bytes) -> tuple[int | None, int]:
    """Place and epoch; without a place it is nobody's tag."""
    before, epoch = divmod(int.from_bytes(data, "big"), 4096)
    return (before - 1 if 1 <= before <= 256 else None), epoch


# 8.1: packets. {"route": None, "unknown" or an index, "kind", "id", "number", "body": hex}


def encode_packet(packet: Json) -> bytes:
    route = packet["route"]
    head = number(0 if route is None else 1 if route == "unknown" else route + 2)
    head += bytes([PACKETS.index(packet["kind"]) + (4 if packet["number"] else 0)])
    if packet["number"]:
        head += number(packet["number"])
    if packet["kind"] == "request":
        head += number(packet["id"])
    return head + bytes.fromhex(packet["body"])


def decode_packet(payload: bytes) -> Json:
    fields = Fields(payload)
    route = fields.number(below=2**32 + 2)
    what = fields.byte()
    kind = _one_of(PACKETS, what ^ 4 if what & 4 else what)
    numbered = fields.number() if what & 4 else None
    if numbered == 0:
        raise WireError("bad-frame")
    return {
        "route": (None, "unknown")[route] if route < 2 else route - 2,
        "kind": kind,
        "number": numbered or 0,
        "id": fields.number() if kind == "request" else 0,
        "body": fields.rest().hex(),
    }


# 8.2: messages. {"kind", "value": number or None, "formats": [names], "body": hex}; to a list: "sessions" as well


def encode_message(message: Json) -> bytes:
    head = bytes([MESSAGES.index(message["kind"]) + 16 * _bits(FORMATS, message["formats"])])
    if message["kind"] in WITH_VALUE:
        head += number(message["value"])
    return head + bytes.fromhex(message["body"])


def decode_message(payload: bytes) -> Json:
    return _message(Fields(payload))


def _message(fields: Fields) -> Json:
    formats, what = divmod(fields.byte(), 16)
    kind = _one_of(MESSAGES, what)
    if formats == 0:
        raise WireError("bad-frame")
    return {
        "kind": kind,
        "value": fields.number() if kind in WITH_VALUE else None,
        "formats": _set_in(FORMATS, formats),
        "body": fields.rest().hex(),
    }


def encode_list(message: Json) -> bytes:
    sessions: list[int] = message["sessions"]
    return number(len(sessions)) + b"".join(of.to_bytes(4, "big") for of in sessions) + encode_message(message)


def decode_list(payload: bytes) -> Json:
    fields = Fields(payload)
    handles = fields.take(4 * fields.number())
    sessions = [int.from_bytes(handles[at : at + 4], "big") for at in range(0, len(handles), 4)]
    return {"sessions": sessions, **_message(fields)}


# 9: control frames. {"control": name} and what the table says; `rest` and `state` in hex, `entries` as a list


def encode_control(control: Json) -> bytes:
    tag = TAGS[control["control"]]
    fields = CONTROLS[tag][1]
    return bytes([tag]) + b"".join(WRITERS[kind](control[field]) for field, kind in fields.items())


def decode_control(payload: bytes) -> Json:
    fields = Fields(payload)
    tag = fields.byte()
    if tag not in CONTROLS:
        raise WireError("bad-frame")
    name, layout = CONTROLS[tag]
    control: Json = {"control": name}
    for field, kind in layout.items():
        if kind == "state" and "state" not in control["flags"]:
            control[field] = ""
        else:
            control[field] = READERS[kind](fields)
    if fields.left:
        raise WireError("bad-frame")
    return control


def _entries(fields: Fields) -> list[Json]:
    entries: list[Json] = []
    while fields.left:
        entry: Json = {"class": fields.number(), "index": fields.number()}
        which = fields.byte()
        if which == NAMED:
            entry["name"] = fields.text()
        elif which == NUMBERED:
            entry["number"] = fields.number()
        else:
            raise WireError("bad-frame")
        entries.append(entry)
    return entries


def _entry(entry: Json) -> bytes:
    head = number(entry["class"]) + number(entry["index"])
    if "name" in entry:
        return head + bytes([NAMED]) + text(entry["name"])
    return head + bytes([NUMBERED]) + number(entry["number"])


READERS: dict[str, Callable[[Fields], object]] = {
    "number": Fields.number,
    "place": lambda fields: fields.number(below=256),
    "byte": Fields.byte,
    "flags": lambda fields: _set_in(ARRIVALS, fields.byte()),
    "bool": lambda fields: _one_of(("no", "yes"), fields.byte()) == "yes",
    "by": lambda fields: _one_of(ENDERS, fields.byte()),
    "text": Fields.text,
    "rest": lambda fields: fields.rest().hex(),
    "state": lambda fields: fields.rest().hex(),
    "entries": _entries,
}
WRITERS: dict[str, Callable[[Any], bytes]] = {
    "number": number,
    "place": number,
    "byte": lambda value: bytes([value]),
    "flags": lambda value: bytes([_bits(ARRIVALS, value)]),
    "bool": lambda value: bytes([value]),
    "by": lambda value: bytes([ENDERS.index(value)]),
    "text": text,
    "rest": bytes.fromhex,
    "state": bytes.fromhex,
    "entries": lambda value: b"".join(map(_entry, value)),
}

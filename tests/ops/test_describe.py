"""What the playground is told of a game: its routes, and their messages as JSON Schema."""

from __future__ import annotations

import datetime as dt
import enum
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import UNSET, Meta, Struct, UnsetType

from photinus import App, Rate, Routes, Session
from photinus.ops.playground import describe


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Place(Struct, frozen=True):
    """Where something is."""

    x: float
    y: float = 0.5


class Sword(Struct, tag=True):
    damage: int


class Potion(Struct, tag="drink"):
    sips: int = 3


class Row(Struct, array_like=True):
    first: int
    second: str = "x"


class Node(Struct):
    next: Node | None = None


class Own:
    """A class that msgspec does not know."""


class Plain(Struct):
    pass


def fields_of(**annotations: Any) -> dict[str, Any]:
    """The properties of a message with these fields, as the page sees them."""
    message = msgspec.defstruct("Message", [(name, *kind) for name, kind in annotations.items()])
    return properties(message)


def properties(message: type[Struct]) -> dict[str, Any]:
    described = of(message)
    name = described["routes"][0]["schema"]["$ref"].removeprefix("#/types/")
    found: dict[str, Any] = described["types"][name]["properties"]
    return found


def of(*messages: type[Struct]) -> dict[str, Any]:
    routes = Routes()
    for number, message in enumerate(messages):

        def handler(session: Session, msg: Any) -> None: ...

        handler.__annotations__["msg"] = message
        routes.on(f"route{number}")(handler)
    described: dict[str, Any] = msgspec.to_builtins(describe(App("game", routes=[routes])))
    # What cannot be written as JSON would be found by the browser first.
    assert msgspec.json.decode(msgspec.json.encode(described)) == described
    return described


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        ((bool,), {"type": "boolean"}),
        ((Annotated[int, Meta(ge=1, lt=9)],), {"type": "integer", "minimum": 1, "exclusiveMaximum": 9}),
        ((float, 1.5), {"type": "number", "default": 1.5}),
        (
            (Annotated[str, Meta(min_length=1, max_length=9, pattern="^a", description="a name")],),
            {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "^a", "description": "a name"},
        ),
        ((bytes,), {"type": "string", "contentEncoding": "base64"}),
        ((dt.date,), {"type": "string", "format": "date"}),
        ((Literal["a", 3],), {"enum": [3, "a"]}),
        ((Colour,), {"$ref": "#/types/Colour"}),
        ((Place, Place(1)), {"$ref": "#/types/Place", "default": {"x": 1, "y": 0.5}}),
        ((int | None, None), {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}),
        ((int | UnsetType, UNSET), {"type": "integer"}),
        ((list[Place],), {"type": "array", "items": {"$ref": "#/types/Place"}}),
        ((dict[str, int],), {"type": "object", "additionalProperties": {"type": "integer"}}),
        (
            (tuple[int, str],),
            {
                "type": "array",
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
                "items": False,
                "minItems": 2,
                "maxItems": 2,
            },
        ),
        ((Row,), {"$ref": "#/types/Row"}),
        ((Node,), {"$ref": "#/types/Node"}),
        ((Any,), {}),
        ((Own,), {"title": "Own"}),
    ],
)
def test_each_kind_of_field(kind: tuple[Any, ...], schema: dict[str, Any]) -> None:
    assert fields_of(field=kind) == {"field": schema}


def test_a_union_of_structs_says_how_they_are_told_apart() -> None:
    found = fields_of(item=(Sword | Potion,))["item"]
    assert [each["$ref"] for each in found["anyOf"]] == ["#/types/Sword", "#/types/Potion"]
    assert found["discriminator"]["propertyName"] == "type"
    types = of(msgspec.defstruct("Message", [("item", Sword | Potion)]))["types"]
    assert types["Potion"]["properties"]["type"] == {"enum": ["drink"]}
    assert types["Potion"]["required"] == ["type"]


def test_types_of_one_name_stay_apart() -> None:
    other = msgspec.defstruct("Place", [("floor", int)], module="elsewhere")
    described = of(Place, other)
    first, second = (route["schema"]["$ref"].removeprefix("#/types/") for route in described["routes"])
    assert set(described["types"][first]["properties"]) == {"x", "y"}
    assert set(described["types"][second]["properties"]) == {"floor"}
    assert [route["message"] for route in described["routes"]] == ["Place", "Place"]


def test_names_as_they_are_on_the_wire() -> None:
    message = msgspec.defstruct("Message", [("hero_name", str)], rename="camel")
    assert list(properties(message)) == ["heroName"]


def test_a_message_without_a_schema_leaves_the_others_theirs() -> None:
    bad = msgspec.defstruct("Bad", [("place", "Nowhere")])
    described = of(bad, Place)
    first, second = described["routes"]
    assert first["schema"] is None
    assert first["problem"] == "NameError: name 'Nowhere' is not defined"
    assert second["schema"] == {"$ref": "#/types/Place"}
    assert second["problem"] is None


def test_a_route_is_told_with_all_that_was_declared_about_it(tmp_path: Path) -> None:
    routes = Routes()

    @routes.on("login", public=True, rate=Rate(2, per=4, burst=3), secret=True)
    def login(session: Session, msg: Plain) -> None:
        """Lets somebody in.

        Once.
        """

    @routes.on("ban", roles=("gm", "admin"))
    def ban(session: Session, body: bytes) -> None: ...

    @routes.on(101)
    def walk(session: Session, msg: Place) -> None: ...

    @routes.default
    def anything(session: Session, body: bytes) -> None: ...

    described = describe(App("game", routes=[routes]), root=Path(__file__).parent)
    assert described.name == "game"
    first, second, third, last = described.routes
    assert (first.key, first.who, first.message, first.secret) == ("login", "anyone", "Plain", True)
    assert first.doc == "Lets somebody in.\n\nOnce."
    assert first.rate is not None
    assert (first.rate.count, first.rate.per, first.rate.at_once) == (2, 4, 3)
    assert first.place.startswith("test_describe.py:")
    assert (second.key, second.who, second.roles, second.message) == ("ban", "roles", ["admin", "gm"], None)
    assert (second.schema, second.problem, second.doc, second.rate) == (None, None, None, None)
    assert (third.key, third.who, third.schema) == (101, "logged in", {"$ref": "#/types/Place"})
    assert (last.key, last.who) == (None, "anyone")
    assert described.types["Place"]["description"] == "Where something is."
    elsewhere = describe(App("game", routes=[routes]), root=tmp_path)
    assert elsewhere.routes[0].place.startswith(str(Path(__file__)))


def test_no_routes() -> None:
    described = describe(App("game"))
    assert (described.routes, described.types) == ([], {})

"""What an application's routes are, as JSON for a page that makes forms of them.

`{"name", "routes": [{"key", "who", "message", "schema", …}], "types": {name: schema}}`; the schemas are
JSON Schema 2020-12 as msgspec writes it, and refer to each other as `#/types/NAME`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeGuard

import msgspec
from msgspec import Struct

from ...app import App
from ...routes import Rate, Route

REFERENCE = "#/types/{name}"

Schema = dict[str, Any]


class RateDescription(Struct, frozen=True):
    """How often one session may call a route; `per` in seconds."""

    count: float
    per: float
    at_once: int


class RouteDescription(Struct, frozen=True):
    key: str | int | None
    """A name, a Firefly command's number, or None for the default handler."""
    who: Literal["anyone", "logged in", "roles"]
    roles: list[str]
    message: str | None
    """The name of the message's Struct; None if the handler takes bytes."""
    schema: Schema | None
    """Of the message; None if it has none, and `problem` says why if it should have."""
    problem: str | None
    doc: str | None
    place: str
    """Where the handler is written, as file:line, the file as seen from `root`."""
    rate: RateDescription | None
    secret: bool


class Description(Struct, frozen=True):
    name: str
    routes: list[RouteDescription]
    types: dict[str, Schema]


def describe(app: App, root: Path | None = None) -> Description:
    """The routes in the order of their declaration, the default handler last. Places are seen from `root`.

    RouteError if the routes contradict each other. A message that has no JSON schema keeps the others theirs.
    """
    table = app.table()
    routes = [*table.routes.values(), *([] if table.default is None else [table.default])]
    schemas, problems, types = _schemas({route.shape.message for route in routes})

    def description(route: Route) -> RouteDescription:
        message = route.shape.message
        return RouteDescription(
            key=route.key,
            who="roles" if route.roles else "anyone" if route.public else "logged in",
            roles=sorted(route.roles),
            message=message.__qualname__ if _is_struct(message) else None,
            schema=schemas.get(message),
            problem=problems.get(message),
            doc=inspect.getdoc(route.handler),
            place=_seen_from(root, route.shape.place),
            rate=None if route.rate is None else _rate(route.rate),
            secret=route.secret,
        )

    return Description(app.name, [description(route) for route in routes], types)


def _schemas(messages: Iterable[object]) -> tuple[dict[object, Schema], dict[object, str], dict[str, Schema]]:
    """Each message's schema, or why it has none; and the types that schemas refer to."""
    able: list[Any] = []
    problems: dict[object, str] = {}
    # In one order, whatever a set has.
    for message in sorted(filter(_is_struct, messages), key=str):
        try:
            _components([message])
        except Exception as error:  # noqa: BLE001 - whatever a game's type raises is told on the page
            problems[message] = f"{type(error).__name__}: {error}"
        else:
            able.append(message)
    # All together: types of one name get longer ones.
    schemas, types = _components(able)
    return dict(zip(able, schemas, strict=True)), problems, types


def _components(messages: list[Any]) -> tuple[tuple[Schema, ...], dict[str, Schema]]:
    return msgspec.json.schema_components(messages, schema_hook=_of_the_games_own, ref_template=REFERENCE)


def _of_the_games_own(kind: type) -> Schema:
    """A class that msgspec does not know: any JSON."""
    return {"title": kind.__qualname__}


def _is_struct(message: object) -> TypeGuard[type[Struct]]:
    return isinstance(message, type) and issubclass(message, Struct)


def _rate(rate: Rate) -> RateDescription:
    return RateDescription(rate.count, rate.per, rate.tokens)


def _seen_from(root: Path | None, place: str) -> str:
    file, colon, line = place.rpartition(":")
    if root is None or not colon or not Path(os.path.realpath(file)).is_relative_to(root):
        return place
    return f"{Path(os.path.realpath(file)).relative_to(root)}{colon}{line}"

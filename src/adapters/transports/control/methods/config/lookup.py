"""`config.schema.lookup`: what the configuration's schema says of one path."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from ......domain.errors import InvalidRequest
from ...connection import Params
from .restarts import MARK, below, resolved

_SEPARATORS = re.compile(r"[./\[\]]+")

Shapes = tuple[Mapping[str, Any], ...]


class LookupParams(Params):
    """`path`: dotted, with `*` or a number for a position in a list; `.` for the whole."""

    path: Annotated[str, Field(min_length=1, max_length=1_024, pattern=r"^[A-Za-z0-9_./\[\]\-*]+$")]


def looked_up(described: Mapping[str, Any], path: str) -> dict[str, Any]:
    """What is at the path, and what is right below it. Raises InvalidRequest."""
    schema, hints = described["schema"], described["uiHints"]
    definitions: Mapping[str, Any] = schema.get("$defs", {})
    keys = [key for key in _SEPARATORS.split(path) if key]
    shapes: Shapes = (schema,)
    for key in keys:
        shapes = tuple(_inside(shapes, key, definitions))
        if not shapes:
            raise InvalidRequest(f"config schema path not found: {path}", param="path")
    wholes = [whole for shape in shapes for whole in resolved(shape, definitions)]
    required = {name for whole in wholes for name in whole.get("required", ())}
    children = dict.fromkeys(name for whole in wholes for name in whole.get("properties", {}))
    told: dict[str, Any] = {
        "path": ".".join(keys) or ".",
        "schema": {**{k: v for k, v in shapes[0].items() if k != "$defs"}, **_flat(wholes)},
        "children": [
            _child(keys, name, below(shapes, name, definitions), definitions, hints)
            | {"required": name in required}
            for name in children
        ],
    }
    return told | _facts(keys, shapes, hints)


def _child(
    keys: list[str],
    name: str,
    shapes: Iterator[Mapping[str, Any]],
    definitions: Mapping[str, Any],
    hints: Mapping[str, Any],
) -> dict[str, Any]:
    found = tuple(shapes)
    wholes = [whole for shape in found for whole in resolved(shape, definitions)]
    parts = ("properties", "items", "additionalProperties")
    path = [*keys, name]
    return {
        "key": name,
        "path": ".".join(path),
        "hasChildren": any(
            isinstance(whole.get(part), Mapping) for whole in wholes for part in parts
        ),
        **_flat(wholes, "type"),
        **_facts(path, found, hints),
    }


def _flat(wholes: list[Mapping[str, Any]], *names: str) -> dict[str, Any]:
    """The type, and where it is a choice its values, wherever the schema says it."""
    kinds = list(dict.fromkeys(str(whole["type"]) for whole in wholes if "type" in whole))
    told: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds} if kinds else {}
    values = [value for whole in wholes for value in whole.get("enum", ())]
    return told if not values or names else {**told, "enum": values}


def _facts(keys: list[str], shapes: Shapes, hints: Mapping[str, Any]) -> dict[str, Any]:
    """How a change takes effect, and the hint for a form."""
    told: dict[str, Any] = {
        "reloadKind": "restart" if any(shape.get(MARK) for shape in shapes) else "hot"
    }
    place = ".".join("*" if key.isdecimal() else key for key in keys)
    if place in hints:
        told |= {"hint": hints[place], "hintPath": place}
    return told


def _inside(
    shapes: Shapes, key: str, definitions: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """What the schema says of a member or an element."""
    yield from below(shapes, key, definitions)
    if key == "*" or key.isdecimal():
        for shape in shapes:
            for whole in resolved(shape, definitions):
                if isinstance(whole.get("items"), Mapping):
                    yield whole["items"]

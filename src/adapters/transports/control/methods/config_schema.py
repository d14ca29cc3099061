"""`config.schema.lookup`, and when a changed setting takes effect according to the schema."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from .....domain.errors import InvalidRequest
from .....domain.ports.configuration import ConfigSnapshot
from ..connection import Params

HELD_BACK = ("off", "restart")
"""Modes of `gateway.reload` in which a changed file is not applied while serving."""
MARK = "x-restart"
_LOOKS, _PAUSE = 150, 0.02
"""The number of checks whether a file was applied, and the seconds between them."""


def reload_mode(snapshot: ConfigSnapshot) -> str:
    """The configured `gateway.reload.mode`."""
    found: object = snapshot.config
    for name in ("gateway", "reload", "mode"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else "hybrid"


async def wait_applied(is_applied: Callable[[], bool]) -> None:
    """Wait until the Gateway has applied the written file, or for 3 seconds, so that the client's
    next request sees the change."""
    for _ in range(_LOOKS):
        if is_applied():
            return
        await asyncio.sleep(_PAUSE)


def requiring_restart(old: object, new: object, schema: Mapping[str, Any]) -> list[str]:
    """The dotted paths of changed settings that require a restart according to the JSON Schema."""
    definitions = schema.get("$defs", {})
    return sorted(set(_requiring_restart(old, new, (schema,), definitions, "")))


def _requiring_restart(
    old: object,
    new: object,
    shapes: tuple[Mapping[str, Any], ...],
    definitions: Mapping[str, Any],
    path: str,
) -> Iterator[str]:
    if old == new:
        return
    if any(shape.get(MARK) for shape in shapes):
        yield path
        return
    if not isinstance(old, Mapping):
        old = {}
    if not isinstance(new, Mapping):
        new = {}
    for key in {**old, **new}:
        inner = tuple(below(shapes, key, definitions))
        place = f"{path}.{key}" if path else str(key)
        yield from _requiring_restart(old.get(key), new.get(key), inner, definitions, place)


def below(
    shapes: tuple[Mapping[str, Any], ...], key: str, definitions: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """The schemas of a property, from all alternatives."""
    for shape in shapes:
        for whole in resolved(shape, definitions):
            found = whole.get("properties", {}).get(key, whole.get("additionalProperties"))
            if isinstance(found, Mapping):
                yield found


def resolved(
    shape: Mapping[str, Any], definitions: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """A schema, with its `$ref` and its `anyOf` alternatives resolved recursively."""
    yield shape
    name = str(shape.get("$ref", "")).rpartition("/")[2]
    if name in definitions:
        yield from resolved(definitions[name], definitions)
    for one in shape.get("anyOf", ()):
        yield from resolved(one, definitions)


_SEPARATORS = re.compile(r"[./\[\]]+")

Shapes = tuple[Mapping[str, Any], ...]


class LookupParams(Params):
    """`path`: dotted, with `*` or a number for a list item; `.` is the root."""

    path: Annotated[str, Field(min_length=1, max_length=1_024, pattern=r"^[A-Za-z0-9_./\[\]\-*]+$")]


def looked_up(document: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The schema at the path and of its children. Raises InvalidRequest."""
    root, hints = document["schema"], document["uiHints"]
    definitions: Mapping[str, Any] = root.get("$defs", {})
    keys = [key for key in _SEPARATORS.split(path) if key]
    shapes: Shapes = (root,)
    for key in keys:
        shapes = tuple(_inside(shapes, key, definitions))
        if not shapes:
            raise InvalidRequest(f"config schema path not found: {path}", param="path")
    schemas = [schema for shape in shapes for schema in resolved(shape, definitions)]
    required = {name for schema in schemas for name in schema.get("required", ())}
    children = dict.fromkeys(name for schema in schemas for name in schema.get("properties", {}))
    payload: dict[str, Any] = {
        "path": ".".join(keys) or ".",
        "schema": {**{k: v for k, v in shapes[0].items() if k != "$defs"}, **_flat(schemas)},
        "children": [
            _child(keys, name, below(shapes, name, definitions), definitions, hints)
            | {"required": name in required}
            for name in children
        ],
    }
    return payload | _effect(keys, shapes, hints)


def _child(
    keys: list[str],
    name: str,
    shapes: Iterator[Mapping[str, Any]],
    definitions: Mapping[str, Any],
    hints: Mapping[str, Any],
) -> dict[str, Any]:
    found = tuple(shapes)
    schemas = [schema for shape in found for schema in resolved(shape, definitions)]
    parts = ("properties", "items", "additionalProperties")
    path = [*keys, name]
    return {
        "key": name,
        "path": ".".join(path),
        "hasChildren": any(
            isinstance(schema.get(part), Mapping) for schema in schemas for part in parts
        ),
        **_flat(schemas, "type"),
        **_effect(path, found, hints),
    }


def _flat(schemas: list[Mapping[str, Any]], *names: str) -> dict[str, Any]:
    """The type, and the values of an enumeration, from all alternatives of the schema."""
    kinds = list(dict.fromkeys(str(schema["type"]) for schema in schemas if "type" in schema))
    flat: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds} if kinds else {}
    values = [value for schema in schemas for value in schema.get("enum", ())]
    return flat if not values or names else {**flat, "enum": values}


def _effect(keys: list[str], shapes: Shapes, hints: Mapping[str, Any]) -> dict[str, Any]:
    """How a change takes effect, and the form hint."""
    payload: dict[str, Any] = {
        "reloadKind": "restart" if any(shape.get(MARK) for shape in shapes) else "hot"
    }
    place = ".".join("*" if key.isdecimal() else key for key in keys)
    if place in hints:
        payload |= {"hint": hints[place], "hintPath": place}
    return payload


def _inside(
    shapes: Shapes, key: str, definitions: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """The schemas of a property or a list item."""
    yield from below(shapes, key, definitions)
    if key == "*" or key.isdecimal():
        for shape in shapes:
            for schema in resolved(shape, definitions):
                if isinstance(schema.get("items"), Mapping):
                    yield schema["items"]

"""When a changed configuration takes effect: after a moment, or after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ......domain.ports.configuration import ConfigSnapshot

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

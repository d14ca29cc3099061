"""When a changed configuration is in force: after a moment, or after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ......domain.ports.configuration import ConfigSnapshot

HELD_BACK = ("off", "restart")
"""Modes of `gateway.reload` in which a changed file is not applied while serving."""
MARK = "x-restart"
_LOOKS, _PAUSE = 150, 0.02
"""How often, and after how many seconds each, is looked whether a file was taken over."""


def reload_mode(snapshot: ConfigSnapshot) -> str:
    """What a changed file does."""
    found: object = snapshot.config
    for name in ("gateway", "reload", "mode"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else "hybrid"


async def taken_over(in_force: Callable[[], bool]) -> None:
    """Return once the running Gateway has taken over what was written, or that takes too long:
    who asks next is to find what was done."""
    for _ in range(_LOOKS):
        if in_force():
            return
        await asyncio.sleep(_PAUSE)


def waiting(old: object, new: object, schema: Mapping[str, Any]) -> list[str]:
    """The dotted paths where two configurations differ in what a restart is needed for, as their
    JSON Schema says."""
    definitions = schema.get("$defs", {})
    return sorted(set(_waiting(old, new, (schema,), definitions, "")))


def _waiting(
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
        yield from _waiting(old.get(key), new.get(key), inner, definitions, place)


def below(
    shapes: tuple[Mapping[str, Any], ...], key: str, definitions: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """What the schema says of a member, wherever it says it."""
    for shape in shapes:
        for whole in resolved(shape, definitions):
            found = whole.get("properties", {}).get(key, whole.get("additionalProperties"))
            if isinstance(found, Mapping):
                yield found


def resolved(
    shape: Mapping[str, Any], definitions: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """A shape, the one that it refers to, and those of which it is one."""
    yield shape
    name = str(shape.get("$ref", "")).rpartition("/")[2]
    if name in definitions:
        yield from resolved(definitions[name], definitions)
    for one in shape.get("anyOf", ()):
        yield from resolved(one, definitions)

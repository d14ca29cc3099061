"""Merge patches (RFC 7396), and whether one concerns an included file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from ..errors import KeyPath
from .documents import Node, children
from .includes import INCLUDE


def same(one: object, other: object) -> bool:
    """Whether two values are written alike; `1`, `1.0` and `true` are three."""
    return canonical(one) == canonical(other)


def merged(target: object, patch: object) -> object:
    """`target` after `patch`: null removes a key, objects are merged, anything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, item in patch.items():
        if item is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), item)
    return result


def effective(patch: Mapping[str, object], target: object) -> dict[str, object]:
    """What of `patch` would change `target`."""
    held = target if isinstance(target, dict) else {}
    result: dict[str, object] = {}
    for key, item in patch.items():
        if isinstance(item, dict) and isinstance(held.get(key), dict):
            if inner := effective(item, held[key]):
                result[key] = inner
        elif key in held if item is None else key not in held or not same(item, held[key]):
            result[key] = item
    return result


def foreign(
    patch: Mapping[str, object], tree: Node, own: object, main: str, path: KeyPath = ()
) -> Iterator[tuple[KeyPath, Node]]:
    """What `patch` concerns and another file than `main` holds: the path, and that file's node.

    `tree` is the whole with includes resolved, `own` what `main` has in that place.
    """
    nodes = {key: node for key, node in children(tree) if isinstance(key, str)}
    for key, item in patch.items():
        here, mine = nodes.get(key), own.get(key) if isinstance(own, dict) else None
        if key == INCLUDE and isinstance(own, dict):
            continue
        if here is None:
            if not isinstance(own, dict):
                yield (*path, key), tree
        elif isinstance(item, dict) and isinstance(here.value, dict):
            yield from foreign(item, here, mine, main, (*path, key))
        elif not _keeps_includes(item, here, mine):
            others = (node for _, node in here.walk() if node.file != main)
            yield from (((*path, key), node) for node in _first(others))


def _keeps_includes(item: object, here: Node, mine: object) -> bool:
    """Whether a new list has every element of the old one that an include stands in.

    Not where elements come from elsewhere altogether, by an include beside the list.
    """
    if not (isinstance(item, list) and isinstance(mine, list) and isinstance(here.value, list)):
        return False
    including = [old for old in mine if f'"{INCLUDE}":' in canonical(old)]
    return len(here.value) == len(mine) and all(
        any(same(old, new) for new in item) for old in including
    )


def _first(nodes: Iterator[Node]) -> list[Node]:
    return [node for node in (next(nodes, None),) if node is not None]


def canonical(value: object) -> str:
    """A value as text, the same for values that are written alike."""
    return json.dumps(value, sort_keys=True)

"""Which element of one list is which of another: a hidden secret goes back where it was."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from ..errors import REDACTED, KeyPath

Views = Sequence[object]
"""What is held, as it is shown to the one and to the other."""


def value_at(value: object, path: KeyPath) -> object:
    """What is at `path`; None where nothing is."""
    for key in path:
        match value:
            case dict():
                value = value.get(key)
            case list() if isinstance(key, int) and key < len(value):
                value = value[key]
            case _:
                return None
    return value


def partners(edited: list[object], held: object, views: Views) -> list[int | None]:
    """For each element of an edited list, which element of `held` it stands for."""
    if not isinstance(held, list):
        return [None] * len(edited)
    ids = [_id(item) for item in held]
    names = Counter(name for name in ids if name is not None)
    by_id = {name: j for j, name in enumerate(ids) if name is not None and names[name] == 1}
    exact, alike = (_places(held, views, sign) for sign in (_whole, _texts))
    found: list[int | None] = []
    for i, item in enumerate(edited):
        same, similar = exact.get(_text(_whole(item)), []), alike.get(_text(_texts(item)), [])
        if (name := _id(item)) is not None and names[name] < 2:
            found.append(by_id.get(name))
        elif len(same) == 1 or (i in same and len(edited) == len(held)):
            found.append(same[0] if len(same) == 1 else i)
        else:
            # Where several look alike, an edited one could be any of them.
            found.append(similar[0] if len(similar) == 1 and not same else None)
    return found


def _places(
    held: list[object], views: Views, sign: Callable[[object], object]
) -> Mapping[str, list[int]]:
    """The places of the elements that look alike, by what they look like."""
    found: dict[str, list[int]] = {}
    lists = [view for view in views if isinstance(view, list)]
    for j in range(len(held)):
        for text in {_text(sign(view[j])) for view in lists}:
            found.setdefault(text, []).append(j)
    return found


def _whole(item: object) -> object:
    return item


def _texts(item: object) -> object:
    """The texts of an element, by their places: its other values may be edited."""
    match item:
        case dict():
            return {
                str(key): text for key, one in item.items() if (text := _texts(one)) is not None
            }
        case list():
            return [_texts(one) for one in item]
        case str():
            return item
        case _:
            return None


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _id(item: object) -> str | None:
    """The id, unless it is a secret itself."""
    found = item.get("id") if isinstance(item, dict) else None
    return found if isinstance(found, str) and REDACTED not in found else None

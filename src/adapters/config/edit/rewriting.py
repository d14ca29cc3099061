"""Rewrites a JSON5 text to a new value, and keeps comments and the layout of unchanged parts.

This is the only user of the library that keeps comments. Texts that it cannot parse are refused,
and the caller checks the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from json5.dumper import BaseDumper, ModelDumper, dumps
from json5.loader import ModelLoader, loads
from json5.model import Identifier, JSONArray, JSONObject, String, Value

from ..read import canonical, same
from .json5_nodes import Members, Style, Wording

_TOP = Style(multi=True, outer="", inner="")


class Unwritable(Exception):
    """The text is valid, but cannot be rewritten in place."""


def rewritten(text: str, old: Mapping[str, object], new: Mapping[str, object]) -> str:
    """`text`, whose value is `old`, changed so that its value is `new`. Raises Unwritable.

    A new key comes last. The comment behind a removed one on its line goes too, others stay.
    """
    if text.count("\r\n") == text.count("\n") > 0:
        # The library treats a carriage return as part of the comment before it.
        return rewritten(text.replace("\r\n", "\n"), old, new).replace("\n", "\r\n")
    try:
        model = loads(text, loader=ModelLoader())
    except (ValueError, AssertionError, LookupError) as error:
        raise Unwritable(
            "its spelling is not supported by the library that keeps comments"
        ) from error
    root = model.value
    if not isinstance(root, JSONObject):
        raise Unwritable("it is not an object")
    _Rewriter(_wording(root)).members(root, old, new, _TOP)
    # The library's base class has another type for its arguments.
    return dumps(model, dumper=cast(BaseDumper, ModelDumper()))


def _wording(root: JSONObject) -> Wording:
    """The style of new parts: that of the old ones."""
    inner = Members(root).style(_TOP, Wording()).inner
    bare = any(isinstance(key, Identifier) for key in root.keys)
    return Wording(unit=inner or "  ", bare=bare)


class _Rewriter:
    def __init__(self, wording: Wording) -> None:
        self._wording = wording

    def members(
        self, node: JSONObject, old: Mapping[str, object], new: Mapping[str, object], around: Style
    ) -> None:
        members = Members(node)
        style = members.style(around, self._wording)
        for i in reversed(range(len(node.keys))):
            if _name(node, i) not in new:
                members.drop(i)
        places = {_name(node, i): i for i in range(len(node.keys))}
        for key, item in new.items():
            if key in places:
                i = places[key]
                node.values[i] = self._value(node.values[i], old.get(key), item, style)
            else:
                self._append(members, self._wording.member(key, item, style), style)

    def _value(self, node: Value, old: object, new: object, style: Style) -> Value:
        """The node for `new` in place of that of `old`."""
        if same(old, new):
            return node
        if isinstance(node, JSONObject) and isinstance(old, dict) and isinstance(new, dict):
            self.members(node, old, new, style)
            return node
        if isinstance(node, JSONArray) and isinstance(old, list) and isinstance(new, list):
            kept = _correspondence(old, new)
            if kept is not None:
                self._array(node, old, new, kept, style)
                return node
        fresh = _parsed(self._wording.value(new, style)).values[0]
        fresh.wsc_before, fresh.wsc_after = node.wsc_before, node.wsc_after
        return fresh

    def _array(
        self, node: JSONArray, old: list[object], new: list[object], kept: list[int], around: Style
    ) -> None:
        """The elements `kept` of the old list become the first ones of the new."""
        members = Members(node)
        style = members.style(around, self._wording)
        for i in reversed(range(len(old))):
            if i not in kept:
                members.drop(i)
        for place, i in enumerate(kept):
            node.values[place] = self._value(node.values[place], old[i], new[place], style)
        for item in new[len(kept) :]:
            self._append(members, self._wording.value(item, style), style)

    def _append(self, members: Members, text: str, style: Style) -> None:
        fresh = _parsed(text)
        key = fresh.keys[0] if isinstance(fresh, JSONObject) else None
        members.append(key, fresh.values[0], style)


def _parsed(text: str) -> JSONObject | JSONArray:
    """The object or list in a text."""
    try:
        node = loads(text, loader=ModelLoader()).value
    except (ValueError, AssertionError, LookupError) as error:
        raise Unwritable("the library that keeps comments cannot parse a new value") from error
    if not isinstance(node, JSONObject | JSONArray):
        raise TypeError("not in brackets")
    return node


def _name(node: JSONObject, i: int) -> str:
    key = node.keys[i]
    match key:
        case Identifier():
            return key.name
        case String():
            return key.characters
        case _:
            raise Unwritable("it has a key of an unknown kind")


def _correspondence(old: list[object], new: list[object]) -> list[int] | None:
    """The old elements that the first new ones correspond to, in order; None if not in order."""
    if not old:
        return None
    before, after = list(map(_identity, old)), list(map(_identity, new))
    kept: list[int] = []
    for name in after:
        start = kept[-1] + 1 if kept else 0
        found = next((i for i in range(start, len(old)) if before[i] == name), None)
        if found is None:
            break
        kept.append(found)
    if set(before).isdisjoint(after[len(kept) :]):
        return kept
    return list(range(len(old))) if _only_changed(before, after) else None


def _only_changed(before: list[str], after: list[str]) -> bool:
    """Whether each new element is the old one at its position, or an entirely new one."""
    old, new = set(before), set(after)
    return len(before) == len(after) and all(
        one == other or (other not in old and one not in new)
        for one, other in zip(before, after, strict=True)
    )


def _identity(item: object) -> str:
    """The identity of an element: its id if it has one, else its value."""
    return canonical({"id": item["id"]} if isinstance(item, dict) and "id" in item else item)

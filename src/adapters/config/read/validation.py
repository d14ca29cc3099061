"""Validates a configuration against the schema, and reports all errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ..errors import KeyPath, kind_of, sentence
from ..schema import ROOT, Place, Root
from .documents import Node, members
from .keys import unknown_keys
from .problems import Problems

_MAX_ROUNDS = 20


@dataclass(slots=True)
class Checked:
    """A valid configuration: as written, or without its invalid parts to find further errors."""

    config: Root
    notes: list[str] = field(default_factory=list)
    """One for each key that has no effect."""
    removed: dict[KeyPath, list[int]] = field(default_factory=dict)

    def original(self, *path: str | int) -> KeyPath:
        """The path in the files for a path of `config`, where list elements may be removed."""
        known: KeyPath = ()
        for key in path:
            if isinstance(key, int):
                for gone in sorted(self.removed.get(known, ())):
                    key += gone <= key
            known = (*known, key)
        return known


def validate(tree: Node, problems: Problems) -> Checked:
    """Report all errors, and return what is valid."""
    _report_impossible(tree, problems)
    data: Any = cleaned(tree.plain())
    checked = Checked(Root())
    if not isinstance(data, dict):
        problems.report((), f"must be an object, not {kind_of(data)}")
        return checked
    for unknown in unknown_keys(data):
        if unknown.error is not None:
            problems.report(unknown.path, unknown.error)
        elif unknown.note is not None and unknown.note not in checked.notes:
            checked.notes.append(unknown.note)
    _take_out_nulls(data, ROOT, problems)
    for _ in range(_MAX_ROUNDS):
        try:
            checked.config = Root.model_validate(data)
            break
        except ValidationError as refused:
            faults = _faults(refused, data)
        for path, details in faults.items():
            original = checked.original(*path)
            problems.report(original, sentence(details, original))
        for path in _topmost(faults):
            _take_out(data, path, checked)
    return checked


def _report_impossible(tree: Node, problems: Problems) -> None:
    """Report values that JSON5 has and JSON does not."""
    for path, node in tree.walk():
        texts = list(node.value) if isinstance(node.value, dict) else [node.value]
        if any(isinstance(text, str) and cleaned(text) != text for text in texts):
            problems.report(path, "contains a lone surrogate, which is not a character")
        if isinstance(node.value, float) and not math.isfinite(node.value):
            problems.report(path, "must be a finite number")


def cleaned(value: Any) -> Any:
    """A copy without lone surrogates, which cannot be encoded."""
    match value:
        case dict():
            return {cleaned(key): cleaned(item) for key, item in value.items()}
        case list():
            return [cleaned(item) for item in value]
        case str():
            return value.encode("utf-8", "replace").decode("utf-8")
        case _:
            return value


def _take_out_nulls(value: Any, place: Place, problems: Problems) -> None:
    """Report and remove `null` at keys that may be missing but not null."""
    for key, item in members(value):
        inner = place.below(key)
        if item is not None:
            _take_out_nulls(item, inner, problems)
        elif isinstance(value, dict) and inner.shape is not None and inner.shape.kind != "anything":
            problems.report(inner.path, "must not be null; leave the key out for its default")
            del value[key]


def _faults(refused: ValidationError, data: Any) -> Mapping[KeyPath, list[ErrorDetails]]:
    """The errors by the path of the invalid value in `data`."""
    faults: dict[KeyPath, list[ErrorDetails]] = {}
    for detail in refused.errors(include_url=False):
        path: KeyPath = ()
        value = data
        for key in detail["loc"]:
            inside = (isinstance(value, dict) and key in value) or (
                isinstance(value, list) and isinstance(key, int) and key < len(value)
            )
            if not inside:
                break
            path, value = (*path, key), value[key]
        if detail["type"] == "missing":
            path = (*path, detail["loc"][-1])
        faults.setdefault(path, []).append(detail)
    return faults


def _topmost(faults: Mapping[KeyPath, list[ErrorDetails]]) -> list[KeyPath]:
    """What to remove, the last first: invalid values, and objects that lack a key."""
    lacking = {path[:-1] for path, found in faults.items() if found[0]["type"] == "missing"}
    targets = lacking | {path for path in faults if path[:-1] not in lacking}
    above = [{path[:end] for end in range(len(path))} for path in targets]
    kept = [path for path, over in zip(targets, above, strict=True) if not over & targets]
    return sorted(kept, key=_order, reverse=True)


def _order(path: KeyPath) -> list[tuple[int, str]]:
    return [(key, "") if isinstance(key, int) else (-1, key) for key in path]


def _take_out(data: Any, path: KeyPath, checked: Checked) -> None:
    way, last = path[:-1], path[-1]
    holder = data
    for key in way:
        holder = holder[key]
    if isinstance(last, int):
        gone = checked.original(*path)[-1]
        checked.removed.setdefault(checked.original(*way), []).append(int(gone))
    del holder[last]

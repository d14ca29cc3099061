"""Paths into a configuration, such as `a.b[0].c` or `a["x.y"]`, and edits at them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

_STEP = re.compile(
    r"""\.?(?P<key>[^.\[\]"']+) | \[(?P<at>\d+)\] | \[(?P<quoted>"(?:[^"\\]|\\.)*"|'[^']*')\]""",
    re.VERBOSE,
)
Path = tuple[str | int, ...]


class BadPath(Exception):
    """The path does not exist, or the text is not a path."""


def parsed(text: str) -> Path:
    """The steps of a path. Raises BadPath."""
    steps: list[str | int] = []
    end = 0
    while end < len(text):
        match = _STEP.match(text, end)
        if match is None or (not end and text.startswith(".")):
            raise BadPath(
                f'`{text}` is not a path; write a.b[0].c, or a["x.y"] for a key with a dot'
            )
        steps.append(_step(match))
        end = match.end()
    if not steps:
        raise BadPath("the path is empty")
    return tuple(steps)


def found(value: object, path: Path) -> object:
    """The value at the path. Raises BadPath."""
    for step in path:
        match value:
            case dict() if str(step) in value:
                value = value[str(step)]
            case list() if (at := _position(step)) is not None and at < len(value):
                value = value[at]
            case _:
                raise BadPath("the path does not exist")
    return value


def setting(held: Mapping[str, object], path: Path, value: object) -> dict[str, object]:
    """The merge patch that sets `path` to `value`."""
    return _patch(held, _with(held, path, value))


def removing(held: Mapping[str, object], path: Path) -> dict[str, object]:
    """The merge patch that removes `path`. Raises BadPath if it does not exist."""
    found(held, path)
    return _patch(held, _without(held, path))


def _step(match: re.Match[str]) -> str | int:
    if match["at"] is not None:
        return int(match["at"])
    quoted = match["quoted"]
    if quoted is None:
        return match["key"].strip()
    return str(json.loads(quoted)) if quoted[0] == '"' else quoted[1:-1]


def _position(step: str | int) -> int | None:
    """A step as a position in a list; `agents.list.0` is the same as `agents.list[0]`."""
    if isinstance(step, int):
        return step
    return int(step) if step.isascii() and step.isdigit() else None


def _with(held: object, path: Path, value: object) -> object:
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(held, list) or (held is None and isinstance(step, int)):
        items = list(held or [])
        at = _position(step)
        if at is None or at > len(items):
            raise BadPath(f"a list of {len(items)} has no position `{step}`")
        items[at : at + 1] = [_with(items[at] if at < len(items) else None, rest, value)]
        return items
    members = dict(held) if isinstance(held, dict) else {}
    return {**members, str(step): _with(members.get(str(step)), rest, value)}


def _without(held: object, path: Path) -> object:
    step, rest = path[0], path[1:]
    if isinstance(held, list):
        at = _position(step) or 0
        return [*held[:at], *([_without(held[at], rest)] if rest else []), *held[at + 1 :]]
    members = dict(held) if isinstance(held, dict) else {}
    if rest:
        return {**members, str(step): _without(members[str(step)], rest)}
    del members[str(step)]
    return members


def _patch(old: object, new: object) -> dict[str, object]:
    """The merge patch from one object to another."""
    before = old if isinstance(old, dict) else {}
    after = new if isinstance(new, dict) else {}
    patch: dict[str, object] = {key: None for key in before if key not in after}
    for key, item in after.items():
        if isinstance(item, dict) and isinstance(before.get(key), dict):
            patch[key] = _patch(before[key], item)
        else:
            patch[key] = item
    return patch

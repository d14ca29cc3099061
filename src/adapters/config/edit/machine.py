"""Refuses edits by clients that name paths, programs or addresses of this machine.

Choosing a path that is written to or a program that is run amounts to code execution. The schema
marks such keys (see `fields.Machine`). Existing values may stay, so that the rest can be edited.
Other programs that read the same file may act on keys without a schema: a client may write only
those that the table `INERT` marks as `remote`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any

from pydantic.fields import FieldInfo

from ....domain.ports.configuration import ConfigIssue
from ..errors import ConfigInvalid, KeyPath, Locations, dotted
from ..loading import Document, read
from ..read import (
    Inputs,
    SecretRefs,
    absolute_path,
    effective_environment,
    providers_of,
    resolved,
    value_at,
)
from ..schema import INERT, Root, StarPath
from ..schema.walk import Shape, below, entries, mark
from .snapshots import Content

_LOCALLY = "set it on the Gateway's machine, with `opensoul config set` or in the file itself"
_WHY = MappingProxyType(
    {
        "directory": "a client may name a directory only inside the state directory",
        "file": "a client may name a file only inside the state directory",
        "log": "a client may name a log only inside the state directory, ending in `.log`",
        "store": "a client may not say where sessions are kept",
        "program": "a client may not name a plugin to run",
        "address": "a client may not say where the Gateway listens, or whom it trusts",
        "door": "a client may not take this protection away",
        "launch": "a client may not say how a server of tools is started or reached",
    }
)
_WITHOUT_EFFECT = (
    "has no effect here, and a client may not set it, because another program that reads this file "
    "might run or open what it names"
)
_FOREIGN = frozenset('\\%$:"')
"""Not allowed in paths from clients, as systems, shells and programs interpret them."""
_LONGEST = 4_096


def tree_of(content: Content, locations: Locations, inputs: Inputs) -> Document | None:
    """The configuration with that content of the main file; None where it cannot be read."""
    contents = {} if content.data is None else {str(locations.config_path): content.data}
    try:
        return read(locations, inputs, contents=contents)
    except ConfigInvalid:
        return None


@dataclass(frozen=True, slots=True)
class _Named:
    """A value at a marked key. `place`: its path, with `*` for positions in lists."""

    path: KeyPath
    place: StarPath
    field: FieldInfo
    value: str | bool

    @property
    def kind(self) -> str:
        return str(mark(self.field, "x-machine"))

    @property
    def known_as(self) -> tuple[object, ...]:
        # Moving an agent in the list, or a workspace to another agent, adds no new path.
        return (self.kind if self.kind == "directory" else self.place, self.value)


def new_names(
    before: Document | None, after: Document, locations: Locations, inputs: Inputs
) -> Iterator[ConfigIssue]:
    """The issues of names in `after` that are not in `before` and not allowed for a client.

    Values are compared with variables resolved, as a variable can change a path.
    """
    known = {named.known_as for named in _all(before, locations, inputs)}
    for named in _all(after, locations, inputs):
        if named.known_as in known or named.value in (mark(named.field, "x-free") or ()):
            continue
        if not _allowed(named, locations, inputs):
            message = f"{_WHY[named.kind]}; {_LOCALLY}"
            yield ConfigIssue(dotted(named.path), message, str(locations.config_path))


def new_inert_values(
    before: Document | None, after: Document, locations: Locations
) -> Iterator[ConfigIssue]:
    """The issues of values in `after` at keys without a schema that are not in `before`."""
    root = Shape("object", model=Root)
    old = {} if before is None else before.tree.plain()
    known = {(place, text) for place, text in _inert(old, root, (), ())}
    reported: set[KeyPath] = set()
    for place, text in _inert(after.tree.plain(), root, (), ()):
        if (place, text) not in known and place not in reported:
            reported.add(place)
            message = f"{_WITHOUT_EFFECT}; {_LOCALLY}"
            yield ConfigIssue(dotted(place), message, str(locations.config_path))


def _allowed(named: _Named, locations: Locations, inputs: Inputs) -> bool:
    match named.kind:
        case "server":
            return True
        case "directory" | "file" | "log" as kind if isinstance(named.value, str):
            found = _inside(named.value, locations, inputs)
            return bool(found) and (kind != "log" or all(one.suffix == ".log" for one in found))
        case _:
            return False


def _inside(text: str, locations: Locations, inputs: Inputs) -> tuple[PurePath, ...]:
    """The path as written and with links resolved; empty unless both are inside the state
    directory."""
    foreign = _FOREIGN.intersection(text) or not text.isprintable() or text != text.strip()
    home = text.startswith("~") and not text.startswith("~/")
    if foreign or home or text.startswith("//") or len(text) > _LONGEST:
        return ()
    state = Path(os.path.abspath(locations.state_dir))
    written = Path(absolute_path(inputs, locations, text))
    real, real_state = Path(os.path.realpath(written)), Path(os.path.realpath(state))
    inside = state in written.parents and real_state in real.parents
    return (written, real) if inside else ()


def _all(document: Document | None, locations: Locations, inputs: Inputs) -> Iterator[_Named]:
    """Every value at a marked key, defaults included."""
    value = {} if document is None else _in_force(document, locations, inputs)
    yield from _marked(value, Shape("object", model=Root), (), (), None)
    for entry in entries(Root):
        default = entry.field.default
        marked = mark(entry.field, "x-machine") and "*" not in entry.path
        if marked and isinstance(default, str | bool) and value_at(value, entry.path) is None:
            yield _Named(entry.path, entry.path, entry.field, default)


def _in_force(document: Document, locations: Locations, inputs: Inputs) -> object:
    """The configuration with variables resolved; unresolved ones stay as written."""

    def ignore(*_: object) -> None:
        """Validation reports it."""

    env = effective_environment(document.tree, inputs.env, ignore, ignore)
    files = replace(document.files, signatures=dict(document.files.signatures), issues=[])
    absolute = partial(absolute_path, inputs, locations)
    refs = SecretRefs(env, files, absolute, providers_of(document.tree))
    return resolved(document.tree, env, refs, ignore).plain()


def _marked(
    value: Any, shape: Shape | None, path: KeyPath, place: StarPath, field: FieldInfo | None
) -> Iterator[_Named]:
    match value:
        case dict() | list() if field is not None and mark(field, "x-machine") == "launch":
            # The words of a command stay together.
            yield _Named(path, place, field, json.dumps(value, sort_keys=True))
        case dict() if shape is not None:
            for key, item in value.items():
                inner, found = below(shape, key) or (None, None)
                yield from _marked(item, inner, (*path, key), (*place, key), found)
        case list():
            inner = (below(shape, 0) or (None,))[0] if shape is not None else None
            for i, item in enumerate(value):
                yield from _marked(item, inner, (*path, i), (*place, "*"), field)
        case str() | bool() if field is not None and mark(field, "x-machine"):
            yield _Named(path, place, field, value)


def _inert(
    value: Any, shape: Shape, place: StarPath, stars: StarPath
) -> Iterator[tuple[StarPath, str]]:
    """The values at keys without a schema, in parts, as text."""
    match value:
        case dict() if shape.kind in ("object", "record"):
            for key, item in value.items():
                star = "*" if shape.kind == "record" else key
                yield from _member(item, below(shape, key), (*place, key), (*stars, star))
        case list() if shape.kind == "list":
            for item in value:
                yield from _member(item, below(shape, 0), (*place, "*"), (*stars, "*"))


def _member(
    value: Any, found: tuple[Shape, FieldInfo | None] | None, place: StarPath, stars: StarPath
) -> Iterator[tuple[StarPath, str]]:
    row = INERT.get(stars)
    if row is None and found is not None:
        yield from _inert(value, found[0], place, stars)
    elif row is None or not row.remote:
        yield from _parts(value, place)


def _parts(value: Any, place: StarPath) -> Iterator[tuple[StarPath, str]]:
    """Objects by member and lists of objects by element, which may move. Other lists are one
    part, as they may be the words of a command."""
    match value:
        case dict():
            for key, item in value.items():
                yield from _parts(item, (*place, key))
        case list() if any(isinstance(item, dict) for item in value):
            yield from ((place, json.dumps(item, sort_keys=True)) for item in value)
        case []:
            return
        case _:
            yield place, json.dumps(value, sort_keys=True)

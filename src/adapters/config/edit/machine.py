"""Refuses edits by clients that name paths, programs or addresses of this machine.

Choosing a path that is written to or a program that is run amounts to code execution. The schema
marks such keys (see `fields.Machine`). Existing values may stay, so that the rest can be edited.
Other programs that read the same file may act on keys without a schema: a client may write only
those that the table `INERT` marks as `remote`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any

from ....domain.ports.configuration import ConfigIssue
from ..errors import ConfigInvalid, KeyPath, dotted
from ..loading import Document, read
from ..locations import Locations
from ..read import (
    Inputs,
    SecretRefs,
    absolute_path,
    canonical,
    effective_environment,
    members,
    providers_of,
    resolved,
    starred,
    value_at,
)
from ..schema import INERT, ROOT, Place, Root, StarPath
from ..schema.walk import entries
from .snapshots import Content

_LOCALLY = "set it on the Gateway's machine, with `opensoul config set` or in the file itself"
_WHY = MappingProxyType(
    {
        "directory": (
            "a client may name a directory only inside the state directory, and none of those that "
            "the Gateway itself uses"
        ),
        "file": "a client may name a file only inside the state directory",
        "log": "a client may name a log only inside the state directory, ending in `.log`",
        "store": "a client may not say where sessions are kept",
        "program": "a client may not name a plugin to run",
        "address": "a client may not say where the Gateway listens, or whom it trusts",
        "door": "a client may not take this protection away",
        "launch": "a client may not change the servers of tools",
    }
)
_ALLOWED = "a client may not decide what agents may do on this machine"
_WITHOUT_EFFECT = (
    "has no effect here, and a client may not set it, because another program that reads this file "
    "might run or open what it names"
)
_FOREIGN = frozenset('\\%$:"')
"""Not allowed in paths from clients, as systems, shells and programs interpret them."""
_LONGEST = 4_096
_OWN = frozenset(("skills", "memory-index", "models"))
"""Directories of the state directory that all agents share, or that only the Gateway writes."""


@dataclass(frozen=True, slots=True)
class EditedFiles:
    """A configuration before and after an edit of the main file; None where it cannot be read."""

    before: Document | None
    after: Document | None
    locations: Locations
    inputs: Inputs

    @classmethod
    def read(
        cls, before: Content, after: Content, locations: Locations, inputs: Inputs
    ) -> EditedFiles:
        """Both, with their includes."""
        old, new = (_document(content, locations, inputs) for content in (before, after))
        return cls(old, new, locations, inputs)

    def new_names(self) -> Iterator[ConfigIssue]:
        """The issues of new names that are not allowed for a client.

        Values are compared with variables resolved, as a variable can change a path.
        """
        if self.after is None:
            return  # Validation reports it.
        known = {named.identity for named in self._names(self.before)}
        for named in self._names(self.after):
            if named.identity in known or named.value in (named.place.marked("x-free") or ()):
                continue
            if not self._is_allowed(named):
                yield self._issue(named.place.path, _WHY[named.kind])

    def new_inert_values(self) -> Iterator[ConfigIssue]:
        """The issues of new values at keys without an effect."""
        known = set(_inert(self.before.tree.plain(), ROOT)) if self.before else set()
        added = _inert(self.after.tree.plain(), ROOT) if self.after else ()
        for path in dict.fromkeys(path for path, text in added if (path, text) not in known):
            yield self._issue(path, _WITHOUT_EFFECT)

    def changed_tools(self) -> Iterator[ConfigIssue]:
        """The issues of changed rules for tools, and of changed sandboxes. Those of an agent are
        compared by its id."""
        known = (
            {}
            if self.before is None
            else {name: text for name, _, text in _tools(self.before.tree.plain())}
        )
        for name, path, text in () if self.after is None else _tools(self.after.tree.plain()):
            if known.get(name, "{}") != text:
                yield self._issue(path, _ALLOWED)

    def _issue(self, path: KeyPath, why: str) -> ConfigIssue:
        return ConfigIssue(dotted(path), f"{why}; {_LOCALLY}", str(self.locations.config_path))

    def _names(self, document: Document | None) -> Iterator[_Named]:
        """Every value at a marked key, defaults included."""
        value = {} if document is None else self._in_force(document)
        yield from _marked(value, ROOT)
        for entry in entries(Root):
            place, default = Place(entry.path, entry.path, None, entry.field), entry.field.default
            marked = place.marked("x-machine") and "*" not in entry.path
            if marked and isinstance(default, str | bool) and value_at(value, entry.path) is None:
                yield _Named(place, default)

    def _in_force(self, document: Document) -> object:
        """The configuration with variables resolved; unresolved ones stay as written."""

        def ignore(*_: object) -> None:
            """Validation reports it."""

        env = effective_environment(document.tree, self.inputs.env, ignore, ignore)
        files = replace(document.files, signatures=dict(document.files.signatures), issues=[])
        absolute = partial(absolute_path, self.inputs, self.locations)
        refs = SecretRefs(env, files, absolute, providers_of(document.tree))
        return resolved(document.tree, env, refs, ignore).plain()

    def _is_allowed(self, named: _Named) -> bool:
        match named.kind:
            case "server":
                return True
            case "directory" | "file" | "log" as kind if isinstance(named.value, str):
                found = self._inside(named.value)
                if kind == "directory" and self._is_own(found):
                    return False
                return bool(found) and (kind != "log" or all(one.suffix == ".log" for one in found))
            case _:
                return False

    def _inside(self, text: str) -> tuple[PurePath, ...]:
        """The path as written and with links resolved; empty unless both are inside the state
        directory."""
        foreign = _FOREIGN.intersection(text) or not text.isprintable() or text != text.strip()
        home = text.startswith("~") and not text.startswith("~/")
        if foreign or home or text.startswith("//") or len(text) > _LONGEST:
            return ()
        state = Path(os.path.abspath(self.locations.state_dir))
        written = Path(absolute_path(self.inputs, self.locations, text))
        real, real_state = Path(os.path.realpath(written)), Path(os.path.realpath(state))
        inside = state in written.parents and real_state in real.parents
        return (written, real) if inside else ()

    def _is_own(self, paths: tuple[PurePath, ...]) -> bool:
        """Whether one of the paths is a directory of `_OWN`, or lies in one. Case does not count,
        as on some file systems."""
        state = Path(os.path.abspath(self.locations.state_dir))
        real = Path(os.path.realpath(state))
        own = {str(root / name).lower() for root in (state, real) for name in _OWN}
        return any(str(one).lower() in own for path in paths for one in (path, *path.parents))


@dataclass(frozen=True, slots=True)
class _Named:
    """A value at a marked key."""

    place: Place
    value: str | bool

    @property
    def kind(self) -> str:
        return str(self.place.marked("x-machine"))

    @property
    def identity(self) -> tuple[object, ...]:
        # Moving an agent in the list, or a workspace to another agent, adds no new path.
        where = self.kind if self.kind == "directory" else starred(self.place.path)
        return (where, self.value)


def _document(content: Content, locations: Locations, inputs: Inputs) -> Document | None:
    contents = {} if content.data is None else {str(locations.config_path): content.data}
    try:
        return read(locations, inputs, contents=contents)
    except ConfigInvalid:
        return None


def _marked(value: Any, place: Place) -> Iterator[_Named]:
    if isinstance(value, dict | list) and place.marked("x-machine") == "launch":
        yield _Named(place, canonical(value))  # The words of a command stay together.
        return
    if isinstance(value, str | bool) and place.marked("x-machine"):
        yield _Named(place, value)
    for key, item in members(value):
        yield from _marked(item, place.below(key))


def _inert(value: Any, place: Place) -> Iterator[tuple[StarPath, str]]:
    """The values at keys without an effect, in parts, as text."""
    for key, item in members(value):
        inner = place.below(key)
        if inner.shape is not None:
            yield from _inert(item, inner)
        elif inner.stars not in INERT or not INERT[inner.stars].remote:
            yield from _parts(item, starred(inner.path))


def _parts(value: Any, path: StarPath) -> Iterator[tuple[StarPath, str]]:
    """Objects by member and lists of objects by element, which may move. Other lists are one
    part, as they may be the words of a command."""
    match value:
        case dict():
            for key, item in value.items():
                yield from _parts(item, (*path, key))
        case list() if any(isinstance(item, dict) for item in value):
            yield from ((path, canonical(item)) for item in value)
        case []:
            return
        case _:
            yield path, canonical(value)


def _tools(value: object) -> Iterator[tuple[str, KeyPath, str]]:
    """The rules for tools, sandboxes, and sub-agents, as text: of all agents, of clients, and of
    each agent by its id."""
    # A sub-agent has the tools of its agent.
    keys: tuple[KeyPath, ...] = (("tools",), ("sandbox",), ("subagents", "allowAgents"))
    found: list[tuple[str, KeyPath]] = [
        ("", ("tools",)),
        ("", ("gateway", "tools")),
        *(("", ("agents", "defaults", *key)) for key in keys[1:]),
    ]
    for i, agent in members(value_at(value, ("agents", "list"))):
        name = str(value_at(agent, ("id",))).lower()
        found += [(name, ("agents", "list", i, *key)) for key in keys]
    for own, _ in members(value_at(value, ("agents", "entries"))):
        name = str(own).lower()
        found += [(name, ("agents", "entries", own, *key)) for key in keys]
    for name, path in found:
        identity = f"{name}: {path[-1]}" if name else dotted(path)
        yield identity, path, canonical(value_at(value, path) or {})

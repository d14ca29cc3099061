"""The keys of a configuration that concern one process, where several are one Gateway."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from .errors import Issue, KeyPath, dotted
from .locations import SHARED_NAME, Locations, Overrides, locate
from .read import INCLUDE, Files, Includer, Node, Unreadable, canonical, parse, value_at
from .schema import ROOT, Place

NODE_KEYS: Final[tuple[KeyPath, ...]] = (
    ("store",),
    ("node",),
    ("gateway", "port"),
    ("gateway", "bind"),
    ("gateway", "customBindHost"),
    ("gateway", "tls"),
    ("logging", "file"),
)


def without(value: object, paths: tuple[KeyPath, ...]) -> object:
    """A copy of plain data without the values at these paths, and without objects that have nothing
    else."""
    if not isinstance(value, Mapping):
        return value
    kept = {}
    for key, item in value.items():
        below = tuple(path[1:] for path in paths if path[0] == key)
        if () in below:
            continue
        rest = without(item, below) if below else item
        if rest or rest == item:
            kept[key] = rest
    return kept


def digest(value: object) -> str:
    """Names the configuration that processes share: equal if it is, wherever its files are and
    however they are written."""
    return hashlib.sha256(canonical(without(value, NODE_KEYS)).encode()).hexdigest()[:16]


def find(env: Mapping[str, str], overrides: Overrides, home: Path | None) -> Locations:
    """As `locate`, with the copy of the configuration in the database where the file says that it
    is there (`node.config`)."""
    locations = locate(env, overrides, home)
    if not _is_in_database(locations.config_path):
        return locations
    copy = locations.state_dir / SHARED_NAME
    return Locations(locations.state_dir, copy, explicit=False, node_path=locations.config_path)


def _is_in_database(file: Path) -> bool:
    """False also for a file that cannot be read: whoever reads all of it reports that."""
    try:
        text = file.read_text("utf-8")
        return "database" in text and value_at(parse(text), ("node", "config")) == "database"
    except (OSError, ValueError, Unreadable):
        return False


def of_node(locations: Locations) -> Locations:
    """The locations of the node's own file, as if it were the whole configuration."""
    assert locations.node_path is not None  # noqa: S101 - checked by callers
    return Locations(locations.state_dir, locations.node_path, explicit=True)


def with_node_keys(
    shared: Node, files: Files, node_path: Path, home: Path | None
) -> tuple[Node, tuple[str, ...]]:
    """The configuration in the database, with the keys of this node out of its own file; and the
    top-level keys of that file that have no effect. What may not be in the database is added to the
    issues of `files`."""
    for path, found in shared.walk():
        if path and path[-1] == INCLUDE:
            message = "a configuration in the database cannot include files"
            files.fail(Issue(found.file, dotted(path), files.line(found.file, path), message))
    for key in ("store", "node"):
        found, rest = shared.at((key,))
        if not rest:
            message = f"belongs in the file of each node, here {node_path}"
            files.fail(Issue(found.file, key, files.line(found.file, (key,)), message))
    tree = _read(files, node_path, home)
    for path in NODE_KEYS:
        value, rest = tree.at(path)
        if not rest:
            shared = _with(shared, path, value)
    others = without(tree.plain(), NODE_KEYS)
    return shared, tuple(others) if isinstance(others, Mapping) else ()


def literal_secrets(written: Node, resolved: Node, file: str) -> Iterator[KeyPath]:
    """The paths of secrets that are in this file itself, and not references."""

    def below(node: Node, place: Place) -> Iterator[KeyPath]:
        scalar = place.shape is not None and place.shape.kind == "scalar"
        if scalar and place.marked("x-secret") and isinstance(node.value, str):
            found, _ = resolved.at(place.path)
            if node.file == file and found.written is None:
                yield place.path
        for key, item in node.children():
            yield from below(item, place.below(key))

    return below(written, ROOT)


def _read(files: Files, file: Path, home: Path | None) -> Node:
    name = os.fspath(file)
    try:
        return Includer(files, home, (name,)).resolve(files.read(name))
    except FileNotFoundError:
        files.fail(Issue(name, "", None, "there is no such file"))
    except Unreadable as error:
        files.fail(Issue(name, "", error.line, error.message))
    return Node({}, name, ())


def _with(tree: Node, path: KeyPath, value: Node) -> Node:
    if not path:
        return value
    key = str(path[0])
    members = dict(tree.value) if isinstance(tree.value, dict) else {}
    below = members.get(key, Node({}, tree.file, (*tree.path, key)))
    members[key] = _with(below, path[1:], value)
    return replace(tree, value=members)

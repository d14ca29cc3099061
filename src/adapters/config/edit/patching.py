"""Merge patches (RFC 7396), and the text of the main file after one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ....domain.ports.configuration import ConfigIssue, ConfigRefused, MakePatch
from ..errors import ConfigInvalid, KeyPath, dotted
from ..loading import Document, read
from ..locations import Locations
from ..read import INCLUDE, Inputs, Node, canonical, parse, same
from .placeholders import kept_secrets, restored_value
from .rewriting import rewritten
from .snapshots import Content, config_issues


def merged(target: object, patch: Mapping[str, object]) -> dict[str, object]:
    """`target` after `patch`: null removes a key, objects are merged, anything else replaces."""
    result = dict(target) if isinstance(target, dict) else {}
    for key, item in patch.items():
        if item is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), item) if isinstance(item, dict) else item
    return result


def effective(patch: Mapping[str, object], target: object) -> dict[str, object]:
    """The part of `patch` that would change `target`."""
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
    """The paths that `patch` changes in other files than `main`, with their nodes.

    `tree` is the whole with includes resolved, `own` the value of `main` at that path.
    """
    nodes = {key: node for key, node in tree.children() if isinstance(key, str)}
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
    """Whether a new list keeps every element of the old one that contains an include.

    False if elements come from an include beside the list.
    """
    if not (isinstance(item, list) and isinstance(mine, list) and isinstance(here.value, list)):
        return False
    including = [old for old in mine if f'"{INCLUDE}":' in canonical(old)]
    return len(here.value) == len(mine) and all(
        any(same(old, new) for new in item) for old in including
    )


def _first(nodes: Iterator[Node]) -> list[Node]:
    return [node for node in (next(nodes, None),) if node is not None]


_UNREADABLE = "invalid config; fix before patching"


def patched(before: Content, make: MakePatch, locations: Locations, inputs: Inputs) -> str:
    """The text after the patch. Raises ConfigRefused, before anything is validated."""
    main = str(locations.config_path)
    text = before.text if before.exists else "{}\n"
    document, held = _held(text, locations, inputs)
    in_force = document.tree.plain()
    patch = effective(_with_secrets(make(held), in_force, main), in_force)
    issues = [
        ConfigIssue(
            dotted(path),
            f"is in the included file {node.file}; change it there",
            node.file,
            document.files.line(node.file, node.path),
        )
        for path, node in foreign(patch, document.tree, held, main)
    ]
    if issues:
        raise ConfigRefused(issues, why="the patch reaches into an included file")
    new = merged(held, patch)
    result = rewritten(text or "", held, new)
    if not same(parse(result), new):  # A user's file is written by what is read, or not at all.
        message = "cannot be changed in place; replace the whole text instead"
        raise ConfigRefused([ConfigIssue("", message, main)])
    return result


def _held(
    text: str | None, locations: Locations, inputs: Inputs
) -> tuple[Document, dict[str, object]]:
    """The files, and the value of the main one."""
    main = str(locations.config_path)
    if text is None:
        issue = ConfigIssue("", "cannot be read as text", main)
        raise ConfigRefused([issue], why=_UNREADABLE)
    try:
        document = read(locations, inputs, contents={main: text.encode("utf-8")})
    except ConfigInvalid as invalid:
        raise ConfigRefused(config_issues(invalid.issues), why=_UNREADABLE) from None
    held = parse(text)
    if not isinstance(held, dict):
        raise ConfigRefused([ConfigIssue("", "must be an object", main)], why=_UNREADABLE)
    return document, held


def _with_secrets(patch: Mapping[str, object], held: object, main: str) -> dict[str, object]:
    """The patch with placeholders replaced by the values in force, so that these do not change."""
    restored = restored_value(dict(patch), kept_secrets(dict(patch), held, main), held)
    return restored if isinstance(restored, dict) else {}

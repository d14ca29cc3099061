"""`$include`: joins several files into one tree."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from ..errors import Issue, dotted
from ..locations import absolute
from .documents import Files, Node, Unreadable

INCLUDE = "$include"
MAX_INCLUDE_DEPTH = 10


@dataclass(frozen=True, slots=True)
class Includer:
    """Replaces `$include` in the content of `chain[-1]`; `chain`: the including files before it.

    Relative paths start at the including file's directory. Several files are merged in order, then
    the keys beside `$include`: objects are merged by key, lists are concatenated, other values are
    replaced. Errors are added to `files.issues`, with an empty object in place of the file.
    """

    files: Files
    home: Path | None
    chain: tuple[str, ...]

    def resolve(self, node: Node) -> Node:
        """The node with every `$include` in it replaced."""
        match node.value:
            case list():
                return Node([self.resolve(item) for item in node.value], node.file, node.path)
            case dict():
                members = {
                    key: self.resolve(item) for key, item in node.value.items() if key != INCLUDE
                }
                whole = Node(members, node.file, node.path)
                if INCLUDE not in node.value:
                    return whole
                return self._beside(self._included(node.value[INCLUDE]), whole)
            case _:
                return node

    def _beside(self, included: Node, siblings: Node) -> Node:
        if not siblings.value:
            return included
        if not isinstance(included.value, dict):
            place = Node(None, siblings.file, (*siblings.path, INCLUDE))
            return self._wrong(
                place, "the included file must be an object, as there are keys beside $include"
            )
        return merge(included, siblings)

    def _included(self, target: Node) -> Node:
        match target.value:
            case str():
                return self._file(target, target.value)
            case list():
                empty = Node({}, target.file, target.path)
                return reduce(merge, map(self._item, target.value), empty)
            case _:
                return self._wrong(target, "must be a path or a list of paths")

    def _item(self, item: Node) -> Node:
        if isinstance(item.value, str):
            return self._file(item, item.value)
        return self._wrong(item, "must be a path")

    def _file(self, place: Node, name: str) -> Node:
        file = str(absolute(name, home=self.home, base=Path(os.path.dirname(self.chain[-1]))))
        if file in self.chain:
            way = " -> ".join((*self.chain[self.chain.index(file) :], file))
            return self._wrong(place, f"includes itself: {way}")
        if len(self.chain) > MAX_INCLUDE_DEPTH:
            return self._wrong(place, f"includes are nested more than {MAX_INCLUDE_DEPTH} deep")
        try:
            content = self.files.read(file)
        except FileNotFoundError:
            return self._wrong(place, f"there is no file {file}")
        except Unreadable as error:
            self.files.fail(Issue(file, "", error.line, error.message))
            return Node({}, file, ())
        return Includer(self.files, self.home, (*self.chain, file)).resolve(content)

    def _wrong(self, place: Node, message: str) -> Node:
        line = self.files.line(place.file, place.path)
        self.files.fail(Issue(place.file, dotted(place.path), line, message))
        return Node({}, place.file, place.path[:-1])


def merge(under: Node, over: Node) -> Node:
    """`over` merged over `under`."""
    match under.value, over.value:
        case dict() as low, dict() as high:
            both = {
                key: merge(low[key], item) if key in low else item for key, item in high.items()
            }
            return Node({**low, **both}, over.file, over.path)
        case list() as first, list() as then:
            return Node([*first, *then], over.file, over.path)
        case _:
            return over

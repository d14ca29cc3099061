"""Collects the issues of one attempt to load, with their locations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..errors import COMMAND_LINE, ENVIRONMENT, Issue, KeyPath, bounded, dotted
from .documents import Files, Node

MAX_ISSUES = 500
"""Each one is compared with all others, and nobody reads more."""


@dataclass(slots=True)
class Problems:
    """`tree` is the merged configuration; `main_file` is the default location."""

    files: Files
    main_file: str
    tree: Node
    found: list[Issue] = field(default_factory=list)
    paths: dict[KeyPath, None] = field(default_factory=dict)

    def report(self, path: KeyPath, message: str) -> None:
        """Report an issue at `path`. Further ones for the same path are ignored."""
        node, rest = self.tree.at(path)
        if rest and not isinstance(node.value, dict):
            path, rest = path[: -len(rest)], ()
        if path in self.paths or len(self.paths) >= MAX_ISSUES:
            return
        local = (*node.path, *rest)
        line = self.files.line(node.file, local)
        self.paths[path] = None
        self.found.append(Issue(node.file, dotted(path), line, bounded(message)))

    def variable(self, name: str, message: str) -> None:
        """Report an issue with an environment variable."""
        self.found.append(Issue(ENVIRONMENT, name, None, message))

    def option(self, name: str, message: str) -> None:
        """Report an issue with a command line option."""
        self.found.append(Issue(COMMAND_LINE, name, None, message))

    def broken(self, *path: str | int) -> bool:
        """Whether there is an issue at, above or below `path`."""
        return any(_related(path, known) for known in self.paths)

    def any(self) -> bool:
        """Whether there are issues, including those of reading."""
        return bool(self.found or self.files.issues)

    def all(self) -> Iterable[Issue]:
        """All issues, without duplicates, in the order of the files."""
        unique = dict.fromkeys([*self.files.issues, *self.found])
        return sorted(unique, key=self._place)

    def _place(self, issue: Issue) -> tuple[bool, str, int]:
        return issue.file != self.main_file, issue.file, issue.line or 0


def _related(one: KeyPath, other: KeyPath) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]

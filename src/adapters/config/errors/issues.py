"""Findings about a configuration, with file, line, path and message."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .secret_texts import masked

Signature = tuple[int, int, int]
"""mtime in nanoseconds, size, inode."""

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the root on."""

ENVIRONMENT = "environment"
COMMAND_LINE = "command line"

_LONGEST_KEY = 100
_LONGEST_QUOTE = 64
_LONGEST_MESSAGE = 2_000
_QUOTED = re.compile(r"`([^`]*+)`")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_$*<>/:\[\]-]+")


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing that is wrong.

    `file`: the file with the value, `environment` or `command line`; `path` is dotted, empty for
    the whole; `line` counts from 1.
    """

    file: str
    path: str
    line: int | None
    message: str

    def __str__(self) -> str:
        """`- <file>:<line> <path or <root>>: <message>`."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"- {printable(place)} {printable(self.path) or '<root>'}: {printable(self.message)}"


class ConfigInvalid(Exception):
    """The configuration cannot be used. `issues`: everything found, in the order of the files.

    `signatures`: of each file involved, None for a missing one. A change of one is a reason to try
    again.
    """

    def __init__(
        self, issues: Iterable[Issue], signatures: Mapping[str, Signature | None] | None = None
    ) -> None:
        self.issues = tuple(issues)
        self.signatures = dict(signatures or {})
        super().__init__(render(self.issues))


def render(issues: Iterable[Issue]) -> str:
    """One line for each issue."""
    return "\n".join(map(str, issues))


def dotted(path: Iterable[str | int]) -> str:
    """The path as text: `agents.list.0.id`; a key that holds a dot or a blank is quoted."""
    text = ""
    for key in path:
        if isinstance(key, str) and len(key) > _LONGEST_KEY:
            key = f"{key[:_LONGEST_KEY]}..."
        if isinstance(key, str) and not _PLAIN_KEY.fullmatch(key):
            text += f'["{key}"]'
        else:
            text += f".{key}" if text else str(key)
    return text


def bounded(message: str) -> str:
    """The message with quoted values shortened and secrets masked."""
    short = _QUOTED.sub(_quoted, message)
    return short if len(short) <= _LONGEST_MESSAGE else f"{short[:_LONGEST_MESSAGE]}..."


def _quoted(found: re.Match[str]) -> str:
    text = masked(found[1])
    return f"`{text}`" if len(text) <= _LONGEST_QUOTE else f"`{text[:_LONGEST_QUOTE]}...`"


def printable(text: str) -> str:
    """`text` on one line, without control characters or halves of surrogate pairs."""
    escaped = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in escaped)

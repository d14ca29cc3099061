"""Findings about a configuration, with file, line, path and message."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .secret_texts import masked

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Signature = tuple[int, int, int]
"""mtime in nanoseconds, size, inode."""

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the root on."""

ENVIRONMENT = "environment"
COMMAND_LINE = "command line"

_LONGEST_KEY = 100
_LONGEST_QUOTE = 64
_LONGEST_GUESSED = 64
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


_TYPES = {
    "bool_type": "true or false",
    "dict_type": "an object",
    "float_type": "a number",
    "int_parsing_size": "a whole number of a sensible size",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "string_type": "a string",
}
_BOUNDS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
TRUSTED_PROXY = (
    "the mode `trusted-proxy` is not available: no user's name is taken from the header of a "
    "proxy; use `token` or `password`, have the proxy send `Authorization: Bearer <secret>`, and "
    "list the proxy in gateway.trustedProxies"
)
_NOT_SERVED: Mapping[tuple[KeyPath, str], str] = MappingProxyType(
    {(("gateway", "auth", "mode"), "trusted-proxy"): TRUSTED_PROXY}
)
"""Valid values of other programs that have a replacement here."""


def sentence(details: Sequence[ErrorDetails], path: KeyPath) -> str:
    """What is wrong with the value at `path`, and what is allowed there.

    The value is not quoted, as it could be a misplaced secret.
    """
    messages = dict.fromkeys(_one(detail, path) for detail in details)
    return ", or ".join(messages)


def _one(detail: ErrorDetails, path: KeyPath) -> str:
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "missing":
        return "is missing; set it"
    if kind in _TYPES:
        fraction = isinstance(value, float) and kind == "int_type"
        return f"must be {_TYPES[kind]}, not {'one with a point' if fraction else kind_of(value)}"
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        limit = context[bound]
        return f"must be {words} {int(limit) if limit == int(limit) else limit}"
    if kind == "literal_error" and isinstance(value, str) and (path, value) in _NOT_SERVED:
        return _NOT_SERVED[path, value]
    if kind == "literal_error":
        known = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        close = guess(value, known).rstrip(".") if isinstance(value, str) else ""
        return f"must be {context['expected']}{close}"
    if kind == "string_too_short":
        what = "the key " if detail["loc"][-1] == "[key]" else ""
        return f"{what}must not be empty"
    if kind == "value_error":
        return str(context["error"])
    return detail["msg"]


def guess(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` where one of the known words is close, else a full stop."""
    if len(word) > _LONGEST_GUESSED:
        return "."
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f"; did you mean `{by_lower[close[0]]}`?" if close else "."


def listing(words: Iterable[str]) -> str:
    """The words, separated by commas; `none` for no words."""
    return ", ".join(words) or "none"


def kind_of(value: Any) -> str:
    """The name of a JSON value's type."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"

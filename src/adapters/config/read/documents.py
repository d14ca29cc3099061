"""Reads JSON5 files into trees of values with their locations."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyjson5

from ..errors import Issue, KeyPath, Signature, dotted
from .scanning import line_of, scan

MAX_DEPTH = 64
"""How deep objects and lists may be nested."""

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its origin: the file, and the path inside that file.

    `written`: the text in the file, if it names environment variables.
    """

    value: Scalar | dict[str, Node] | list[Node]
    file: str
    path: KeyPath
    written: str | None = None

    def plain(self) -> object:
        """The value alone, as JSON data."""
        match self.value:
            case dict():
                return {key: node.plain() for key, node in self.value.items()}
            case list():
                return [node.plain() for node in self.value]
            case _:
                return self.value

    def walk(self, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Node]]:
        """Every node with its path from here, parents first."""
        yield path, self
        for key, node in self.children():
            yield from node.walk((*path, key))

    def children(self) -> list[tuple[str | int, Node]]:
        """The members or elements."""
        return members(self.value)

    def at(self, path: KeyPath) -> tuple[Node, KeyPath]:
        """The deepest node on the way to `path`, and the rest of the path."""
        node = self
        for i, key in enumerate(path):
            below = value_at(node.value, (key,))
            if not isinstance(below, Node):
                return node, path[i:]
            node = below
        return node, ()


def members(value: object) -> list[tuple[Any, Any]]:
    """The members of an object, or the elements of a list with their positions."""
    match value:
        case dict():
            return list(value.items())
        case list():
            return list(enumerate(value))
        case _:
            return []


def value_at(value: object, path: KeyPath) -> object:
    """The plain value at a path; None where there is none."""
    for key in path:
        match value:
            case dict():
                value = value.get(key)
            case list() if isinstance(key, int) and key < len(value):
                value = value[key]
            case _:
                return None
    return value


def starred(path: KeyPath) -> tuple[str, ...]:
    """The path with `*` for positions in lists, as elements may move."""
    return tuple("*" if isinstance(key, int) else key for key in path)


def same(one: object, other: object) -> bool:
    """Whether two values are written alike; `1`, `1.0` and `true` are three."""
    return canonical(one) == canonical(other)


def canonical(value: object) -> str:
    """A value as text, the same for values that are written alike."""
    return json.dumps(value, sort_keys=True)


class Unreadable(Exception):
    """A file cannot be read or is not JSON5."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


@dataclass(slots=True)
class Files:
    """The files of one attempt to load, and the issues found while reading them."""

    issues: list[Issue] = field(default_factory=list)
    signatures: dict[str, Signature | None] = field(default_factory=dict)
    """Taken before the content is read, so that no later change is missed."""
    lines: dict[str, Mapping[KeyPath, int]] = field(default_factory=dict)
    incomplete: bool = False
    """Something could not be read, so that missing keys prove nothing."""
    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the bytes, in hexadecimal."""
    contents: Mapping[str, bytes] = field(default_factory=dict)
    """By file, content that replaces that of the file."""

    def read(self, file: str) -> Node:
        """The content of a file. Raises Unreadable, and FileNotFoundError."""
        text = self._text(file)
        value = parse(text)
        positions = scan(text)
        if file not in self.lines:
            for twice in positions.duplicates:
                message = f"duplicate key; the first one is on line {twice.first}"
                self.issues.append(Issue(file, dotted(twice.path), twice.line, message))
        self.lines[file] = positions.lines
        return _tree(value, file, ())

    def fail(self, issue: Issue) -> None:
        """Add an issue about something that could not be read."""
        self.issues.append(issue)
        self.incomplete = True

    def line(self, file: str, path: KeyPath) -> int | None:
        """The line of that path, or of the nearest key above it."""
        known = self.lines.get(file, {})
        above = (known[path[:end]] for end in range(len(path), 0, -1) if path[:end] in known)
        return next(above, 1 if known else None)

    def _text(self, file: str) -> str:
        self.signatures[file] = signature_of(file)
        data = self.contents[file] if file in self.contents else self._content(file)
        self.digests[file] = hashlib.sha256(data).hexdigest()
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = line_of(data[: error.start].decode("utf-8"), error.start)
            raise Unreadable("is not UTF-8 text", line) from error

    def _content(self, file: str) -> bytes:
        try:
            with open(file, "rb") as opened:
                self.signatures[file] = _signature(os.fstat(opened.fileno()))
                return opened.read()
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a usable path"
            raise Unreadable(f"cannot be read: {reason}") from error


def signature_of(file: str) -> Signature | None:
    """The current signature of a file; None if it does not exist."""
    try:
        return _signature(os.stat(file))
    except (OSError, ValueError):
        return None


def _signature(stat: os.stat_result) -> Signature:
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def parse(text: str) -> object:
    """The value of a JSON5 text. Raises Unreadable, without quoting the text."""
    try:
        return pyjson5.decode(text, maxdepth=MAX_DEPTH)
    except pyjson5.Json5NestingTooDeep as error:
        message = f"is nested more than {MAX_DEPTH} levels deep"
        raise Unreadable(message, _line(text, error)) from None
    except pyjson5.Json5DecoderException as error:
        raise Unreadable(f"is not valid JSON5: {_fault(error)}", _line(text, error)) from None


_NEAR = re.compile(r"near (\d+)")
_QUOTED = re.compile(r"b'(\w+)'")
_CODE_POINT = re.compile(r", found U\+[0-9a-fA-F]+|U\+([0-9a-fA-F]+)")
_NAMES = {
    "JSON5Value": "a value",
    "NumericLiteral": "number (cut short or too large)",
    "colon": "a colon",
    "comma": "comma",
}


def _line(text: str, error: pyjson5.Json5DecoderException) -> int | None:
    near = _NEAR.search(str(error.args[0]))
    if near is None:
        return None
    if isinstance(error, pyjson5.Json5ExtraData):
        # The position is the end of the value, not the start of the extra data.
        behind = int(near.group(1))
        return line_of(text, len(text) - len(text[behind:].lstrip()))
    return line_of(text, int(near.group(1)) - 1)


def _fault(error: pyjson5.Json5DecoderException) -> str:
    """The parser's message in plain words, without the text that was found."""
    found = str(error.args[0])
    found = _NEAR.sub("here", found).replace(" starting here", ", which begins on this line,")
    found = _CODE_POINT.sub(lambda match: _character(match.group(1)), found)
    found = _QUOTED.sub(lambda match: _NAMES.get(match.group(1), match.group(1)), found)
    return found[:1].lower() + found[1:].rstrip(", ")


def _character(code: str | None) -> str:
    return f"`{chr(int(code, 16))}`" if code and chr(int(code, 16)) in "{}[]:,/*\"'" else ""


def _tree(value: object, file: str, path: KeyPath) -> Node:
    match value:
        case dict():
            members = {key: _tree(item, file, (*path, key)) for key, item in value.items()}
            return Node(members, file, path)
        case list():
            return Node([_tree(item, file, (*path, i)) for i, item in enumerate(value)], file, path)
        case str() | int() | float() | None:
            return Node(value, file, path)
        case _:
            raise TypeError(f"not a JSON value: {type(value).__name__}")

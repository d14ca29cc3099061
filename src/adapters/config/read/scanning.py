"""Which line each key of a JSON5 text stands on, and which keys stand there twice.

The parser reports neither. This walks the tokens of a text that has been parsed already, so it need
not judge it; it takes about a millisecond for ten kilobytes.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyjson5

from ..errors import KeyPath

TOKEN = re.compile(
    r"""
      (?P<comment> //[^\n\r\u2028\u2029]* | /\*.*?\*/ )
    | (?P<mark>    [{}\[\]:,] )
    | (?P<word>    "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | [^\s\ufeff{}\[\]:,"'/]+ )
    """,
    re.VERBOSE | re.DOTALL,
)
_LINE_END = re.compile(r"\r\n|[\n\r]")


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A second occurrence of a key in one object; the first is on line `first`."""

    path: KeyPath
    line: int
    first: int


@dataclass(slots=True)
class Positions:
    """`lines`: for a member the line of its key, for a list's element the line it begins on."""

    lines: dict[KeyPath, int] = field(default_factory=dict)
    duplicates: list[Duplicate] = field(default_factory=list)


@dataclass(slots=True)
class Container:
    """An object or a list that has been opened and not closed yet."""

    path: KeyPath
    is_object: bool
    key: str | None = None
    position: int = 0

    def child(self) -> KeyPath:
        return (*self.path, self.position if self.key is None else self.key)


def line_of(text: str, offset: int) -> int:
    """The line, from 1, that the character at `offset` is on."""
    return 1 + sum(1 for _ in _LINE_END.finditer(text, 0, max(offset, 0)))


def scan(text: str) -> Positions:
    """The positions in `text`, which is valid JSON5."""
    found = Positions()
    stack: list[Container] = []
    for kind, token, line in _tokens(text):
        if kind == "mark":
            _mark(found, stack, token, line)
        elif stack and stack[-1].is_object and stack[-1].key is None:
            _key(found, stack[-1], decoded(token), line)
        else:
            _element(found, stack, line)
    return found


def _mark(found: Positions, stack: list[Container], mark: str, line: int) -> None:
    if mark in "{[":
        _element(found, stack, line)
        stack.append(Container(stack[-1].child() if stack else (), mark == "{"))
    elif mark in "}]":
        stack.pop()
    elif mark == ",":
        stack[-1].key = None
        stack[-1].position += 1


def _key(found: Positions, container: Container, key: str, line: int) -> None:
    container.key = key
    path = container.child()
    if path in found.lines:
        found.duplicates.append(Duplicate(path, line, found.lines[path]))
    found.lines[path] = line


def _element(found: Positions, stack: list[Container], line: int) -> None:
    if stack and not stack[-1].is_object:
        found.lines[stack[-1].child()] = line


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    ends = [match.end() for match in _LINE_END.finditer(text)]
    for match in TOKEN.finditer(text):
        kind = match.lastgroup
        if kind and kind != "comment":
            yield kind, match.group(), 1 + bisect_right(ends, match.start())


def decoded(token: str) -> str:
    """A key as it is meant: without quotes and escapes."""
    if token[0] in "\"'":
        return str(pyjson5.decode(token))
    if "\\" in token:
        return str(next(iter(pyjson5.decode(f"{{{token}:0}}"))))
    return token

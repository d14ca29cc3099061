"""Positions in a JSON5 text: the lines of keys, duplicate keys, and the spans of values.

The text has been parsed already, so that its tokens need no checks; ten kilobytes take about a
millisecond.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
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
_WORDS = ("true", "false", "null")


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A repeated key of one object; its first occurrence is on line `first`."""

    path: KeyPath
    line: int
    first: int


@dataclass(slots=True)
class Positions:
    """`lines`: for a member the line of its key, for a list's element the line it begins on."""

    lines: dict[KeyPath, int] = field(default_factory=dict)
    duplicates: list[Duplicate] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Span:
    """A string or a number with its path, or a comment, which has none. `text` is as written."""

    path: KeyPath | None
    start: int
    end: int
    text: str


def line_of(text: str, offset: int) -> int:
    """The line, from 1, that the character at `offset` is on."""
    return 1 + sum(1 for _ in _LINE_END.finditer(text, 0, max(offset, 0)))


def scan(text: str) -> Positions:
    """The positions in `text`, which is valid JSON5."""
    found = Positions()
    ends = [match.end() for match in _LINE_END.finditer(text)]
    for token in _tokens(text):
        line = 1 + bisect_right(ends, token.match.start())
        if token.kind == "key" and token.path in found.lines:
            duplicate = Duplicate(token.path, line, found.lines[token.path])
            found.duplicates.append(duplicate)
        if token.kind == "key" or token.is_element:
            found.lines[token.path] = line
    return found


def spans(text: str) -> Iterator[Span]:
    """The strings, numbers and comments of `text`, which is valid JSON5, in their order."""
    for token in _tokens(text):
        match, written = token.match, token.match.group()
        if token.kind == "comment":
            yield Span(None, match.start(), match.end(), written)
        elif token.kind == "word" and written not in _WORDS:
            yield Span(token.path, match.start(), match.end(), written)


def replace_spans(text: str, replacements: Iterable[tuple[Span, str]]) -> str:
    """`text` with some of its spans replaced; they come in their order."""
    parts, end = [], 0
    for span, new in replacements:
        parts += [text[end : span.start], new]
        end = span.end
    return "".join((*parts, text[end:]))


@dataclass(slots=True)
class _Container:
    """An open object or list. `key`: that of the current member, None before it."""

    path: KeyPath
    is_object: bool
    key: str | None = None
    position: int = 0

    def child(self) -> KeyPath:
        return (*self.path, self.position if self.key is None else self.key)


@dataclass(frozen=True, slots=True)
class _Token:
    """`kind`: comment, key, word (a value), or mark (the bracket that opens a value)."""

    kind: str
    match: re.Match[str]
    path: KeyPath = ()
    is_element: bool = False


def _tokens(text: str) -> Iterator[_Token]:
    stack: list[_Container] = []
    for match in TOKEN.finditer(text):
        kind, written = str(match.lastgroup), match.group()
        if kind == "comment":
            yield _Token(kind, match)
        elif written in ("}", "]"):
            stack.pop()
        elif written == ",":
            stack[-1].key = None
            stack[-1].position += 1
        elif kind == "word" and stack and stack[-1].is_object and stack[-1].key is None:
            stack[-1].key = decoded_key(written)
            yield _Token("key", match, stack[-1].child())
        elif written != ":":
            path = stack[-1].child() if stack else ()
            yield _Token(kind, match, path, bool(stack) and not stack[-1].is_object)
            if kind == "mark":
                stack.append(_Container(path, written == "{"))


def decoded_key(token: str) -> str:
    """A key without quotes and escapes."""
    if token[0] in "\"'":
        return str(pyjson5.decode(token))
    if "\\" in token:
        return str(next(iter(pyjson5.decode(f"{{{token}:0}}"))))
    return token

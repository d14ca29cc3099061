"""Where values and comments stand in a JSON5 text, so that some can be exchanged in place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..errors import KeyPath
from .scanning import TOKEN, Container, decoded

_WORDS = ("true", "false", "null")


@dataclass(frozen=True, slots=True)
class Span:
    """A string or a number with its path, or a comment, which has none. `text` is as written."""

    path: KeyPath | None
    start: int
    end: int
    text: str


def spans(text: str) -> Iterator[Span]:
    """The strings, numbers and comments of `text`, which is valid JSON5, in their order."""
    stack: list[Container] = []
    for match in TOKEN.finditer(text):
        kind, token = match.lastgroup, match.group()
        if kind == "comment":
            yield Span(None, match.start(), match.end(), token)
        elif kind == "mark":
            _mark(stack, token)
        elif stack and stack[-1].is_object and stack[-1].key is None:
            stack[-1].key = decoded(token)
        elif token not in _WORDS:
            path = stack[-1].child() if stack else ()
            yield Span(path, match.start(), match.end(), token)


def exchanged(text: str, news: Iterable[tuple[Span, str]]) -> str:
    """`text` with some of its spans replaced; they come in their order."""
    parts, end = [], 0
    for span, new in news:
        parts += [text[end : span.start], new]
        end = span.end
    return "".join((*parts, text[end:]))


def _mark(stack: list[Container], mark: str) -> None:
    if mark in "{[":
        stack.append(Container(stack[-1].child() if stack else (), mark == "{"))
    elif mark in "}]":
        stack.pop()
    elif mark == ",":
        stack[-1].key = None
        stack[-1].position += 1

"""The allow-list of `exec`: patterns for plain commands, word by word.

A pattern is compared with the words that a shell would pass to the program. So only a command with
certain words can match: one program, its arguments, and nothing that a shell interprets.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache

from .globs import matches

_PLAIN = frozenset("_-+=:,./@%")
"""Characters besides letters and digits that mean themselves to a shell."""
_ARGUMENTS = frozenset(("command", "workdir", "timeout"))
_STAR = "*"

_Piece = tuple[str, bool]
"""A part of a word, and whether it stood between quotes."""


def command_of(arguments: str) -> str | None:
    """The command in the arguments of a call of `exec`; None where they are not certain."""
    try:
        pairs = json.loads(arguments, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return None
    if not isinstance(pairs, _Pairs):
        return None
    values = dict(pairs)
    if len(values) != len(pairs) or not values.keys() <= _ARGUMENTS:
        return None
    command = values.get("command")
    return command if isinstance(command, str) else None


class _Pairs(list[tuple[str, object]]):
    """The members of a JSON object, duplicates included."""


def allows(patterns: Iterable[str], command: str) -> bool:
    """Whether a pattern names the command.

    `*` in a word of a pattern stands for any characters of that word; as the last word, for any
    further words, also none. A `*` between quotes is a `*`.
    """
    words = words_of(command)
    return words is not None and any(_names(pattern, words) for pattern in patterns)


def words_of(command: str) -> tuple[str, ...] | None:
    """The words of a plain command; None if a shell would interpret anything in it."""
    try:
        words = tuple("".join(text for text, _ in word) for word in _split(command))
    except ValueError:
        return None
    # A shell takes `NAME=value` before the program for a variable.
    return words if words and "=" not in words[0] else None


def check_pattern(pattern: str) -> None:
    """Raises ValueError for a pattern that no command can match."""
    if not list(_split(pattern, _PLAIN | {_STAR})):
        raise ValueError("must name a program")


def _names(pattern: str, words: tuple[str, ...]) -> bool:
    expected, open_ended = _compiled(pattern)
    if len(words) < len(expected) or (len(words) > len(expected) and not open_ended):
        return False
    return all(matches(one, word) for one, word in zip(expected, words, strict=False))


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> tuple[tuple[tuple[str, ...], ...], bool]:
    """The words, each as what stands around its `*`, and whether any further words may follow."""
    words = list(_split(pattern, _PLAIN | {_STAR}))
    open_ended = len(words) > 1 and words[-1] == [(_STAR, False)]
    return tuple(map(_parts, words[:-1] if open_ended else words)), open_ended


def _parts(word: list[_Piece]) -> tuple[str, ...]:
    parts = [""]
    for text, quoted in word:
        if text == _STAR and not quoted:
            parts.append("")
        else:
            parts[-1] += text
    return tuple(parts)


def _split(text: str, plain: frozenset[str] = _PLAIN) -> Iterator[list[_Piece]]:
    """The words of a command line. Raises ValueError for what a shell would interpret."""
    word: list[_Piece] | None = None
    rest = iter(text)
    for char in rest:
        if char in " \t":
            if word is not None:
                yield word
            word = None
            continue
        word = [] if word is None else word
        if char in "'\"":
            word.append((_quoted(rest, char), True))
        elif char in plain or (char.isascii() and char.isalnum()):
            word.append((char, False))
        else:
            raise ValueError(f"{char!r} has to stand between single quotes")
    if word is not None:
        yield word


def _quoted(rest: Iterator[str], quote: str) -> str:
    found: list[str] = []
    for char in rest:
        if char == quote:
            return "".join(found)
        if char in "\0\r\n" or (quote == '"' and char in "$`\\!"):
            raise ValueError(f"{char!r} cannot stand between {quote} quotes")
        found.append(char)
    raise ValueError(f"a {quote} is missing")

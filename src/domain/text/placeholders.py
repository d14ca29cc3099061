"""Placeholders in the texts of a configuration.

`${NAME}` and `${NAME:-default}` are replaced by an environment variable. A `$` in front of a
placeholder makes it a literal text. Placeholders of other programs, such as `$NAME` and `%NAME%`,
are called foreign: they are detected, so that they are not sent to a provider as a key.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum

_VARIABLE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)
_IN_TEXT = re.compile(r"(?P<escape>\$)?\$\{(?P<body>[A-Z_][A-Z0-9_]*(?::-[^{}]*)?)\}")
_IN_BRACES = re.compile(r"(?P<escape>\$)?\$\{(?:(?P<body>[^{}]*)\}|)")
_FOREIGN = r"\$env:\w+|\$[A-Za-z_]\w+|%[A-Za-z_]\w{2,}%(?!\w)|\{\{[^{}]*\}\}|\$\([^()]*\)"
_BESIDE_OTHERS = re.compile(rf"(?<![\w$%])(?P<escape>\$)?(?P<foreign>{_FOREIGN})")
_ALONE = re.compile(
    rf"(?P<escape>\$(?!env:|\{{))?(?P<foreign>{_FOREIGN}|<[A-Za-z][\w .-]*>"
    r"|\$?\{\{[^{}]*\}\}|\$ENV\{\w+\}|\{(?:env|file):[^{}]*\}|%\(\w+\)s"
    r"|(?:secretref-)?env:[A-Za-z_]\w*|secretref-managed|file:/\S+|op://\S+"
    r"|__OPEN(?:CLAW|SOUL)_REDACTED__)"
)

ValueOf = Callable[[str, str | None], str | None]
"""Returns the replacement for a variable's name and its default; None: do not replace it."""


class Kind(Enum):
    """The use of a text, which decides what counts as a placeholder in it."""

    TEXT = "for people and models"
    """Only `${NAME}` with a capital name is a placeholder."""
    SETTING = "a URL, a path, a header, an id"
    """Everything that looks like a placeholder is one."""
    SECRET = "any characters at all"  # noqa: S105 - not a secret but a kind of text
    """As in a setting, but foreign placeholders count only as the whole text."""


def replaced(text: str, kind: Kind, value_of: ValueOf, foreign: Callable[[str], None]) -> str:
    """The text with its placeholders replaced. `foreign` is called with each foreign one."""

    def braces(match: re.Match[str]) -> str:
        whole = match.group()
        if match["escape"]:
            return whole[1:]
        variable = _VARIABLE.fullmatch(match["body"] or "")
        if variable is None:
            foreign(whole)
            return whole
        value = value_of(variable["name"], variable["default"])
        return whole if value is None else value

    def others(match: re.Match[str]) -> str:
        if not match["escape"]:
            foreign(match["foreign"])
        return match["foreign"]

    if kind is Kind.TEXT:
        return _IN_TEXT.sub(braces, text)
    alone = _ALONE.fullmatch(text)
    if alone is not None:
        return others(alone)
    # In two steps over disjoint parts, so that the value of a variable is not scanned again.
    parts, end = [], 0
    for match in _IN_BRACES.finditer(text):
        parts += [_outside(text[end : match.start()], kind, others), braces(match)]
        end = match.end()
    return "".join((*parts, _outside(text[end:], kind, others)))


def _outside(text: str, kind: Kind, others: Callable[[re.Match[str]], str]) -> str:
    return _BESIDE_OTHERS.sub(others, text) if kind is Kind.SETTING else text


def names_variable(text: str) -> bool:
    """Whether the text has a variable placeholder, for any kind of text."""
    return any(
        not match["escape"] and _VARIABLE.fullmatch(match["body"] or "")
        for match in _IN_BRACES.finditer(text)
    )


def literal(text: str, kind: Kind) -> str:
    """The text escaped, so that `replaced` returns the original."""
    pattern = _IN_TEXT if kind is Kind.TEXT else _IN_BRACES
    return pattern.sub(lambda match: f"${match.group()}", text)

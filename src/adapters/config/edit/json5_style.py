"""What new parts of a JSON5 text look like."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_BARE = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_ESCAPE = re.compile(r"\\(?:(?P<backslash>\\)(?=[xu])|.)")
_WORDS = ("Infinity", "NaN", "false", "null", "true")
_LINE_ENDS = str.maketrans({"\u2028": "\\u2028", "\u2029": "\\u2029"})


@dataclass(frozen=True, slots=True)
class Style:
    """How an object or a list is laid out.

    `multi`: one member a line. `outer` is the indentation of the line it ends on, `inner` that of
    its members.
    """

    multi: bool
    outer: str
    inner: str


@dataclass(frozen=True, slots=True)
class Wording:
    """How new text is written. `bare`: with a comma at the end and, where they need none, keys
    without quotes, which plain JSON does not have.
    """

    unit: str = "  "
    bare: bool = True

    def member(self, key: str, value: object, style: Style) -> str:
        """An object with this one member, which is laid out for an object of that style."""
        return f"{{{self._key(key)}: {self._text(value, style)}}}"

    def value(self, value: object, style: Style) -> str:
        """A list with this one element, which is laid out for a container of that style."""
        return f"[{self._text(value, style)}]"

    def _text(self, value: object, style: Style) -> str:
        """`value`, laid out as a part of something of that style."""
        inner = Style(style.multi, style.inner, style.inner + self.unit)
        match value:
            case dict() if value:
                parts = [f"{self._key(k)}: {self._text(v, inner)}" for k, v in value.items()]
                return self._joined("{", parts, "}", inner, " ")
            case list() if any(isinstance(item, dict | list) for item in value):
                return self._joined("[", [self._text(v, inner) for v in value], "]", inner, "")
            case list():
                return f"[{', '.join(self._text(item, inner) for item in value)}]"
            case _:
                return _spelled(value)

    def _joined(self, start: str, parts: list[str], end: str, style: Style, gap: str) -> str:
        if not style.multi:
            return f"{start}{gap}{', '.join(parts)}{gap}{end}"
        before = f"\n{style.inner}"
        lines = f",{before}".join(parts)
        comma = "," if self.bare else ""
        return f"{start}{before}{lines}{comma}\n{style.outer}{end}"

    def _key(self, key: str) -> str:
        plain = self.bare and _BARE.fullmatch(key) and key not in _WORDS
        return key if plain else _spelled(key)


def _spelled(value: object) -> str:
    # The library that keeps comments takes a backslash, even an escaped one, and an `x` or a `u`
    # behind it for the beginning of an escape.
    text = json.dumps(value, ensure_ascii=False).translate(_LINE_ENDS)
    return _ESCAPE.sub(lambda found: "\\u005c" if found["backslash"] else found.group(), text)

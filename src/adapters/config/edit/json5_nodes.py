"""Editing a parsed JSON5 text: the layout of new parts, and members put in and taken out.

The library keeps white space and comments in lists before and after keys and values. What comes
before the first member belongs to the container; what comes after a comma, to the next member.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from json5.model import Comment, JSONArray, JSONObject, Key, LineComment, Value

_BARE = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_ESCAPE = re.compile(r"\\(?:(?P<backslash>\\)(?=[xu])|.)")
_WORDS = ("Infinity", "NaN", "false", "null", "true")
_LINE_ENDS = str.maketrans({"\u2028": "\\u2028", "\u2029": "\\u2029"})


@dataclass(frozen=True, slots=True)
class Style:
    """The layout of an object or a list.

    `multi`: one member per line; `outer`: indentation of the closing line; `inner`: of members.
    """

    multi: bool
    outer: str
    inner: str


@dataclass(frozen=True, slots=True)
class Wording:
    """The spelling of new text. `bare`: with trailing commas and unquoted keys, unlike JSON."""

    unit: str = "  "
    bare: bool = True

    def member(self, key: str, value: object, style: Style) -> str:
        """An object with this one member, for an object of that style."""
        return f"{{{self._key(key)}: {self._text(value, style)}}}"

    def value(self, value: object, style: Style) -> str:
        """A list with this one element, for a container of that style."""
        return f"[{self._text(value, style)}]"

    def _text(self, value: object, style: Style) -> str:
        """`value` as part of a container of that style."""
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
    # The library that keeps comments takes a backslash, even an escaped one, before an `x` or a
    # `u` for the start of an escape.
    text = json.dumps(value, ensure_ascii=False).translate(_LINE_ENDS)
    return _ESCAPE.sub(lambda found: "\\u005c" if found["backslash"] else found.group(), text)


Gap = list[str | Comment]
"""White space and comments between two tokens."""


class Members:
    """The members of an object or the elements of a list, for changes in place."""

    def __init__(self, node: JSONObject | JSONArray) -> None:
        self._node = node

    def style(self, around: Style, wording: Wording) -> Style:
        """The layout of the members. `around`: the style of the outer container."""
        count, outer = len(self._node.values), around.inner
        deeper = outer + wording.unit
        if not count:
            return Style(around.multi, outer, deeper)
        first = self._before(0)
        multi = _breaks(first) or _breaks(self._before(count - 1))
        inner = _indentation(first)
        if inner is None:
            inner = deeper if multi else outer
        return Style(multi, outer, inner)

    def drop(self, i: int) -> None:
        """Remove a member with the comment after it on its line; other comments stay."""
        node, before = self._node, self._before(i)
        last = i == len(node.values) - 1
        behind = self._end() if last else self._before(i + 1)
        gap = _closed(before, behind, last=last)
        del node.values[i]
        if isinstance(node, JSONObject):
            del node.keys[i]
        if not last:
            self._set_before(i, gap)
        elif i == 0:
            node.trailing_comma, node.leading_wsc = None, gap
        elif node.trailing_comma is not None:
            node.trailing_comma.wsc_after = gap
        else:
            node.values[-1].wsc_after = [*node.values[-1].wsc_after, *gap]

    def append(self, key: Key | None, value: Value, style: Style) -> None:
        """Append a member, after all comments at the end."""
        node = self._node
        end = self._end()
        cut = len(end) - 1 if end and isinstance(end[-1], str) else len(end)
        comments, rest = end[:cut], end[cut:]
        multi = style.multi or any(isinstance(item, LineComment) for item in comments)
        space = " " if node.values or key is not None else ""
        start: Gap = ["\n" + style.inner if multi else space]
        if multi and not _breaks(rest):
            rest = ["\n" + style.outer]
        elif not node.values and not multi:
            rest = [space]
        if node.trailing_comma is not None:
            node.trailing_comma.wsc_after, rest = rest, []
        elif node.values:
            # The comma comes right after the value, so that comments stay on its line.
            node.values[-1].wsc_after, comments = ([], comments) if multi else (comments, [])
        value.wsc_after = rest
        self._insert(key, value)
        self._set_before(len(node.values) - 1, [*comments, *start])

    def _insert(self, key: Key | None, value: Value) -> None:
        node = self._node
        if isinstance(node, JSONObject) and key is not None:
            node.keys.append(key)
        node.values.append(value)

    def _end(self) -> Gap:
        """The gap before the closing bracket."""
        node = self._node
        if not node.values:
            return node.leading_wsc
        return (node.trailing_comma or node.values[-1]).wsc_after

    def _first(self, i: int) -> Key | Value:
        node = self._node
        return node.keys[i] if isinstance(node, JSONObject) else node.values[i]

    def _before(self, i: int) -> Gap:
        return self._node.leading_wsc if i == 0 else self._first(i).wsc_before

    def _set_before(self, i: int, gap: Gap) -> None:
        self._first(i).wsc_before = [] if i == 0 else gap
        if i == 0:
            self._node.leading_wsc = gap


def _breaks(gap: Gap) -> bool:
    return any(isinstance(item, str) and "\n" in item for item in gap)


def _indentation(gap: Gap) -> str | None:
    """The white space between the last line break and a member, if any."""
    last = gap[-1] if gap else None
    return last.rpartition("\n")[2] if isinstance(last, str) and "\n" in last else None


def _closed(before: Gap, behind: Gap, *, last: bool) -> Gap:
    """The gap that remains around a removed member; `last`: a bracket follows."""
    kept = before[:-1] if before and isinstance(before[-1], str) else before
    line_end = next((i for i, item in enumerate(behind) if _breaks([item])), None)
    if line_end is not None:
        return [*kept, *behind[line_end:]]
    if last and not (kept and isinstance(kept[-1], LineComment)):
        return [*kept, *behind]
    return [*before, *(behind[1:] if behind and isinstance(behind[0], str) else behind)]

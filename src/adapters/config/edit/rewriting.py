"""Rewrites a JSON5 text to a new value, and keeps comments and the layout of unchanged parts.

The text becomes a tree of pieces that joined together are the text again. A gap is the white space
and the comments between two tokens. What stands before the first member belongs to the container;
what stands after a comma, to the next member.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..read import TOKEN, canonical, decoded_key, same

_BARE = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_WORDS = ("Infinity", "NaN", "false", "null", "true")
_PIECE = re.compile(r"//[^\n\r\u2028\u2029]*|/\*.*?\*/|[^/]+", re.DOTALL)
_LINE_ENDS = str.maketrans({"\u2028": "\\u2028", "\u2029": "\\u2029"})


@dataclass(frozen=True, slots=True)
class _Style:
    """The layout of an object or a list.

    `multi`: one member per line; `outer`: indentation of the closing line; `inner`: of members.
    """

    multi: bool
    outer: str
    inner: str


_TOP = _Style(multi=True, outer="", inner="")


@dataclass(slots=True)
class _Member:
    """A member of an object or an element of a list.

    `head`: from the key to the value, empty in a list; `after`: the gap up to the comma or bracket.
    """

    before: str
    name: str
    head: str
    value: str | _Container
    after: str

    def __str__(self) -> str:
        return f"{self.before}{self.head}{self.value}{self.after}"


@dataclass(slots=True)
class _Container:
    """An object or a list. `end`: the gap after the last comma, or in an empty container."""

    brackets: str
    members: list[_Member] = field(default_factory=list)
    trailing_comma: bool = False
    end: str = ""

    def __str__(self) -> str:
        comma = "," if self.trailing_comma else ""
        members = ",".join(map(str, self.members))
        return f"{self.brackets[0]}{members}{comma}{self.end}{self.brackets[1]}"

    def style(self, around: _Style, unit: str) -> _Style:
        """The layout of the members. `around`: the style of the outer container."""
        outer, deeper = around.inner, around.inner + unit
        if not self.members:
            return _Style(around.multi, outer, deeper)
        first, last = self.members[0].before, self.members[-1].before
        multi = _breaks(first) or _breaks(last)
        before = _pieces(first)[-1] if first else ""
        if _breaks(before):
            return _Style(multi, outer, before.rpartition("\n")[2])
        return _Style(multi, outer, deeper if multi else outer)

    def drop(self, i: int) -> None:
        """Remove a member with the comment after it on its line; other comments stay."""
        removed = self.members.pop(i)
        if i < len(self.members):
            follower = self.members[i]
            follower.before = _closed(removed.before, follower.before, last=False)
            return
        gap = _closed(removed.before, self._end(removed), last=True)
        if not self.members:
            self.trailing_comma = False
        if self.trailing_comma or not self.members:
            self.end = gap
        else:
            self.members[-1].after += gap

    def append(self, name: str, head: str, value: str, style: _Style) -> None:
        """Append a member, after all comments at the end."""
        last = self.members[-1] if self.members else None
        comments = _pieces(self.end if last is None else self._end(last))
        rest = comments.pop() if comments and _is_space(comments[-1]) else ""
        multi = style.multi or any(item.startswith("//") for item in comments)
        space = " " if self.members or head else ""
        if multi and not _breaks(rest):
            rest = "\n" + style.outer
        elif last is None and not multi:
            rest = space
        before = ["\n" + style.inner if multi else space]
        if multi or last is None or self.trailing_comma:
            before = [*comments, *before]
            comments = []
        if last is not None and not self.trailing_comma:
            # The comma comes right after the value, so that comments stay on its line.
            last.after = "".join(comments)
        after, self.end = ("", rest) if self.trailing_comma else (rest, "")
        self.members.append(_Member("".join(before), name, head, value, after))

    def _end(self, last: _Member) -> str:
        """The gap before the closing bracket."""
        return self.end if self.trailing_comma else last.after


def rewritten(text: str, old: Mapping[str, object], new: Mapping[str, object]) -> str:
    """`text`, whose value is `old`, changed so that its value is `new`.

    A new key comes last. The comment behind a removed one on its line goes too, others stay.
    """
    if text.count("\r\n") == text.count("\n") > 0:
        # New lines are written with a line feed alone.
        return rewritten(text.replace("\r\n", "\n"), old, new).replace("\n", "\r\n")
    reader = _Reader(text)
    start, root = reader.gap(), reader.value()
    if not isinstance(root, _Container):
        raise TypeError("not an object")
    unit = root.style(_TOP, "  ").inner or "  "
    # With trailing commas and unquoted keys, unlike JSON.
    bare = any(member.head[0] not in "\"'" for member in root.members)
    _Rewriter(unit, bare).members(root, old, new, _TOP)
    return f"{start}{root}{reader.gap()}"


class _Reader:
    """Parses a text, which is valid JSON5, into pieces."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = [match for match in TOKEN.finditer(text) if match.lastgroup != "comment"]
        self._at = 0

    def value(self) -> str | _Container:
        """The value that begins with the next token."""
        start = self._take()
        if start not in ("{", "["):
            return start
        node = _Container("{}" if start == "{" else "[]")
        while True:
            gap = self.gap()
            if self._peek() in ("}", "]"):
                break
            name, head = self._key() if start == "{" else ("", "")
            value = self.value()
            node.members.append(_Member(gap, name, head, value, self.gap()))
            node.trailing_comma = self._peek() == ","
            if node.trailing_comma:
                self._take()
        if node.trailing_comma or not node.members:
            node.end = gap
        self._take()
        return node

    def gap(self) -> str:
        """The gap before the next token."""
        start = self._tokens[self._at - 1].end() if self._at else 0
        end = self._tokens[self._at].start() if self._at < len(self._tokens) else None
        return self._text[start:end]

    def _key(self) -> tuple[str, str]:
        """The key, and the text from it to its value."""
        written = self._take()
        return decoded_key(written), f"{written}{self.gap()}{self._take()}{self.gap()}"

    def _peek(self) -> str:
        return self._tokens[self._at].group()

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1].group()


@dataclass(frozen=True, slots=True)
class _Rewriter:
    """`unit`: one step of indentation. `bare`: with trailing commas and unquoted keys."""

    unit: str
    bare: bool

    def members(
        self,
        node: _Container,
        old: Mapping[str, object],
        new: Mapping[str, object],
        around: _Style,
    ) -> None:
        style = node.style(around, self.unit)
        for i in reversed(range(len(node.members))):
            if node.members[i].name not in new:
                node.drop(i)
        by_name = {member.name: member for member in node.members}
        for name, item in new.items():
            if name in by_name:
                self._update(by_name[name], old.get(name), item, style)
            else:
                node.append(name, f"{self._key(name)}: ", self._text(item, style), style)

    def _elements(
        self,
        node: _Container,
        old: list[object],
        new: list[object],
        kept: list[int],
        around: _Style,
    ) -> None:
        """The elements `kept` of the old list become the first ones of the new."""
        style = node.style(around, self.unit)
        for i in reversed(range(len(old))):
            if i not in kept:
                node.drop(i)
        for member, i, item in zip(node.members, kept, new, strict=False):
            self._update(member, old[i], item, style)
        for item in new[len(kept) :]:
            node.append("", "", self._text(item, style), style)

    def _update(self, member: _Member, old: object, new: object, style: _Style) -> None:
        """Replace the value `old` of a member by `new`, in place as far as possible."""
        if same(old, new):
            return
        match member.value, old, new:
            case _Container() as node, dict(), dict():
                self.members(node, old, new, style)
            case _Container() as node, list(), list() if (kept := _kept(old, new)) is not None:
                self._elements(node, old, new, kept, style)
            case _:
                member.value = self._text(new, style)

    def _text(self, value: object, style: _Style) -> str:
        """`value` as part of a container of that style."""
        inner = _Style(style.multi, style.inner, style.inner + self.unit)
        match value:
            case dict() if value:
                parts = [f"{self._key(k)}: {self._text(v, inner)}" for k, v in value.items()]
                return self._joined("{", parts, "}", inner, " ")
            case list() if any(isinstance(item, dict | list) for item in value):
                return self._joined("[", [self._text(v, inner) for v in value], "]", inner, "")
            case _:
                return json.dumps(value, ensure_ascii=False).translate(_LINE_ENDS)

    def _joined(self, start: str, parts: list[str], end: str, style: _Style, gap: str) -> str:
        if not style.multi:
            return f"{start}{gap}{', '.join(parts)}{gap}{end}"
        before = f"\n{style.inner}"
        lines = f",{before}".join(parts)
        comma = "," if self.bare else ""
        return f"{start}{before}{lines}{comma}\n{style.outer}{end}"

    def _key(self, key: str) -> str:
        plain = self.bare and _BARE.fullmatch(key) and key not in _WORDS
        return key if plain else json.dumps(key, ensure_ascii=False).translate(_LINE_ENDS)


def _pieces(gap: str) -> list[str]:
    """The comments of a gap, and the white space between them."""
    return _PIECE.findall(gap)


def _is_space(piece: str) -> bool:
    return not piece.startswith("/")


def _breaks(gap: str) -> bool:
    """Whether there is a line break outside of comments."""
    return any(_is_space(piece) and "\n" in piece for piece in _pieces(gap))


def _closed(before: str, behind: str, *, last: bool) -> str:
    """The gap that remains around a removed member; `last`: a bracket follows."""
    kept, rest = _pieces(before), _pieces(behind)
    if kept and _is_space(kept[-1]):
        kept.pop()
    line_end = next((i for i, piece in enumerate(rest) if _breaks(piece)), None)
    if line_end is not None:
        return "".join((*kept, *rest[line_end:]))
    if last and not (kept and kept[-1].startswith("//")):
        return "".join((*kept, behind))
    return before + "".join(rest[1:] if rest and _is_space(rest[0]) else rest)


def _kept(old: list[object], new: list[object]) -> list[int] | None:
    """The old elements that the first new ones correspond to, in order; None if not in order."""
    if not old:
        return None
    before, after = list(map(_identity, old)), list(map(_identity, new))
    kept: list[int] = []
    for name in after:
        start = kept[-1] + 1 if kept else 0
        if name not in before[start:]:
            break
        kept.append(before.index(name, start))
    if set(before).isdisjoint(after[len(kept) :]):
        return kept
    return list(range(len(old))) if _only_changed(before, after) else None


def _only_changed(before: list[str], after: list[str]) -> bool:
    """Whether each new element is the old one at its position, or an entirely new one."""
    old, new = set(before), set(after)
    return len(before) == len(after) and all(
        one == other or (other not in old and one not in new)
        for one, other in zip(before, after, strict=True)
    )


def _identity(item: object) -> str:
    """The identity of an element: its id if it has one, else its value."""
    return canonical({"id": item["id"]} if isinstance(item, dict) and "id" in item else item)

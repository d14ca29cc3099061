"""Removes or escapes characters that control a terminal or are invisible.

Control characters are commands to a terminal, and format characters change the order or the look of
the text around them without a glyph of their own. The ranges are literals, because computing them
from all of Unicode at the start would take too long; a test compares them with `unicodedata`.
"""

from __future__ import annotations

import re
from unicodedata import name

from ..errors import InvalidRequest

_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"
"""C0 without tab and line feed, DEL, and C1."""
_FORMATS = (
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
)
"""Categories Cf, Zl and Zp, and the code points that Unicode reserves for such characters."""
_SURROGATES = "\ud800-\udfff"
_VISIBLE_FORMATS = "\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
"""Signs of Arabic, Syriac and Kaithi: format characters (Cf) with a glyph."""
_JOINERS = "\u200c\u200d"
"""ZWNJ and ZWJ, used by Persian, the scripts of India and many emoji."""

_UNSAFE = f"{_CONTROLS}{_FORMATS}{_SURROGATES}"
# A joiner is part of a word or an emoji only after such a character; elsewhere it is invisible.
_JOINED = rf"(?<![^\x00-\xa9{_UNSAFE}{_JOINERS}])[{_JOINERS}]"
_REMOVED = re.compile(f"[{_UNSAFE}]|{_JOINED}")
_REFUSED = re.compile(rf"[\t\n{_UNSAFE}]|{_JOINED}")
_ESCAPED = re.compile(f"[{_UNSAFE}{_VISIBLE_FORMATS}{_JOINERS}]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def clean(text: str) -> str:
    """`text` without unsafe characters, except tabs and line feeds.

    The characters after a removed escape character stay: they are harmless without it, and show
    that something was there.
    """
    if text.isprintable():
        return text
    return _REMOVED.sub("", _PAIR.sub(_joined_pair, text))


class PieceCleaner:
    """Cleans a text in pieces; together they equal the result of `clean` for the whole text."""

    def __init__(self) -> None:
        self._last = ""

    def clean(self, piece: str) -> str:
        """The next piece without unsafe characters."""
        last, self._last = self._last, piece[-1:] or self._last
        # The character before decides whether a joiner or a trailing surrogate is kept.
        return clean(last + piece)[len(clean(last)) :]


def escape_json(text: str) -> str:
    """A JSON text of the same value, with control and format characters as escapes."""
    if text.isascii() and "\x7f" not in text:
        return text  # The strings of JSON contain no other ASCII control characters.
    return _ESCAPED.sub(_json_escape, text)


def escape_line(text: str) -> str:
    r"""`text` on one line, with unsafe characters as escapes such as `\x1b` and `\u202e`."""
    return text if text.isprintable() else _REFUSED.sub(_escape, text)


def check_name(text: str, field: str) -> str:
    """`text`, to be used as a name, a key or an id. Raises InvalidRequest for unsafe characters."""
    problem = unsafe_in_name(text)
    if problem:
        raise InvalidRequest(f"{field} {problem}", param=field)
    return text


def unsafe_in_name(text: str) -> str:
    """Why `text` is not valid as a name, as a predicate; empty if it is valid."""
    found = None if text.isprintable() else _REFUSED.search(text)
    if found is None:
        return ""
    char = found.group()
    described = f"U+{ord(char):04X}"
    if name(char, ""):
        described += f" {name(char)}"
    return (
        "contains control characters, format characters or lone surrogates: "
        f"{described} at position {found.start() + 1}"
    )


def _joined_pair(found: re.Match[str]) -> str:
    return found.group().encode("utf-16", "surrogatepass").decode("utf-16")


def _json_escape(found: re.Match[str]) -> str:
    units = found.group().encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"

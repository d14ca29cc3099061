"""Characters that steer a terminal or hide in a text: which they are, and how to be without them.

A terminal obeys control characters, and format characters change the order or the look of what is
around them without a glyph of their own. The range of each is written out, since looking through
all of Unicode when the program starts would take too long; a test compares them with `unicodedata`.
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
"""Categories Cf, Zl and Zp, and the code points that Unicode reserves for more such characters."""
_SURROGATES = "\ud800-\udfff"
_VISIBLE_FORMATS = "\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
"""Signs of Arabic, Syriac and Kaithi: format characters (Cf) that are drawn."""
_JOINERS = "\u200c\u200d"
"""ZWNJ and ZWJ: Persian, the scripts of India and many emoji are spelled with them."""

_UNSAFE = f"{_CONTROLS}{_FORMATS}{_SURROGATES}"
# A joiner is part of a word or of an emoji only behind such a character; anywhere else it hides.
_JOINED = rf"(?<![^\x00-\xa9{_UNSAFE}{_JOINERS}])[{_JOINERS}]"
_REMOVED = re.compile(f"[{_UNSAFE}]|{_JOINED}")
_REFUSED = re.compile(rf"[\t\n{_UNSAFE}]|{_JOINED}")
_ESCAPED = re.compile(f"[{_UNSAFE}{_VISIBLE_FORMATS}{_JOINERS}]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def clean(text: str) -> str:
    """`text` without characters that steer a terminal; tabs and line feeds stay.

    What follows an escape character stays as well: without that character it is harmless, and the
    reader sees that something was there.
    """
    if text.isprintable():
        return text
    return _REMOVED.sub("", _PAIR.sub(_joined_pair, text))


class PieceCleaner:
    """Cleans a text that arrives in pieces: their sum is what `clean` makes of the whole."""

    def __init__(self) -> None:
        self._last = ""

    def clean(self, piece: str) -> str:
        """The next piece without unsafe characters."""
        last, self._last = self._last, piece[-1:] or self._last
        # Whether a joiner is kept, or half of a surrogate pair, depends on the character before.
        return clean(last + piece)[len(clean(last)) :]


def escape_json(text: str) -> str:
    """JSON text, with every control and format character as an escape: the same JSON value."""
    if text.isascii() and "\x7f" not in text:
        return text  # JSON itself holds no other control characters of ASCII within strings.
    return _ESCAPED.sub(_json_escape, text)


def escape_line(text: str) -> str:
    r"""`text` on one line, with unsafe characters as escapes such as `\x1b` and `\u202e`."""
    return text if text.isprintable() else _REFUSED.sub(_escape, text)


def check_name(text: str, field: str) -> str:
    """`text`, which is to be a name, a key or an id. Raises InvalidRequest for unsafe characters,
    and names the field and the character."""
    problem = unsafe_in_name(text)
    if problem:
        raise InvalidRequest(f"{field} {problem}", param=field)
    return text


def unsafe_in_name(text: str) -> str:
    """What is wrong with `text` as a name, as a predicate; empty where nothing is."""
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

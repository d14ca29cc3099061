"""Conversion of texts for PostgreSQL.

A column of type text has neither NUL nor lone surrogates, which texts of clients may have; they are
stored as bytea.
"""

from __future__ import annotations

from ..common import MAX_INTEGER

_NUL = 0x10F7FF
_FIRST_SURROGATE = 0xD800
_CLEANED = {0: _NUL} | {_FIRST_SURROGATE + n: _NUL + 1 + n for n in range(0x800)}
"""What cannot be in a column of type text, as characters that nobody uses: of the last private
area. So it is found by a search, too."""


def data(text: str) -> bytes:
    """The text as UTF-8 with lone surrogates. `common.text` is the inverse."""
    return text.encode("utf-8", "surrogatepass")


def optional_data(text: str | None) -> bytes | None:
    return None if text is None else data(text)


def searchable(text: str) -> str:
    """The text for a column that is searched without regard to case, or a text to search for."""
    folded = text.casefold()
    return folded if folded.isascii() and "\0" not in folded else folded.translate(_CLEANED)


def bounded(number: int) -> int:
    """A number that a bigint holds, and no negative one: a valid LIMIT, a count of tokens."""
    return max(0, min(number, MAX_INTEGER))

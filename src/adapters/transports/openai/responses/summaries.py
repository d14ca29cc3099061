"""The content of compaction items: a summary, in a form that clients send back unread."""

from __future__ import annotations

import base64
import binascii

_MARK = "opensoul-1:"


def content_of(summary: str) -> str:
    """The content of the item for a summary."""
    data = summary.encode("utf-8", "surrogatepass")
    return _MARK + base64.urlsafe_b64encode(data).decode("ascii")


def summary_in(content: str) -> str | None:
    """The summary in such a content; None for any other text."""
    mark, encoded = content[: len(_MARK)], content[len(_MARK) :]
    if mark != _MARK or not encoded.isascii():
        return None
    try:
        return base64.b64decode(encoded, b"-_", validate=True).decode("utf-8", "surrogatepass")
    except (binascii.Error, UnicodeDecodeError):
        return None

"""Where the pictures and files of a request stand in its messages."""

from __future__ import annotations

from dataclasses import dataclass

from ....domain.messages import Image

UNREAD = Image("", "")
"""Stands in a message for a part whose content has not been read yet."""


@dataclass(frozen=True, slots=True)
class MediaPart:
    """A part whose content has not been read yet. `message` and `part` are its place."""

    message: int
    part: int
    is_picture: bool
    source: str
    """A data URL; for a picture also another URL, for a file also base64 alone."""
    param: str
    """The path of the source in the request."""
    detail: str = ""
    filename: str = ""

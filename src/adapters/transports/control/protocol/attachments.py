"""The attachments of a message: images as base64 or as a data URL."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from functools import partial
from typing import Annotated

from pydantic import Field

from .....domain.concurrency import off_loop
from .....domain.errors import InvalidRequest
from .....domain.messages import Image, Message, Part, Role, Text
from .frames import NAMING, Frame

MAX_BYTES = 5_000_000
"""Bytes of one attachment after decoding."""
_MOST = 20
_DATA_URL = re.compile(r"data:(?P<mime>[a-z0-9.+-]+/[a-z0-9.+-]+)?(;[^,]*)?;base64,", re.IGNORECASE)
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


class Attachment(Frame):
    """One attachment. `content`: base64 or a data URL. The other fields are mostly ignored: type
    and size are determined from the content."""

    type: Annotated[str, Field(max_length=64)] | None = None
    mime_type: Annotated[str, Field(max_length=128)] | None = None
    file_name: Annotated[str, Field(max_length=255), NAMING] | None = None
    content: str
    origin: Annotated[str, Field(max_length=64)] | None = None
    size_bytes: float | None = None
    duration_ms: float | None = None
    width: float | None = None
    height: float | None = None


Attachments = Annotated[list[Attachment], Field(max_length=_MOST)]


async def user_message(text: str, attachments: Sequence[Attachment]) -> Message:
    """A user's message with its images. Raises InvalidRequest for an invalid attachment."""
    size = sum(len(item.content) for item in attachments)
    return await off_loop(size, partial(_user_message, text, attachments))


def _user_message(text: str, attachments: Sequence[Attachment]) -> Message:
    images = [_image(item, number) for number, item in enumerate(attachments, 1)]
    texts: list[Part] = [Text(text)] if text or not images else []
    return Message(Role.USER, (*texts, *images))


def _image(item: Attachment, number: int) -> Image:
    label = item.file_name or f"attachment-{number}"
    url = _DATA_URL.match(item.content)
    encoded = "".join(item.content[url.end() if url else 0 :].split())
    # Reject before decoding.
    if len(encoded) > MAX_BYTES * 4 // 3 + 4:
        raise _rejection(label, f"exceeds size limit ({MAX_BYTES} bytes)")
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise _rejection(label, "invalid base64 content") from None
    if not data:
        raise _rejection(label, "content must be base64 string")
    if len(data) > MAX_BYTES:
        raise _rejection(label, f"exceeds size limit ({MAX_BYTES} bytes)")
    mime = _sniffed_type(data) or (url["mime"] if url else None) or item.mime_type or ""
    if not mime.lower().startswith("image/"):
        raise _rejection(
            label, f"is not an image ({mime or 'unknown type'}); only images are supported"
        )
    return Image(data=encoded, mime=mime.lower())


def _sniffed_type(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((mime for start, mime in _SIGNATURES if data.startswith(start)), None)


def _rejection(label: str, problem: str) -> InvalidRequest:
    return InvalidRequest(f"attachment {label}: {problem}", param="attachments")

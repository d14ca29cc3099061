"""Pictures that come with a message, and what is none."""

from __future__ import annotations

import base64

import pytest

from opensoul.adapters.transports.control.protocol.attachments import (
    MAX_BYTES,
    Attachment,
    user_message,
)
from opensoul.domain.errors import InvalidRequest
from opensoul.domain.messages import Image, Text

PNG = b"\x89PNG\r\n\x1a\n"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a..", "image/gif"),
        (b"RIFF....WEBPVP8 ", "image/webp"),
    ],
)
async def test_what_a_picture_is_shows_in_its_bytes(data: bytes, mime: str) -> None:
    item = Attachment(content=encoded(data), mime_type="application/pdf")

    assert (await user_message("look", [item])).parts == (Text("look"), Image(encoded(data), mime))


async def test_a_picture_may_come_as_a_data_url_and_alone() -> None:
    svg = encoded(b"<svg/>")

    message = await user_message("", [Attachment(content=f"data:image/svg+xml;base64,{svg}")])

    assert message.parts == (Image(svg, "image/svg+xml"),)


async def test_line_breaks_in_base64_do_not_matter() -> None:
    wrapped = "\n".join(encoded(PNG + bytes(30))[i : i + 16] for i in range(0, 52, 16))

    (image,) = (await user_message("", [Attachment(content=wrapped)])).parts

    assert image == Image(encoded(PNG + bytes(30)), "image/png")


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (Attachment(content="no base64!", file_name="a.png"), "attachment a.png: invalid base64"),
        (Attachment(content=""), "attachment attachment-1: content must be base64"),
        (Attachment(content=encoded(b"%PDF-"), mime_type="application/pdf"), "is not an image"),
        (Attachment(content=encoded(b"hello")), r"is not an image \(unknown type\)"),
        (Attachment(content=encoded(PNG + bytes(MAX_BYTES))), "exceeds size limit"),
        (Attachment(content="A" * (2 * MAX_BYTES)), "exceeds size limit"),
    ],
)
async def test_what_is_no_picture_is_refused_by_its_name(item: Attachment, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem) as refused:
        await user_message("look", [item])

    assert refused.value.param == "attachments"

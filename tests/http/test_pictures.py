"""What a picture is, by its structure."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensoul.adapters.transports.media.pictures import BadPicture, Picture, picture_of
from tests.http.pictures import (
    chunk,
    gif,
    jpeg,
    png,
    riff,
    webp,
    webp_extended,
    webp_lossless,
)

KINDS: dict[str, tuple[Callable[[int, int], bytes], str]] = {
    "png": (png, "image/png"),
    "jpeg": (jpeg, "image/jpeg"),
    "gif": (gif, "image/gif"),
    "webp": (webp, "image/webp"),
    "webp, lossless": (webp_lossless, "image/webp"),
    "webp, extended": (webp_extended, "image/webp"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (640, 480), (16_000, 2)])
def test_a_picture_has_its_type_and_its_size(kind: str, width: int, height: int) -> None:
    make, mime = KINDS[kind]

    assert picture_of(make(width, height)) == Picture(mime, width, height)


def test_a_frame_that_is_larger_than_its_screen_counts() -> None:
    assert picture_of(gif(1, 1, frame=(9_000, 8_000))) == Picture("image/gif", 9_000, 8_000)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_that_was_cut_off_is_found_wherever_it_was_cut(kind: str) -> None:
    whole = KINDS[kind][0](4, 4)

    for length in range(len(whole) - 1):
        with pytest.raises(BadPicture):
            picture_of(whole[:length])


PNG_HEAD = b"\x89PNG\r\n\x1a\n"
IHDR = png()[8:33]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "neither"),
        (b"hello", "neither"),
        (b"%PDF-1.4", "neither"),
        (b"BM" + bytes(60), "neither"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "neither"),
        (png(0, 5), "height is 0"),
        (jpeg(5, 0), "height is 0"),
        (gif(0, 0), "height is 0"),
        (webp(0, 5), "height is 0"),
        (png().replace(b"IDAT", b"IDAX"), "checksum"),
        (PNG_HEAD + chunk(b"IEND", b""), "no head"),
        (PNG_HEAD + IHDR + chunk(b"IEND", b""), "no data"),
        (PNG_HEAD + b"\xff\xff\xff\xffIHDR" + bytes(30), "cut off"),
        (PNG_HEAD + IHDR + chunk(b"tEXt", b"") * 200_001, "too many chunks"),
        (b"\xff\xd8\xff\xd9", "no data"),
        (b"\xff\xd8\xff\xda" + bytes(20), "no head"),
        (b"\xff\xd8\xff\xe0\0\0" + bytes(20), "too short"),
        (b"\xff\xd8\xff\xe0\0\2x", "marker is missing"),
        (b"\xff\xd8" + b"\xff\xe0\0\2" * 200_001, "too many segments"),
        (gif()[:19] + b"\x3b", "no data"),
        (gif()[:19] + b"\x99", "block is unknown"),
        (gif()[:19] + b"\x21\xfe" + b"\1x" * 200_001, "too many blocks"),
        (gif()[:19] + b"\x21\xfe\0" * 200_001, "too many blocks"),
        (riff(b"JUNK", bytes(20)), "no head"),
        (riff(b"VP8 ", bytes(20)), "no head"),
    ],
)
def test_what_no_decoder_can_read_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(BadPicture, match=problem):
        picture_of(data)


@given(
    start=st.sampled_from([png(), jpeg(), gif(), webp(), webp_lossless(), webp_extended()]),
    place=st.integers(0, 60),
    noise=st.binary(max_size=12),
)
def test_damage_never_raises_anything_else(start: bytes, place: int, noise: bytes) -> None:
    data = start[:place] + noise + start[place + len(noise) :]
    try:
        found = picture_of(data)
    except BadPicture:
        return
    assert found.width > 0
    assert found.height > 0

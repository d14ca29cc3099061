"""The event stream is understood however it is cut, spelled and ended."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensoul.adapters.models.openai_sse import EventStream, EventTooLong

STREAM = (
    "\ufeffdata: first\n\n"
    ": ping\n\n"
    "event: message\r\nid: 7\r\ndata:second, ünïcödé 🐙\r\n\r\n"
    "data: third\r\rdata: of\ndata: several lines\n\n\n"
    "retry: 10\n\ndata\n\n"
    'data: {"no": "blank line at the end"}'
).encode()
EVENTS = [
    b"first",
    "second, ünïcödé 🐙".encode(),
    b"third",
    b"of\nseveral lines",
    b'{"no": "blank line at the end"}',
]


def read(pieces: list[bytes], limit: int = 1000) -> list[bytes]:
    stream = EventStream(limit)
    events = [event for piece in pieces for event in stream.feed(piece)]
    return events + stream.finish()


def test_a_stream_in_one_piece_is_read() -> None:
    assert read([STREAM]) == EVENTS


def test_a_stream_cut_anywhere_reads_the_same() -> None:
    for cut in range(len(STREAM) + 1):
        assert read([STREAM[:cut], STREAM[cut:]]) == EVENTS, cut


def test_a_stream_that_comes_byte_by_byte_reads_the_same() -> None:
    assert read([STREAM[i : i + 1] for i in range(len(STREAM))]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_a_stream_in_any_pieces_reads_the_same(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(places)]
    assert read(pieces) == EVENTS


@given(st.lists(st.binary(max_size=12), max_size=30))
def test_no_bytes_upset_it_and_pieces_make_no_difference(pieces: list[bytes]) -> None:
    assert read(pieces) == read([b"".join(pieces)])


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_what_was_written_is_read(texts: list[str], line_end: str) -> None:
    stream = "".join(f"data: {text}{line_end}{line_end}" for text in texts).encode()
    assert read([stream], limit=100_000) == [text.encode() for text in texts]


def test_an_event_is_told_as_soon_as_it_is_complete() -> None:
    stream = EventStream()
    assert stream.feed(b"data: a\r\n\r") == [b"a"]
    assert stream.feed(b"\ndata: b\n\n") == [b"b"]
    assert stream.feed(b"data: c\n\n") == [b"c"]


def test_an_event_without_an_end_is_refused_past_the_limit() -> None:
    stream = EventStream(limit=10)
    stream.feed(b"data: 1234")
    with pytest.raises(EventTooLong):
        stream.feed(b"5")


def test_an_event_of_many_lines_is_refused_past_the_limit() -> None:
    stream = EventStream(limit=10)
    stream.feed(b"data: 1234\ndata: 5678\n")
    with pytest.raises(EventTooLong):
        stream.feed(b"data: 9\n")


def test_a_long_stream_of_short_events_is_not_refused() -> None:
    assert len(read([b"data: 12345678\n\n"] * 100, limit=20)) == 100

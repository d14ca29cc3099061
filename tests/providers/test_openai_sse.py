"""The event stream is understood however it is cut, spelled and ended."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensoul.adapters.providers.http.sse import (
    DONE,
    ErrorEvent,
    EventStream,
    EventTooLong,
    StrayLine,
)

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


UNUSUAL = (
    b"data: a\nevent: error\n\ndata: b\nerror: c\r\n{d}\r\n\r\nevent: error\n\ndata: e\n\n"
    b"{f}\nevent: Stream_Error\rdata: g\r\rdata: [DONE]\n"
)
UNUSUAL_EVENTS = [
    ErrorEvent(b"a"),
    b"b",
    ErrorEvent(b"c"),
    StrayLine(b"{d}"),
    b"e",
    StrayLine(b"{f}"),
    ErrorEvent(b"g"),
    DONE,
]


def test_what_the_standard_does_not_know_reads_the_same_however_it_is_cut() -> None:
    expected = [(type(event), event) for event in UNUSUAL_EVENTS]
    for cut in range(len(UNUSUAL) + 1):
        events = read([UNUSUAL[:cut], UNUSUAL[cut:]])
        assert [(type(event), event) for event in events] == expected, cut
    single = read([UNUSUAL[i : i + 1] for i in range(len(UNUSUAL))])
    assert [(type(event), event) for event in single] == expected


def test_json_objects_and_the_mark_need_no_blank_line_between_them() -> None:
    stream = b'data: {"a": 1}\ndata: {"b": [\ndata: {"c": 2}]}\ndata:{"d": 3}\ndata: [DONE]\n'
    expected = [b'{"a": 1}', b'{"b": [\n{"c": 2}]}', b'{"d": 3}', DONE]
    for cut in range(len(stream) + 1):
        assert read([stream[:cut], stream[cut:]]) == expected, cut


LINE_ENDS = st.sampled_from(["\n", "\n", "\n", "\r\n", "\r"])
PARTS = st.one_of(
    st.builds("data: {0}{1}{1}".format, st.sampled_from(["", " ", "a", "data: ", "ü"]), LINE_ENDS),
    st.builds("data: a{0}data: b{0}{0}".format, LINE_ENDS),
    st.builds("data:a{0}{0}".format, LINE_ENDS),
    st.builds("data{0}{0}".format, LINE_ENDS),
    st.builds(": ping{0}{0}".format, LINE_ENDS),
    st.builds(": ping{0}".format, LINE_ENDS),
    st.builds("id: 7{0}".format, LINE_ENDS),
    st.builds("id: 7{0}data: with an id{0}{0}".format, LINE_ENDS),
    st.builds("data: a{0}id: data: 7{0}{0}".format, LINE_ENDS),
    st.builds("\ufeffdata: marked{0}{0}".format, LINE_ENDS),
    LINE_ENDS,
)
"""Parts of a stream, most of them whole events."""


def by_the_book(stream: str) -> list[bytes]:
    """The events of a stream, read line by line: slow and plain."""
    events, data = [], list[str]()
    for line in [*stream.replace("\r\n", "\n").replace("\r", "\n").split("\n"), ""]:
        name, colon, value = line.removeprefix("\ufeff").partition(":")
        if name == "data" and colon:
            data.append(value.removeprefix(" "))
        elif not line and data:
            events.append("\n".join(data).encode())
            data.clear()
    return events


@given(st.lists(PARTS, max_size=12), st.data())
def test_any_parts_in_any_pieces_are_read_by_the_book(
    parts: list[str], data: st.DataObject
) -> None:
    expected = by_the_book("".join(parts))
    encoded = [part.encode() for part in parts]
    stream = b"".join(encoded)
    assert read([stream]) == expected
    assert read(encoded) == expected  # Pieces that are whole events, for the most part.
    ends = st.integers(0, len(parts))
    groups = [0, *sorted(data.draw(st.lists(ends, max_size=6))), len(parts)]
    assert read([b"".join(encoded[a:b]) for a, b in pairwise(groups)]) == expected
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8))), len(stream)]
    assert read([stream[a:b] for a, b in pairwise(cuts)]) == expected


@pytest.mark.parametrize(
    ("piece", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: \n\ndata: b\n\ndata: \n\n", [b"", b"b", b""]),
        (b"data: a\n\n: ping\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\n\nid: 7\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\nid: 7\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\ndata: b\n\ndata: c\n\n", [b"a\nb", b"c"]),
        (b"data: a\r\n\r\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\n\ndata: b\r\n\r\ndata: c\n\n", [b"a", b"b", b"c"]),
        (b"data: a\r\rdata: b\n\n", [b"a", b"b"]),
        (b"data: a\n\n\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: data: a\n\ndata: b\n\n", [b"data: a", b"b"]),
        (b"data: a\n\ndata:b\n\n", [b"a", b"b"]),
    ],
)
def test_several_events_of_one_piece_are_told_at_once(piece: bytes, events: list[bytes]) -> None:
    stream = EventStream()
    assert stream.feed(piece) == events
    assert stream.feed(b"data: next\n\n") == [b"next"]
    stream.feed(b"data: b")
    assert stream.feed(b"egun\n\n" + piece) == [b"begun", *events]
    assert stream.finish() == []


def test_the_limit_is_one_of_an_event_and_not_of_a_piece() -> None:
    piece = b"data: 12345678\n\n" * 100
    assert len(EventStream(limit=20).feed(piece)) == 100
    with pytest.raises(EventTooLong):
        EventStream(limit=20).feed(piece + b"data: " + b"x" * 20 + b"\n\n")


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

"""Chunks that differ from an earlier one in their text alone are read without being decoded."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensoul.adapters.providers.openai.answer.chunk_template import ChunkTemplate
from tests.fakes.behaviours import chunk

PLAIN = st.text(st.characters(exclude_characters='"\\', exclude_categories=["Cc", "Cs"]))
ANY = st.text(st.characters(exclude_categories=["Cs"]))


def plain(text: str) -> bytes:
    return orjson.dumps(chunk({"content": text}))


def events(*payloads: bytes) -> bytes:
    return b"".join(b"data: " + payload + b"\n\n" for payload in payloads)


def taught(payload: bytes | None = None, text: str = "tok ") -> ChunkTemplate:
    template = ChunkTemplate()
    template.observe(plain(text) if payload is None else payload, text)
    return template


@given(st.lists(PLAIN, min_size=1))
def test_it_reads_texts_without_an_escape(match: list[str]) -> None:
    assert taught().match(events(*map(plain, match))) == (match, b"")


@given(st.lists(ANY, min_size=1))
def test_it_reads_what_decoding_would_read_or_leaves_it(match: list[str]) -> None:
    piece = events(*map(plain, match))
    read, rest = taught().match(piece)
    assert (
        read + [json.loads(e[6:])["choices"][0]["delta"]["content"] for e in _split(rest)] == match
    )


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_it_never_reads_what_is_no_such_chunk(before: bytes, behind: bytes) -> None:
    payload = before + plain("a") + behind
    if (before or behind) and (before or not behind.startswith(b"\n")):  # A line end ends it too.
        assert taught().match(events(payload)) == ([], events(payload))


OTHERS = [
    pytest.param(orjson.dumps(chunk({"content": "a"}, "stop")), id="it ends the answer"),
    pytest.param(orjson.dumps({**chunk({"content": "a"}), "error": {}}), id="an error"),
    pytest.param(orjson.dumps(chunk({"reasoning": "a"})), id="another field"),
    pytest.param(plain('a","refusal":"no'), id="an escaped quotation mark"),
    pytest.param(plain("a").replace(b'"a"', b'"a","refusal":"no"'), id="another field behind"),
    pytest.param(plain("e").replace(b'"e"', b'"\xff"'), id="no UTF-8"),
    pytest.param(b"[DONE]", id="the mark of the end"),
]


@pytest.mark.parametrize("payload", OTHERS)
def test_what_tells_more_is_left_to_others(payload: bytes) -> None:
    assert taught().match(events(payload)) == ([], events(payload))


@pytest.mark.parametrize("payload", OTHERS)
def test_nothing_is_read_behind_what_is_left(payload: bytes) -> None:
    read, rest = taught().match(events(plain("a"), payload, plain("b")))
    assert (read, rest) == ([], events(plain("a"), payload, plain("b")))


def test_what_stands_behind_the_chunks_is_left() -> None:
    last = events(orjson.dumps(chunk({}, "stop")), b"[DONE]")
    assert taught().match(events(plain("a"), plain("b")) + last) == (["a", "b"], last)


def test_a_chunk_that_is_cut_is_left() -> None:
    whole, half = events(plain("a")), events(plain("b"))[:-7]
    assert taught().match(whole + half) == (["a"], half)
    assert taught().match(half) == ([], half)


def test_spaces_of_a_provider_are_learnt_too() -> None:
    spaced = json.dumps(chunk({"content": "tok "})).encode()
    other = json.dumps(chunk({"content": "next"})).encode()
    assert taught(spaced).match(events(other)) == (["next"], b"")


def test_a_text_that_stands_elsewhere_too_teaches_nothing() -> None:
    ambiguous = orjson.dumps({**chunk({"content": "a"}), "model": "a"})
    assert taught(ambiguous, "a").match(events(ambiguous)) == ([], events(ambiguous))


def test_one_event_at_a_time_is_learnt_from_until_enough_were_seen() -> None:
    template = ChunkTemplate()
    many = events(*[b"{}"] * 10)
    for _ in range(8):
        assert template.sample(many) == (events(b"{}"), events(*[b"{}"] * 9))
    assert template.sample(many) == (many, b"")
    template.observe(plain("a"), "a")
    assert template.match(events(plain("a"))) == ([], events(plain("a")))


@pytest.mark.parametrize("nothing", [b"\n\n", b": ping\n\n"])
def test_what_is_no_event_is_not_split_off_for_ever(nothing: bytes) -> None:
    """Each time, all of a piece is looked through: a provider could keep everybody waiting."""
    template, rest, split = ChunkTemplate(), nothing * 1_000, 0
    while rest:
        _, rest = template.sample(rest)
        split += 1
    assert split <= 10


def test_a_field_of_that_name_elsewhere_is_not_taken_for_the_text() -> None:
    elsewhere = b'{"content":"caf\xc3\xa9","choices":[{"delta":{"content":"caf\\u00e9"}}]}'
    assert taught(elsewhere, "caf\u00e9").match(events(elsewhere)) == ([], events(elsewhere))


@pytest.mark.parametrize("control", ["\x00", "\t", "\r", "\n", "\x1f"])
def test_what_is_no_json_is_left_to_be_refused(control: str) -> None:
    broken = events(plain("a").replace(b'"a"', f'"a{control}b"'.encode()))
    assert taught().match(broken) == ([], broken)


def test_one_quotation_mark_does_not_both_begin_and_end_a_text() -> None:
    broken = events(plain("").replace(b'""', b'"'))
    assert taught().match(broken) == ([], broken)


def test_a_few_events_are_read_together_all_the_same() -> None:
    few = events(b"{}", b"{}")
    assert ChunkTemplate().sample(few) == (few, b"")


def _split(piece: bytes) -> list[bytes]:
    return piece.split(b"\n\n")[:-1]

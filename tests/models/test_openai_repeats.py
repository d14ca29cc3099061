"""A chunk that differs from an earlier one in its text alone is read without being decoded."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensoul.adapters.models.openai_repeats import Repeats
from tests.fakes.behaviours import chunk


def plain(text: str) -> bytes:
    return orjson.dumps(chunk({"content": text}))


def taught(payload: bytes | None = None, text: str = "tok ") -> Repeats:
    repeats = Repeats()
    repeats.learn(plain(text) if payload is None else payload, text)
    return repeats


@given(st.text())
def test_it_reads_what_decoding_would_read_or_nothing(text: str) -> None:
    read = taught().text(orjson.dumps(chunk({"content": text}))) if _utf8(text) else None
    assert read in (text, None)


@given(st.text(st.characters(exclude_characters='"\\', exclude_categories=["Cc", "Cs"])))
def test_it_reads_every_text_without_an_escape(text: str) -> None:
    assert taught().text(plain(text)) == text


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_it_never_reads_what_is_no_such_chunk(before: bytes, behind: bytes) -> None:
    payload = before + plain("a") + behind
    if before or behind:
        assert taught().text(payload) is None


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(orjson.dumps(chunk({"content": "a"}, "stop")), id="it ends the answer"),
        pytest.param(orjson.dumps({**chunk({"content": "a"}), "error": {}}), id="an error"),
        pytest.param(orjson.dumps(chunk({"reasoning": "a"})), id="another field"),
        pytest.param(plain('a","refusal":"no'), id="an escaped quotation mark"),
        pytest.param(plain("a").replace(b'"a"', b'"a","refusal":"no"'), id="another field behind"),
        pytest.param(plain("\u00e9")[:-20].replace(b"\xc3", b""), id="no UTF-8, cut"),
        pytest.param(plain("e").replace(b'"e"', b'"\xff"'), id="no UTF-8"),
        pytest.param(plain("")[: len(plain("")) // 2], id="half a chunk"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_tells_more_is_left_to_others(payload: bytes) -> None:
    assert taught().text(payload) is None


def test_spaces_of_a_provider_are_learnt_too() -> None:
    spaced = json.dumps(chunk({"content": "tok "})).encode()
    other = json.dumps(chunk({"content": "next"})).encode()
    assert taught(spaced).text(other) == "next"


def test_a_text_that_stands_elsewhere_too_teaches_nothing() -> None:
    ambiguous = orjson.dumps({**chunk({"content": "a"}), "model": "a"})
    assert taught(ambiguous, "a").text(ambiguous) is None


def test_of_chunks_that_all_differ_only_a_few_are_learnt_from() -> None:
    repeats = Repeats()
    padded = [orjson.dumps({**chunk({"content": "a"}), "obfuscation": "x" * n}) for n in range(9)]
    for payload in padded:
        repeats.learn(payload, "a")
    assert [repeats.text(payload) is not None for payload in padded].count(True) == 1
    assert repeats.text(padded[-1]) is None


def _utf8(text: str) -> bool:
    return text.encode("utf-8", "replace").decode() == text

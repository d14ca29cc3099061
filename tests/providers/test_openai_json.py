"""Half a surrogate pair costs one character and not the answer."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensoul.adapters.providers.http.json import PairJoiner, lenient, loads, repaired, shown
from opensoul.domain.errors import FailureKind
from opensoul.domain.models.calls import ModelEvent, ModelFinished, ToolCallDelta
from tests.fakes.behaviours import chunk

from .answers import DONE, event, read, read_whole, refusal
from .calls import text_of, thought_of

HIGH, LOW, WHOLE = "\ud83d", "\ude00", "😀"


def escaped(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    """A chunk in which each half of a surrogate pair is an escape."""
    return b"data: " + json.dumps(chunk(delta, finish_reason)).encode() + b"\n\n"


STOP = event(chunk({}, "stop"))
CASES = [
    ([HIGH, LOW], WHOLE),
    ([f"a{HIGH}", f"{LOW}b"], f"a{WHOLE}b"),
    ([f"a{HIGH}", "b"], "a\ufffdb"),
    ([f"a{HIGH}b", "c"], "a\ufffdbc"),
    (["a", f"{LOW}b"], "a\ufffdb"),
    ([HIGH, HIGH, LOW], f"\ufffd{WHOLE}"),
    (["a", HIGH], "a\ufffd"),
    ([f"ü{WHOLE}{HIGH}"], f"ü{WHOLE}\ufffd"),
    ([HIGH, "", LOW], WHOLE),
]


@pytest.mark.parametrize(("texts", "expected"), CASES)
def test_halves_that_meet_are_joined_and_others_are_replaced(
    texts: list[str], expected: str
) -> None:
    for end in (STOP + DONE, STOP, DONE):
        said = [escaped({"content": text}) for text in texts]
        assert text_of(read(*said, end)) == expected
        assert text_of(read(b"".join([*said, end]))) == expected
    thoughts = [escaped({"reasoning_content": text}) for text in texts]
    assert thought_of(read(*thoughts, STOP)) == expected


@pytest.mark.parametrize(("texts", "expected"), CASES)
def test_the_arguments_of_a_call_are_repaired_too(texts: list[str], expected: str) -> None:
    first: dict[str, Any] = {"index": 0, "id": "c", "function": {"name": "f"}}
    pieces = [{"index": 0, "function": {"arguments": text}} for text in texts]
    chunks = [escaped({"tool_calls": [piece]}) for piece in [first, *pieces]]
    events = read(*chunks, STOP)
    assert "".join(e.arguments for e in events if isinstance(e, ToolCallDelta)) == expected


def test_each_text_keeps_its_own_half() -> None:
    events = read(
        escaped({"content": HIGH}),
        escaped({"reasoning": f"x{HIGH}"}),
        escaped({"content": f"{LOW}a"}),
        escaped({"reasoning": LOW}),
        STOP,
    )
    assert (text_of(events), thought_of(events)) == (f"{WHOLE}a", f"x{WHOLE}")


def test_a_whole_body_is_repaired() -> None:
    message = {"content": f"a{HIGH}b", "reasoning_content": f"{LOW}"}
    body = {"choices": [{"message": message, "finish_reason": "stop"}]}
    events = read_whole(json.dumps(body).encode())
    assert (text_of(events), thought_of(events)) == ("a\ufffdb", "\ufffd")


def test_an_error_with_half_a_pair_is_the_providers_error() -> None:
    error = json.dumps({"error": {"message": f"wrong {HIGH}", "code": 400, "param": LOW}})
    failure = refusal(f"data: {error}\n\n".encode())
    assert failure.kind is FailureKind.BAD_REQUEST
    assert failure.message.endswith(": wrong \ufffd")
    for text in (failure.message, failure.detail, failure.param or ""):
        text.encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"caf\xc3", "caf\ufffd"),
        (b"\xed\xa0\xbd\xed\xb8\x80", WHOLE),
        (b"\xff b", "\ufffd b"),
    ],
)
def test_bytes_that_are_no_utf8_cost_no_more_than_themselves(text: bytes, expected: str) -> None:
    payload = orjson.dumps(chunk({"content": "?"})).replace(b'"?"', b'"' + text + b'"')
    assert text_of(read(b"data: " + payload + b"\n\n", STOP)) == expected


def test_a_control_character_in_a_string_is_taken_as_it_is() -> None:
    payload = orjson.dumps(chunk({"content": "a b"})).replace(b"a b", b"a\tb\x01")
    assert text_of(read(b"data: " + payload + b"\n\n", STOP)) == "a\tb\x01"


@pytest.mark.parametrize("number", ["NaN", "-Infinity"])
def test_numbers_that_json_does_not_know_do_no_harm(number: str) -> None:
    payload = orjson.dumps(chunk({"content": "a"})).replace(b'"fake"', number.encode())
    assert text_of(read(b"data: " + payload + b"\n\n", STOP)) == "a"


@given(st.lists(st.sampled_from([*"aü😀", HIGH, LOW]), max_size=12), st.data())
def test_a_text_cut_anywhere_reads_as_the_whole(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6))), len(text)]
    deltas = [escaped({"content": text[a:b]}) for a, b in pairwise(cuts)]
    stream = b"".join([*deltas, STOP, DONE])
    places = st.lists(st.integers(0, len(stream)), max_size=6)
    ends = [0, *sorted(data.draw(places)), len(stream)]
    events: list[ModelEvent] = read(*(stream[a:b] for a, b in pairwise(ends)))
    assert text_of(events) == repaired(text)
    assert sum(isinstance(event, ModelFinished) for event in events) == 1
    text_of(events).encode()


@given(st.lists(st.text(st.characters(), max_size=4), max_size=6))
def test_joined_pieces_are_the_repaired_whole(pieces: list[str]) -> None:
    joiner = PairJoiner()
    joined = "".join(joiner.join("key", piece) for piece in pieces)
    assert joined + "".join(end for _, end in joiner.end()) == repaired("".join(pieces))


def test_what_is_no_json_is_none() -> None:
    for payload in (b"", b"x", b"{", b"\xff", b"[" * 100_000, b"{'a': 1}"):
        assert loads(payload) is None
        assert lenient(payload) is None


def test_anything_is_shown() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert shown({"a": HIGH, "ü": 10**30}) == '{"a":"\ufffd","ü":' + str(10**30) + "}"
    assert shown(deep) == ""

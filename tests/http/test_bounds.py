"""How much structure a body may have, and what the error says of more."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensoul.adapters.transports.http.json_text import (
    MAX_HALVES,
    MAX_KEYS,
    MAX_VALUES,
    check_text,
    read_bounded,
)
from opensoul.domain.errors import InvalidRequest

from .app import Harness
from .client import HI, Client

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
PART = {"type": "text", "text": "a"}


def _keys(number: int) -> dict[str, Any]:
    return {f"k{n}": 1 for n in range(number)}


@pytest.mark.parametrize(
    ("fields", "param", "limit"),
    [
        ({"messages": HI * 10_001}, "messages", 10_000),
        ({"messages": [{"role": "user", "content": [PART] * 2_001}]}, "messages[0].content", 2_000),
        (
            {"messages": [{"role": "assistant", "tool_calls": [CALL] * 2_001}]},
            "messages[0].tool_calls",
            2_000,
        ),
        (_keys(MAX_KEYS), None, MAX_KEYS),  # `model` and `messages` are two more.
        ({"messages": [HI[0] | _keys(MAX_KEYS)]}, None, MAX_KEYS),
        ({"metadata": _keys(MAX_KEYS + 1)}, None, MAX_KEYS),
        ({"a": [[[_keys(MAX_KEYS + 1)]]]}, None, MAX_KEYS),
        ({"a": [0] * MAX_VALUES}, None, MAX_VALUES),
        ({"a": [[]] * (MAX_VALUES // 2)}, None, MAX_VALUES),
        ({"a": [{"k": 1}] * (MAX_VALUES // 3)}, None, MAX_VALUES),
    ],
)
async def test_more_than_the_limit_is_refused_and_the_limit_is_told(
    gateway: Harness, client: Client, fields: dict[str, Any], param: str | None, limit: int
) -> None:
    reply = await client.chat(**fields)

    assert (reply.status, reply.error["param"]) == (400, param)
    assert (
        f"limit is {limit}" in reply.error["message"] or f"than {limit} " in reply.error["message"]
    )
    assert len(reply.body) < 400
    assert gateway.model.seen == []


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [*HI, *[{"role": "assistant", "content": "a"}] * 9_999]},
        {"messages": [{"role": "user", "content": [PART] * 2_000}]},
        _keys(MAX_KEYS - 2),
        {"messages": [{"role": "user", "content": json.dumps(_keys(20_000))}]},
        {"messages": [{"role": "user", "content": '",[{:' * 140_000}]},
        {"messages": [{"role": "user", "content": "\\" * 400_001 + '"'}]},
    ],
    ids=["messages", "parts", "keys", "JSON in a text", "brackets in a text", "backslashes"],
)
async def test_what_is_within_the_limits_is_taken(client: Client, fields: dict[str, Any]) -> None:
    assert (await client.chat(**fields)).status == 200


async def test_a_long_name_is_cut_where_it_is_told(client: Client) -> None:
    fields: dict[str, Any] = {"k" * 1_000_000: 1}
    reply = await client.chat(**fields)

    assert (reply.status, reply.headers["x-opensoul-ignored"]) == (200, "k" * 64 + "...")


@pytest.mark.parametrize("field", ["metadata", "logit_bias"])
async def test_a_long_key_is_cut_in_the_path_of_a_wrong_value(client: Client, field: str) -> None:
    fields: dict[str, Any] = {field: {"k" * 1_000_000: []}}
    reply = await client.chat(**fields)

    assert reply.status == 400
    assert reply.error["param"] == f"{field}.{'k' * 128}"


@pytest.mark.parametrize("half", [b"\\ud800", b"\xed\xa0\x80", b"\\ud800\\uD83D"])
def test_many_halves_of_surrogate_pairs_are_refused(half: bytes) -> None:
    few, many = half * (MAX_HALVES // 4), half * (MAX_HALVES + 1)

    assert isinstance(read_bounded(b'{"a":"' + few + b'"}'), dict)
    with pytest.raises(InvalidRequest, match=f"more than {MAX_HALVES} halves"):
        read_bounded(b'{"a":"' + many + b'"}')


def test_a_number_is_the_same_beside_half_a_surrogate_pair() -> None:
    for number in (b"12", b"-9223372036854775808", b"9" * 20, b"9" * 300, b"1e3", b"-0.5"):
        whole = read_bounded(b"[" + number + b"]")
        assert read_bounded(b"[" + number + b',"\\ud800"]') == [*whole, "\ufffd"], number  # type: ignore[misc]
    for number in (b"9" * 4_000, b"1e999", b"-1e999"):
        for text in (b"[" + number + b"]", b"[" + number + b',"\\ud800"]'):
            with pytest.raises(InvalidRequest):
                read_bounded(text)


def _structure(value: object) -> int:
    """Brackets, commas and colons that a value is written with."""
    match value:
        case list():
            return 1 + max(0, len(value) - 1) + sum(map(_structure, value))
        case dict():
            between = len(value) + max(0, len(value) - 1)
            return 1 + between + sum(map(_structure, value.values()))
        case _:
            return 0


TEXTS = st.text(st.sampled_from('\\"[]{},:a\u4e00\n'), max_size=12)
VALUES = st.recursive(
    TEXTS | st.none() | st.integers(-9, 9),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
)


@given(VALUES, st.sampled_from([0, 65_530, 65_535, 131_071]), st.sampled_from(["a", "\\", '"']))
def test_strings_do_not_count_whatever_they_hold(value: object, before: int, filling: str) -> None:
    whole = [filling * (before // len(json.dumps(filling)[1:-1])), value]
    text, counted = orjson.dumps(whole), _structure(whole) + 1

    check_text(text, counted)
    with pytest.raises(InvalidRequest, match=f"more than {counted - 1} "):
        check_text(text, counted - 1)


@pytest.mark.parametrize(
    "text", [b"[" * 300_000, b'{"a":' * 300_000, b"[" * 2_000, b'["\\ud800",' + b"[" * 2_000]
)
def test_deep_nesting_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_bounded(text)

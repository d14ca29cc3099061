"""Token counts are found in every place and spelling, since they are what a turn costs."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from opensoul.domain.models.calls import Usage
from tests.fakes.behaviours import chunk

from .answers import DONE, event, finished, read, read_whole

COUNTS = {"prompt_tokens": 10, "completion_tokens": 5}


def reported(*chunks: dict[str, Any]) -> Usage | None:
    text = event(chunk({"content": "a"}))
    return finished(read(text, *map(event, chunks), event(chunk({}, "stop")), DONE)).usage


@pytest.mark.parametrize(
    "place",
    [
        {**chunk({}), "usage": COUNTS},
        {"choices": [], "usage": COUNTS},
        {"choices": [{"index": 0, "delta": {"content": "b"}, "usage": COUNTS}]},
        {"choices": [{"index": 0, "delta": {"content": "", "usage": COUNTS}}]},
        {"choices": [{"index": 0, "message": {"usage": COUNTS}}]},
        {"choices": [{"index": 7, "delta": {"content": ""}, "usage": COUNTS}]},
        {**chunk({"content": "b"}), "x_groq": {"id": "r", "usage": COUNTS}},
    ],
)
def test_usage_is_found_wherever_it_stands(place: dict[str, Any]) -> None:
    assert reported(place) == Usage(10, 5)
    assert reported({**chunk({}), "x_groq": {"id": "r"}}, place, chunk({})) == Usage(10, 5)


@pytest.mark.parametrize(
    ("report", "usage"),
    [
        ({**COUNTS, "prompt_tokens_details": {"cached_tokens": 4}}, Usage(10, 5, cached=4)),
        ({**COUNTS, "prompt_tokens_details": None}, Usage(10, 5)),
        (
            {**COUNTS, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 6},
            Usage(10, 5, 0, 4),
        ),
        ({**COUNTS, "cached_tokens": 4, "prompt_tokens_details": {}}, Usage(10, 5, cached=4)),
        ({**COUNTS, "reasoning_tokens": 3}, Usage(10, 5, reasoning=3)),
        ({**COUNTS, "completion_tokens_details": {"reasoning_tokens": 3}}, Usage(10, 5, 3)),
        ({"input_tokens": 10, "output_tokens": 5}, Usage(10, 5)),
        (
            {
                "input_tokens": 10,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens": 5,
                "output_tokens_details": {"reasoning_tokens": 3},
            },
            Usage(10, 5, reasoning=3, cached=4),
        ),
        # Anthropic counts the cache beside the input, xAI reasoning beside the answer.
        (
            {
                "input_tokens": 10,
                "output_tokens": 5,
                "cache_read_input_tokens": 90,
                "cache_creation_input_tokens": 7,
            },
            Usage(107, 5, cached=90),
        ),
        (
            {
                **COUNTS,
                "total_tokens": 315,
                "completion_tokens_details": {"reasoning_tokens": 300},
            },
            Usage(10, 305, reasoning=300),
        ),
        ({"prompt_tokens": 10, "total_tokens": 15}, Usage(10, 5)),
        ({"prompt_tokens": 10.0, "completion_tokens": "5"}, Usage(10, 5)),
        ({"prompt_tokens": " 10 ", "completion_tokens": True}, Usage(10, 0)),
        ({"prompt_tokens": 10, "completion_tokens": 10**15}, Usage(10, 0)),
        ({"prompt_tokens": 10, "completion_tokens": -5}, Usage(10, 0)),
    ],
)
def test_each_spelling_is_understood(report: dict[str, Any], usage: Usage) -> None:
    assert reported({**chunk({}), "usage": report}) == usage
    choice = {"message": {"content": "a"}, "finish_reason": "stop"}
    body = orjson.dumps({"choices": [choice], "usage": report})
    assert finished(read_whole(body)).usage == usage


@pytest.mark.parametrize(
    ("reports", "usage"),
    [
        ([{"prompt_tokens": 10}, {"completion_tokens": 5}], Usage(10, 5)),
        (
            [{"prompt_tokens": 10, "completion_tokens": 0}, {"prompt_tokens": 0, **COUNTS}],
            Usage(10, 5),
        ),
        ([COUNTS, {"prompt_tokens": 0, "completion_tokens": 6}], Usage(10, 6)),
        ([COUNTS, {"prompt_tokens": None, "completion_tokens": 6}], Usage(10, 6)),
        ([COUNTS, {"prompt_tokens": 12, "completion_tokens": 6}], Usage(12, 6)),
        (
            [{}, {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, COUNTS],
            Usage(10, 5),
        ),
        ([{"prompt_tokens": 10, "total_tokens": 10}, {"completion_tokens": 5}], Usage(10, 5)),
        ([{**COUNTS, "cached_tokens": 4}, COUNTS], Usage(10, 5, cached=4)),
        ([COUNTS, {}, {"prompt_tokens": {}}], Usage(10, 5)),
    ],
)
def test_reports_of_several_chunks_are_merged(reports: list[dict[str, Any]], usage: Usage) -> None:
    assert reported(*({**chunk({}), "usage": report} for report in reports)) == usage

"""What an answer has to be whose request requires JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from opensoul.domain.runs import AnswerFormat, answer_format

OBJECT = AnswerFormat(is_object=True)
SCHEMA: Mapping[str, object] = {"type": "object"}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, OBJECT),
        ({"type": "json_schema", "json_schema": {"name": "n"}}, AnswerFormat()),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": None, "strict": None}},
            AnswerFormat(),
        ),
        (
            {"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": True}},
            AnswerFormat(schema=SCHEMA, strict=True),
        ),
        ("json_object", None),
    ],
)
def test_the_format_is_in_the_parameters(wanted: Any, expected: AnswerFormat | None) -> None:
    assert answer_format({"response_format": wanted, "temperature": 1}) == expected
    assert answer_format({}) is None


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('{"a": 1}', '{"a": 1}'),
        (' {"a": 1} \n', ' {"a": 1} \n'),
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ('\n```\n{"a": 1}```\n', '{"a": 1}'),
        ('```JSON \r\n{"a": "```"}\r\n```', '{"a": "```"}'),
    ],
)
def test_a_code_fence_is_no_part_of_the_json(text: str, read: str) -> None:
    assert OBJECT.read(text, None) == (read, None)


@pytest.mark.parametrize(
    "text",
    ["", " \n", "```json\n```", "```", "``````", '```{"a": 1}```', "{} {}", "Infinity", "null"],
)
def test_another_text_is_refused(text: str) -> None:
    _, problem = OBJECT.read(text, None)

    assert problem


def test_a_schema_is_a_hint_unless_it_is_strict() -> None:
    def never(value: object) -> str:
        return f"not {value}"

    assert AnswerFormat(schema=SCHEMA).read("1", never) == ("1", None)
    assert AnswerFormat(schema=SCHEMA, strict=True).read("1", never) == ("1", "not 1")

"""Arguments of tool calls are checked against the JSON Schema of the tool."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from opensoul.adapters.tools import SchemaValidator
from opensoul.domain.tools import ToolSpec

CITY: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "array", "items": {"$ref": "#/$defs/day"}},
    },
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"day": {"type": "integer", "minimum": 1}},
}


def problem(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> str | None:
    return SchemaValidator()(ToolSpec("weather", "The weather.", schema), arguments)


@pytest.mark.parametrize(
    ("schema", "arguments", "expected"),
    [
        (CITY, {"city": "Bern", "days": [1, 2]}, None),
        (CITY, {}, "arguments: 'city' is a required property"),
        (CITY, {"city": 5}, "city: 5 is not of type 'string'"),
        (CITY, {"city": "Bern", "days": [1, 0]}, "days[1]: 0 is less than the minimum of 1"),
        (
            CITY,
            {"city": "Bern", "town": ""},
            "arguments: Additional properties are not allowed ('town' was unexpected)",
        ),
        ({}, {"anything": 1}, None),
        ({"type": "object"}, {"anything": 1}, None),
        (
            {"$schema": "http://json-schema.org/draft-04/schema#", "minProperties": 1},
            {},
            "arguments: {} should be non-empty",
        ),
    ],
)
def test_arguments_have_to_fit_the_schema(
    schema: Mapping[str, Any], arguments: Mapping[str, Any], expected: str | None
) -> None:
    assert problem(schema, arguments) == expected


def test_a_large_value_is_not_repeated() -> None:
    said = problem({"properties": {"city": {"type": "integer"}}}, {"city": "x" * 10_000})

    assert said is not None
    assert said.startswith("city: 'xxx")
    assert len(said) < 600


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"type": "objct"}, id="no such type"),
        pytest.param({"$ref": "http://127.0.0.1:9/schema.json"}, id="a schema elsewhere"),
        pytest.param({"$ref": "#"}, id="a circle"),
        pytest.param({"patternProperties": {r"\p{L}": True}}, id="no pattern of Python's"),
    ],
)
def test_a_schema_that_cannot_be_used_refuses_nothing_and_is_logged_once(
    schema: Mapping[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    validate = SchemaValidator()
    tool = ToolSpec("weather", "The weather.", schema)

    with caplog.at_level(logging.WARNING):
        assert validate(tool, {"city": "Bern"}) is None
        assert validate(tool, {"city": "Bern"}) is None

    assert len(caplog.records) == 1


def test_a_tool_with_another_schema_is_checked_against_that_one() -> None:
    validate = SchemaValidator()
    assert validate(ToolSpec("weather", "", CITY), {}) is not None

    assert validate(ToolSpec("weather", "", {"type": "object"}), {}) is None

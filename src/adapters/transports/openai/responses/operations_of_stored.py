"""What the OpenAPI document says of stored responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...routes import SCHEMA_REF, json_content
from . import examples
from .input import INPUT_ITEM
from .operations import RESPONSE, STREAM

_STRING, _BOOLEAN = {"type": "string"}, {"type": "boolean"}
_REF = {"$ref": SCHEMA_REF.format(model="Response")}
_RESPONSE = {**_REF, "$defs": {"Response": RESPONSE}}
PAGE_PARAMETERS: list[dict[str, Any]] = [
    {"name": name, "in": "query", "description": text, "schema": schema}
    for name, text, schema in (
        ("limit", "", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
        ("order", "`desc`: the newest first.", {"enum": ["asc", "desc"], "default": "desc"}),
        ("after", "The id of an item: those behind it are listed.", _STRING),
    )
]
"""The query of a list of items."""
PAGE: Mapping[str, Any] = {
    "type": "object",
    "required": ["object", "data", "first_id", "last_id", "has_more"],
    "properties": {
        "object": {"const": "list"},
        "data": {"type": "array", "items": {"type": "object", "required": ["id", "type"]}},
        "first_id": {"type": ["string", "null"]},
        "last_id": {"type": ["string", "null"]},
        "has_more": _BOOLEAN,
    },
}
"""A list of items as JSON Schema."""
ITEM: Mapping[str, Any] = {
    "id": "msg_01a2223266d87569ba86d07daf828004_in0",
    "type": "message",
    "status": "completed",
    "role": "user",
    "content": [{"type": "input_text", "text": "Hello!"}],
}
PAGE_EXAMPLE: Mapping[str, Any] = {
    "object": "list",
    "data": [ITEM],
    "first_id": ITEM["id"],
    "last_id": ITEM["id"],
    "has_more": False,
}
_DELETED = {
    "type": "object",
    "required": ["id", "object", "deleted"],
    "properties": {"id": _STRING, "object": {"const": "response"}, "deleted": {"const": True}},
}


def get() -> Mapping[str, Any]:
    """`GET /v1/responses/{response_id}`."""
    after = "The number of an event: the events behind it are sent."
    whole = json_content(_RESPONSE, **examples.ANSWERS)
    streamed = {"schema": STREAM, "examples": {"stream": {"value": examples.STREAM}}}
    return {
        "parameters": [
            {"name": "stream", "in": "query", "schema": {**_BOOLEAN, "default": False}},
            {
                "name": "starting_after",
                "in": "query",
                "description": after,
                "schema": {"type": "integer", "minimum": 0},
            },
        ],
        **_answer(
            "The response as it stands; with `stream`, its events, as server-sent events.",
            {**whole, "text/event-stream": streamed},
        ),
    }


def delete() -> Mapping[str, Any]:
    """`DELETE /v1/responses/{response_id}`."""
    example = {"id": "resp_01a2223266d87569ba86d07daf828004", "object": "response", "deleted": True}
    return _answer("It is deleted.", json_content(_DELETED, deleted=example))


def cancel() -> Mapping[str, Any]:
    """`POST /v1/responses/{response_id}/cancel`."""
    return _answer("The response as it stands.", json_content(_RESPONSE, **examples.ANSWERS))


def input_items() -> Mapping[str, Any]:
    """`GET /v1/responses/{response_id}/input_items`."""
    return {
        "parameters": PAGE_PARAMETERS,
        **_answer("The items.", json_content(PAGE, page=PAGE_EXAMPLE)),
    }


def compact() -> Mapping[str, Any]:
    """`POST /v1/responses/compact`."""
    nullable = {"type": ["string", "null"]}
    body = {
        "type": "object",
        "properties": {
            "model": nullable,
            "input": {"oneOf": [_STRING, {"type": "array", "minItems": 1, "items": INPUT_ITEM}]},
            "instructions": nullable,
            "previous_response_id": nullable,
        },
    }
    answered = {
        "type": "object",
        "required": ["id", "object", "created_at", "output", "usage"],
        "properties": {
            "id": _STRING,
            "object": {"const": "response.compaction"},
            "created_at": {"type": "integer"},
            "output": {"type": "array", "items": {"type": "object", "required": ["id", "type"]}},
            "usage": {"type": "object"},
        },
    }
    key = "01a2223266d87569ba86d07daf828004"
    summary = {"id": f"cmp_{key}", "type": "compaction", "encrypted_content": "opensoul-1:SGVsbG8="}
    example = {
        "id": f"resp_{key}",
        "object": "response.compaction",
        "created_at": 1_750_000_000,
        "output": [ITEM, summary],
        "usage": {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11},
    }
    asked = {"model": "opensoul", "previous_response_id": f"resp_{key}"}
    return {
        "requestBody": {"required": True, "content": json_content(body, compacted=asked)},
        **_answer("The compacted conversation.", json_content(answered, compacted=example)),
    }


def _answer(description: str, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"responses": {"200": {"description": description, "content": content}}}

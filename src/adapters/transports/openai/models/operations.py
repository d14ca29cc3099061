"""What the OpenAPI document says of the responses, with examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...routes import ANTHROPIC_ERROR, SCHEMA_REF, json_content, object_schema
from .anthropic import PARAMETERS

_STRING, _INTEGER, _BOOLEAN = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
_STRINGS = {"type": "array", "items": _STRING}
_OWN = object_schema(
    {"agent": _STRING, "name": _STRING, "scripted": _BOOLEAN, "embeddings": _BOOLEAN}
)
_MODEL = object_schema(
    {
        "description": _STRING,
        "context_length": {**_INTEGER, "description": "Tokens, those of the answer included."},
        "architecture": object_schema({}, input_modalities=_STRINGS, output_modalities=_STRINGS),
        "supported_parameters": _STRINGS,
    },
    id=_STRING,
    object={"const": "model"},
    created=_INTEGER,
    owned_by=_STRING,
    name=_STRING,
    opensoul=_OWN,
)
_INFO = object_schema(
    {},
    type={"const": "model"},
    id=_STRING,
    display_name=_STRING,
    created_at={**_STRING, "format": "date-time"},
)
_ID_OR_NULL = {"type": ["string", "null"]}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": SCHEMA_REF.format(model=name)}


_MODELS = {
    "anyOf": [
        object_schema({}, object={"const": "list"}, data={"type": "array", "items": _ref("Model")}),
        object_schema(
            {},
            data={"type": "array", "items": _ref("AnthropicModel")},
            has_more=_BOOLEAN,
            first_id=_ID_OR_NULL,
            last_id=_ID_OR_NULL,
        ),
    ],
    "$defs": {"Model": _MODEL, "AnthropicModel": _INFO},
}
_AGENT = {
    "id": "opensoul/main",
    "object": "model",
    "created": 1_750_000_000,
    "owned_by": "opensoul",
    "name": "Main",
    "context_length": 200_000,
    "architecture": {
        "input_modalities": ["text", "image", "file"],
        "output_modalities": ["text"],
    },
    "supported_parameters": ["max_tokens", "temperature", "tools"],
    "opensoul": {"agent": "main", "name": "Main"},
}
_AGENT_INFO = {
    "type": "model",
    "id": "opensoul/main",
    "display_name": "Main",
    "created_at": "2025-06-15T15:06:40Z",
}
_VERSION = {
    "name": "anthropic-version",
    "in": "header",
    "description": "The answer is in the format of Anthropic's API.",
    "schema": _STRING,
}


_FAILURES = {
    str(status): {
        "description": "The request was refused. With the header `anthropic-version`, the error "
        "is in the format of Anthropic's API.",
        "content": json_content(ANTHROPIC_ERROR),
    }
    for status in (400, 401, 403, 404, 429, 500, 503)
}
_IGNORED = {
    "x-opensoul-ignored": {
        "description": "The parameters of the query, which have no effect without the header "
        "`anthropic-version`.",
        "schema": _STRING,
    }
}


def models() -> Mapping[str, Any]:
    """`GET /v1/models`."""
    pages = {"data": [_AGENT_INFO], "has_more": False}
    ends = {"first_id": "opensoul/main", "last_id": "opensoul/main"}
    return _found(
        "The agents, and the embedding models while embeddings are served.",
        _MODELS,
        PARAMETERS,
        _IGNORED,
        openai={"object": "list", "data": [_AGENT]},
        anthropic={**pages, **ends},
    )


def model() -> Mapping[str, Any]:
    """`GET /v1/models/{model_id}`."""
    either = {"anyOf": [_ref("Model"), _ref("AnthropicModel")]}
    return _found("The model.", either, (), {}, openai=_AGENT, anthropic=_AGENT_INFO)


def _found(
    description: str,
    schema: Mapping[str, Any],
    parameters: Any,
    headers: Mapping[str, Any],
    **examples: object,
) -> Mapping[str, Any]:
    content = json_content(schema, **examples)
    return {
        "parameters": [_VERSION, *parameters],
        "responses": {
            "200": {
                "description": description,
                **({"headers": headers} if headers else {}),
                "content": content,
            },
            **_FAILURES,
        },
    }

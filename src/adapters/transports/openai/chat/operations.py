"""The requests and responses in docs/openapi.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...routes import SCHEMA_REF, json_content
from ..common import (
    APPROVAL_HEADER,
    BINDING_HEADERS,
    CHOICE_SCHEMA,
    MESSAGES_SCHEMA,
    TOOLS_SCHEMA,
)
from .extras import EXTRA_HEADERS
from .request import Fields

_STRING, _INTEGER, _NULL = {"type": "string"}, {"type": "integer"}, {"type": "null"}


def _object(optional: Mapping[str, Any], **required: Any) -> dict[str, Any]:
    needed = {"required": list(required)} if required else {}
    return {"type": "object", **needed, "properties": {**required, **optional}}


_USAGE = _object(
    {
        "prompt_tokens_details": _object({"cached_tokens": _INTEGER}),
        "completion_tokens_details": _object({"reasoning_tokens": _INTEGER}),
        "estimated": {"type": "boolean"},
    },
    prompt_tokens=_INTEGER,
    completion_tokens=_INTEGER,
    total_tokens=_INTEGER,
)
_FUNCTION = _object({}, name=_STRING, arguments=_STRING)
_CALL = _object({}, id=_STRING, type={"const": "function"}, function=_FUNCTION)
_MESSAGE = _object(
    {
        "reasoning_content": _STRING,
        "tool_calls": {"type": "array", "items": _CALL},
        "function_call": _FUNCTION,
    },
    role={"const": "assistant"},
    content={"type": ["string", "null"]},
    refusal=_NULL,
)
_CHOICE = _object({}, index={"const": 0}, message=_MESSAGE, logprobs=_NULL, finish_reason=_STRING)
_COMPLETION = _object(
    {},
    id=_STRING,
    object={"const": "chat.completion"},
    created=_INTEGER,
    model=_STRING,
    choices={"type": "array", "items": _CHOICE},
    usage=_USAGE,
)
_MODEL = _object(
    {"description": _STRING},
    id=_STRING,
    object={"const": "model"},
    created=_INTEGER,
    owned_by=_STRING,
    opensoul=_object({"scripted": {"type": "boolean"}}, agent=_STRING, name=_STRING),
)
_MODEL_REF = {"$ref": SCHEMA_REF.format(model="Model")}
_MODELS = {
    **_object({}, object={"const": "list"}, data={"type": "array", "items": _MODEL_REF}),
    "$defs": {"Model": _MODEL},
}


_FUNCTIONS = TOOLS_SCHEMA["items"]["properties"]["function"]
_TOOLS = {
    "tools": TOOLS_SCHEMA,
    "tool_choice": CHOICE_SCHEMA,
    "functions": {"type": ["array", "null"], "items": _FUNCTIONS, "deprecated": True},
    "function_call": {
        "oneOf": [{"enum": ["auto", "none", None]}, {"type": "object", "required": ["name"]}],
        "deprecated": True,
    },
}


def create() -> Mapping[str, Any]:
    """`POST /v1/chat/completions`."""
    fields = Fields.model_json_schema(ref_template=SCHEMA_REF)
    request = {
        **_object({**fields["properties"], **_TOOLS}, messages=MESSAGES_SCHEMA),
        "$defs": fields["$defs"],
    }
    stream = {"text/event-stream": {"schema": _STRING}}
    return {
        "parameters": [*BINDING_HEADERS, APPROVAL_HEADER, *EXTRA_HEADERS],
        "requestBody": {"required": True, "content": json_content(request)},
        "responses": {
            "200": {
                "description": "The answer; with `stream`, as server-sent events.",
                "content": {**json_content(_COMPLETION), **stream},
            }
        },
    }


def models() -> Mapping[str, Any]:
    """`GET /v1/models`."""
    return _found("The agents.", _MODELS)


def model() -> Mapping[str, Any]:
    """`GET /v1/models/{model_id}`."""
    return _found("The agent.", _MODEL_REF)


def _found(description: str, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"responses": {"200": {"description": description, "content": json_content(schema)}}}

"""What docs/openapi.json says of requests and answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...routes import SCHEMA_REF, json_content
from ..common import BINDING_HEADERS, MESSAGES_SCHEMA
from .request import Fields

_USAGE = {
    "type": "object",
    "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
    "properties": {
        "prompt_tokens": {"type": "integer"},
        "completion_tokens": {"type": "integer"},
        "total_tokens": {"type": "integer"},
        "prompt_tokens_details": {
            "type": "object",
            "properties": {"cached_tokens": {"type": "integer"}},
        },
        "completion_tokens_details": {
            "type": "object",
            "properties": {"reasoning_tokens": {"type": "integer"}},
        },
        "estimated": {"type": "boolean"},
    },
}
_MESSAGE = {
    "type": "object",
    "required": ["role", "content", "refusal"],
    "properties": {
        "role": {"const": "assistant"},
        "content": {"type": "string"},
        "reasoning_content": {"type": "string"},
        "refusal": {"type": "null"},
    },
}
_CHOICE = {
    "type": "object",
    "required": ["index", "message", "logprobs", "finish_reason"],
    "properties": {
        "index": {"const": 0},
        "message": _MESSAGE,
        "logprobs": {"type": "null"},
        "finish_reason": {"type": "string"},
    },
}
_COMPLETION = {
    "type": "object",
    "required": ["id", "object", "created", "model", "choices", "usage"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "chat.completion"},
        "created": {"type": "integer"},
        "model": {"type": "string"},
        "choices": {"type": "array", "items": _CHOICE},
        "usage": _USAGE,
    },
}
_MODEL = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by", "opensoul"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": {"type": "string"},
        "description": {"type": "string"},
        "opensoul": {
            "type": "object",
            "required": ["agent", "name"],
            "properties": {
                "agent": {"type": "string"},
                "name": {"type": "string"},
                "scripted": {"type": "boolean"},
            },
        },
    },
}
_MODELS = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {
        "object": {"const": "list"},
        "data": {"type": "array", "items": {"$ref": SCHEMA_REF.format(model="Model")}},
    },
    "$defs": {"Model": _MODEL},
}


def create() -> Mapping[str, Any]:
    """`POST /v1/chat/completions`."""
    fields = Fields.model_json_schema(ref_template=SCHEMA_REF)
    request = {
        "type": "object",
        "required": ["messages"],
        "properties": {"messages": MESSAGES_SCHEMA, **fields["properties"]},
        "$defs": fields["$defs"],
    }
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    return {
        "parameters": BINDING_HEADERS,
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
    return _found("The agent.", {"$ref": SCHEMA_REF.format(model="Model")})


def _found(description: str, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"responses": {"200": {"description": description, "content": json_content(schema)}}}

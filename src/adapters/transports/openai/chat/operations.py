"""What the OpenAPI document says of the requests and responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...answering import ANSWER_HEADERS, APPROVAL_HEADER, BINDING_HEADERS, RESUME_HEADERS
from ...routes import SCHEMA_REF, json_content
from ...routes import object_schema as _object
from ..common import (
    CHOICE_SCHEMA,
    EXTRA_HEADERS,
    MESSAGES_SCHEMA,
    TOOLS_SCHEMA,
    USAGE_SCHEMA,
)
from . import examples
from .request import Fields

_STRING, _INTEGER, _NULL = {"type": "string"}, {"type": "integer"}, {"type": "null"}
_FUNCTION = _object({}, name=_STRING, arguments=_STRING)
_CALL = _object({}, id=_STRING, type={"const": "function"}, function=_FUNCTION)
_FINISH_REASONS = ["stop", "length", "tool_calls", "content_filter", "function_call"]
_MESSAGE = _object(
    {
        "reasoning_content": _STRING,
        "tool_calls": {"type": "array", "items": _CALL},
        "function_call": _FUNCTION,
    },
    role={"const": "assistant"},
    content={"type": ["string", "null"]},
    refusal={"type": ["string", "null"]},
)
_CHOICE = _object(
    {},
    index={"const": 0},
    message=_MESSAGE,
    logprobs=_NULL,
    finish_reason={"enum": _FINISH_REASONS},
)
_COMPLETION = _object(
    {},
    id=_STRING,
    object={"const": "chat.completion"},
    created=_INTEGER,
    model=_STRING,
    choices={"type": "array", "items": _CHOICE},
    usage=USAGE_SCHEMA,
)
_DELTA = _object(
    {
        "role": {"const": "assistant"},
        "content": _STRING,
        "refusal": _STRING,
        "reasoning_content": _STRING,
        "tool_calls": {
            "type": "array",
            "items": _object(
                {
                    "id": _STRING,
                    "type": {"const": "function"},
                    "function": _object({"name": _STRING, "arguments": _STRING}),
                },
                index=_INTEGER,
            ),
        },
        "function_call": _object({"name": _STRING, "arguments": _STRING}),
    }
)
_TOOL = _object(
    {"arguments": _STRING, "output": _STRING, "result": _STRING},
    id=_STRING,
    name=_STRING,
    status={"enum": ["started", "progress", "finished", "failed"]},
)
_CHUNK = _object(
    {"usage": {"anyOf": [USAGE_SCHEMA, _NULL]}, "tool": _TOOL},
    id=_STRING,
    object={"const": "chat.completion.chunk"},
    created=_INTEGER,
    model=_STRING,
    choices={
        "type": "array",
        "items": _object(
            {}, index={"const": 0}, delta=_DELTA, finish_reason={"enum": [*_FINISH_REASONS, None]}
        ),
    },
)
_EVENTS = [{"$ref": SCHEMA_REF.format(model=name)} for name in ("ChatCompletionChunk", "Error")]
_JSON = {**_STRING, "contentMediaType": "application/json", "contentSchema": {"anyOf": _EVENTS}}
_STREAM = {
    **_object({"event": _STRING, "id": _STRING}, data={"anyOf": [{"const": "[DONE]"}, _JSON]}),
    "description": "One of the server-sent events. The data of the last is `[DONE]`; a failure is "
    "an event with an Error, and nothing follows it. Comments keep the connection open. Events "
    "named `opensoul.tool`, with `tool` in their chunk, are sent where a request asks for them.",
    "$defs": {"ChatCompletionChunk": _CHUNK},
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
    answer = {"$ref": SCHEMA_REF.format(model="ChatCompletion")}
    whole = json_content({**answer, "$defs": {"ChatCompletion": _COMPLETION}}, **examples.ANSWERS)
    streamed = {"schema": _STREAM, "examples": {"stream": {"value": examples.STREAM}}}
    return {
        "parameters": [*BINDING_HEADERS, APPROVAL_HEADER, *RESUME_HEADERS, *EXTRA_HEADERS],
        "requestBody": {"required": True, "content": json_content(request, **examples.REQUESTS)},
        "responses": {
            "200": {
                "description": "The answer; with `stream`, as server-sent events.",
                "headers": ANSWER_HEADERS,
                "content": {**whole, "text/event-stream": streamed},
            }
        },
    }

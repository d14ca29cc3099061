"""What the OpenAPI document says of requests and responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...answering import APPROVAL_HEADER, BINDING_HEADERS, RESUME_HEADERS
from ...routes import SCHEMA_REF, json_content
from ..common import EXTRA_HEADERS
from . import examples
from .input import INPUT_SCHEMA
from .request import INCLUDABLE, Fields
from .tools import CHOICE_SCHEMA, TOOLS_SCHEMA

_STRING, _INTEGER, _OBJECT = {"type": "string"}, {"type": "integer"}, {"type": "object"}
_NULLABLE_STRING, _NULLABLE_INTEGER = {"type": ["string", "null"]}, {"type": ["integer", "null"]}
_LIST = {"type": "array"}
STATUSES = ["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


def _object(optional: Mapping[str, Any], **required: Any) -> dict[str, Any]:
    needed = {"required": list(required)} if required else {}
    return {"type": "object", **needed, "properties": {**required, **optional}}


def _list(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_USAGE = _object(
    {"estimated": {"type": "boolean"}},
    input_tokens=_INTEGER,
    input_tokens_details=_object({}, cached_tokens=_INTEGER, cache_write_tokens=_INTEGER),
    output_tokens=_INTEGER,
    output_tokens_details=_object({}, reasoning_tokens=_INTEGER),
    total_tokens=_INTEGER,
)
_STATUS = {"enum": ["in_progress", "completed", "incomplete"]}
_MESSAGE = _object(
    {},
    id=_STRING,
    type={"const": "message"},
    status=_STATUS,
    role={"const": "assistant"},
    content=_list(
        _object({}, type={"const": "output_text"}, text=_STRING, annotations=_LIST, logprobs=_LIST)
    ),
)
_REASONING = _object(
    {},
    id=_STRING,
    type={"const": "reasoning"},
    status=_STATUS,
    summary=_list(_object({}, type={"const": "summary_text"}, text=_STRING)),
)
_CALL = _object(
    {},
    id=_STRING,
    type={"const": "function_call"},
    status=_STATUS,
    call_id=_STRING,
    name=_STRING,
    arguments=_STRING,
)
_ITEM = {"anyOf": [_MESSAGE, _REASONING, _CALL]}
_ERROR = _object({}, code=_STRING, message=_STRING, param=_NULLABLE_STRING, type=_NULLABLE_STRING)
_NULL = {"type": "null"}
RESPONSE: Mapping[str, Any] = _object(
    {},
    id=_STRING,
    object={"const": "response"},
    created_at=_INTEGER,
    status={"enum": STATUSES},
    completed_at=_NULLABLE_INTEGER,
    error={"anyOf": [_ERROR, _NULL]},
    incomplete_details={"anyOf": [_object({}, reason=_STRING), _NULL]},
    background={"type": "boolean"},
    frequency_penalty={"type": "number"},
    instructions=_NULLABLE_STRING,
    max_output_tokens=_NULLABLE_INTEGER,
    max_tool_calls=_NULLABLE_INTEGER,
    metadata=_OBJECT,
    model=_STRING,
    output=_list(_ITEM),
    parallel_tool_calls={"type": "boolean"},
    presence_penalty={"type": "number"},
    previous_response_id=_NULLABLE_STRING,
    prompt_cache_key=_NULLABLE_STRING,
    prompt_cache_retention=_NULLABLE_STRING,
    reasoning=_object({}, effort=_NULLABLE_STRING, summary=_NULLABLE_STRING),
    safety_identifier=_NULLABLE_STRING,
    service_tier=_STRING,
    store={"type": "boolean"},
    temperature={"type": "number"},
    text=_object({}, format=_OBJECT, verbosity=_STRING),
    tool_choice={"anyOf": [_STRING, _OBJECT]},
    tools=_list(_OBJECT),
    top_logprobs=_INTEGER,
    top_p={"type": "number"},
    truncation={"enum": ["auto", "disabled"]},
    usage={"anyOf": [_USAGE, _NULL]},
    user=_NULLABLE_STRING,
)
"""The response object as JSON Schema."""
EVENTS = (
    *("response.created", "response.in_progress", "response.output_item.added"),
    *("response.content_part.added", "response.output_text.delta", "response.output_text.done"),
    *("response.content_part.done", "response.output_item.done"),
    *("response.reasoning_summary_part.added", "response.reasoning_summary_text.delta"),
    *("response.reasoning_summary_text.done", "response.reasoning_summary_part.done"),
    *("response.function_call_arguments.delta", "response.function_call_arguments.done"),
    *("response.completed", "response.incomplete", "response.failed", "opensoul.tool"),
)
"""The types of events in a stream."""
_REF = {"$ref": SCHEMA_REF.format(model="Response")}
_EVENT = _object(
    {
        "response": _REF,
        "item": _OBJECT,
        "item_id": _STRING,
        "output_index": _INTEGER,
        "content_index": _INTEGER,
        "summary_index": _INTEGER,
        "part": _OBJECT,
        "delta": _STRING,
        "text": _STRING,
        "arguments": _STRING,
        "name": _STRING,
        "logprobs": _LIST,
        "tool": _OBJECT,
    },
    type={"enum": list(EVENTS)},
    sequence_number=_INTEGER,
)
_JSON = {
    **_STRING,
    "contentMediaType": "application/json",
    "contentSchema": {"$ref": SCHEMA_REF.format(model="ResponseStreamEvent")},
}
STREAM: Mapping[str, Any] = {
    **_object({"event": _STRING}, data={"anyOf": [{"const": "[DONE]"}, _JSON]}),
    "description": "One of the server-sent events; its name is the type in its data. The events "
    "are numbered from 0. The data of the last one is `[DONE]`; before it comes one of "
    "`response.completed`, `response.incomplete` and `response.failed`. Comments keep the "
    "connection open. Events named `opensoul.tool` are sent where a request asks for them.",
    "$defs": {"ResponseStreamEvent": _EVENT},
}
_HEADERS = {
    name: {"description": text, "schema": _STRING}
    for name, text in (
        ("x-opensoul-agent-id", "The agent that answers."),
        ("x-opensoul-session-key", "The session of the conversation."),
        ("x-opensoul-session-bound-by", "The part of the request that the session was found by."),
        ("x-opensoul-side-task", "The kind of a side task, such as `title`."),
        ("x-opensoul-run-id", "The run."),
        ("x-opensoul-ignored", "Fields and headers of the request that have no effect."),
    )
}


def _request_body() -> Mapping[str, Any]:
    fields = Fields.model_json_schema(ref_template=SCHEMA_REF)
    include = {"type": ["array", "null"], "items": {"enum": INCLUDABLE}}
    tools = {"tools": TOOLS_SCHEMA, "tool_choice": CHOICE_SCHEMA, "include": include}
    request = {
        **_object({**fields["properties"], **tools}, input=INPUT_SCHEMA),
        "$defs": fields["$defs"],
    }
    return {"required": True, "content": json_content(request, **examples.REQUESTS)}


def count() -> Mapping[str, Any]:
    """`POST /v1/responses/input_tokens`."""
    counted = {"object": {"const": "response.input_tokens"}, "input_tokens": {"type": "integer"}}
    schema = {"type": "object", "required": list(counted), "properties": counted}
    example = {"object": "response.input_tokens", "input_tokens": 14}
    return {
        "parameters": BINDING_HEADERS,
        "requestBody": _request_body(),
        "responses": {
            "200": {"description": "An estimate.", "content": json_content(schema, tokens=example)}
        },
    }


def create() -> Mapping[str, Any]:
    """`POST /v1/responses`."""
    whole = json_content({**_REF, "$defs": {"Response": RESPONSE}}, **examples.ANSWERS)
    streamed = {"schema": STREAM, "examples": {"stream": {"value": examples.STREAM}}}
    return {
        "parameters": [*BINDING_HEADERS, APPROVAL_HEADER, *RESUME_HEADERS, *EXTRA_HEADERS],
        "requestBody": _request_body(),
        "responses": {
            "200": {
                "description": "The answer; with `stream`, as server-sent events.",
                "headers": _HEADERS,
                "content": {**whole, "text/event-stream": streamed},
            }
        },
    }

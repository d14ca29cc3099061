"""What the OpenAPI document says of the requests and responses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..answering import APPROVAL_HEADER, BINDING_HEADERS, RESUME_HEADERS
from ..http.errors import ANTHROPIC_OVERLOADED
from ..openai.common import EXTRA_HEADERS
from ..routes import ANTHROPIC_ERROR, SCHEMA_REF, json_content
from . import examples
from .messages import MESSAGES_SCHEMA, SYSTEM_SCHEMA
from .request import MessageFields
from .tools import CHOICE_SCHEMA, TOOLS_SCHEMA

FAILURES = (404, 409, 410, 501, 502, 504)

_STRING, _INTEGER, _NULL = {"type": "string"}, {"type": "integer"}, {"type": "null"}


def _object(optional: Mapping[str, Any], **required: Any) -> dict[str, Any]:
    needed = {"required": list(required)} if required else {}
    return {"type": "object", **needed, "properties": {**required, **optional}}


_USAGE = _object(
    {"estimated": {"type": "boolean"}},
    input_tokens=_INTEGER,
    output_tokens=_INTEGER,
    output_tokens_details=_object({}, thinking_tokens=_INTEGER),
    cache_creation_input_tokens=_INTEGER,
    cache_read_input_tokens=_INTEGER,
)
_BLOCKS = {
    "anyOf": [
        _object({}, type={"const": "text"}, text=_STRING),
        _object({}, type={"const": "thinking"}, thinking=_STRING, signature=_STRING),
        _object({}, type={"const": "tool_use"}, id=_STRING, name=_STRING, input={"type": "object"}),
    ]
}
_MESSAGE = _object(
    {},
    id=_STRING,
    type={"const": "message"},
    role={"const": "assistant"},
    model=_STRING,
    content={"type": "array", "items": _BLOCKS},
    stop_reason={"enum": ["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]},
    stop_sequence={"type": ["string", "null"]},
    usage=_USAGE,
)
_EVENT = _object({}, type=_STRING)
_DATA = {**_STRING, "contentMediaType": "application/json", "contentSchema": _EVENT}
_STREAM = {
    **_object({"id": _STRING}, event=_STRING, data=_DATA),
    "description": "One of the server-sent events: `message_start`, `ping`, then for each content "
    "block `content_block_start`, `content_block_delta` and `content_block_stop`, and at the end "
    "`message_delta` and `message_stop`. A failure is an event `error`, whose data is a "
    "MessagesError, and nothing follows it. Comments keep the connection open. Events "
    "named `opensoul.tool` are sent where a request asks for them.",
}
_HEADERS = {
    name: {"description": text, "schema": _STRING}
    for name, text in (
        ("request-id", "The id of the request, as in `x-request-id`."),
        ("x-opensoul-agent-id", "The agent that answers."),
        ("x-opensoul-session-key", "The session of the conversation."),
        ("x-opensoul-session-bound-by", "The part of the request that the session was found by."),
        ("x-opensoul-run-id", "The run."),
        ("x-opensoul-ignored", "Fields and headers of the request that have no effect."),
    )
}
_PARAMETERS = [
    *(
        {
            "name": name,
            "in": "header",
            "description": "Accepted, without an effect.",
            "schema": _STRING,
        }
        for name in ("anthropic-version", "anthropic-beta")
    ),
    *BINDING_HEADERS,
]
_MEANINGS: Mapping[int, str] = {
    400: "invalid_request_error: the request is not valid; `param` names what is wrong.",
    401: "authentication_error: the credential is missing or wrong.",
    403: "permission_error: the credential lacks the scope, or the client may not be here.",
    404: "not_found_error: there is no such agent, or the endpoint is switched off.",
    408: "invalid_request_error: the body was not complete in time.",
    409: "invalid_request_error: the request conflicts with the state that it met.",
    410: "invalid_request_error: what the request refers to is no longer kept.",
    413: "request_too_large: the body is too large.",
    415: "invalid_request_error: the content type or the content encoding is not supported.",
    429: "rate_limit_error: too many requests.",
    500: "api_error: the Gateway failed.",
    501: "api_error: the Gateway does not have this function.",
    502: "api_error: the model's provider failed.",
    503: "overloaded_error: the Gateway is busy, is stopping, or cannot reach its store.",
    504: "timeout_error: the run or the model's provider took too long.",
    ANTHROPIC_OVERLOADED: "overloaded_error: the model's provider is overloaded.",
}
_OF_A_RUN = frozenset({409, 410, 501, 502, 504, ANTHROPIC_OVERLOADED})


def create() -> Mapping[str, Any]:
    """`POST /v1/messages`."""
    answer = {"$ref": SCHEMA_REF.format(model="AnthropicMessage")}
    whole = json_content({**answer, "$defs": {"AnthropicMessage": _MESSAGE}}, **examples.ANSWERS)
    streamed = {"schema": _STREAM, "examples": {"stream": {"value": examples.STREAM}}}
    return {
        "parameters": [*_PARAMETERS, APPROVAL_HEADER, *RESUME_HEADERS, *EXTRA_HEADERS],
        "requestBody": _body(examples.REQUESTS, "max_tokens"),
        "responses": {
            "200": {
                "description": "The answer; with `stream`, as server-sent events.",
                "headers": _HEADERS,
                "content": {**whole, "text/event-stream": streamed},
            },
            **_failures(_MEANINGS),
        },
    }


def count() -> Mapping[str, Any]:
    """`POST /v1/messages/count_tokens`."""
    counted = json_content(_object({}, input_tokens=_INTEGER), tokens={"input_tokens": 14})
    return {
        "parameters": _PARAMETERS,
        "requestBody": _body(examples.COUNTED),
        "responses": {
            "200": {"description": "An estimate.", "content": counted},
            **_failures(_MEANINGS.keys() - _OF_A_RUN),
        },
    }


def _body(requests: Mapping[str, Any], *required: str) -> Mapping[str, Any]:
    fields = MessageFields.model_json_schema(ref_template=SCHEMA_REF)
    properties = {
        **fields["properties"],
        "system": SYSTEM_SCHEMA,
        "messages": MESSAGES_SCHEMA,
        "tools": TOOLS_SCHEMA,
        "tool_choice": CHOICE_SCHEMA,
    }
    schema = {
        "type": "object",
        "required": ["messages", *required],
        "properties": properties,
        "$defs": fields["$defs"],
    }
    return {"required": True, "content": json_content(schema, **requests)}


def _failures(statuses: Iterable[int]) -> dict[str, Any]:
    content = json_content(ANTHROPIC_ERROR, error=examples.ERROR)
    return {
        str(status): {"description": _MEANINGS[status], "content": content}
        for status in sorted(statuses)
    }

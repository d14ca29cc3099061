"""What the OpenAPI document says of the requests and responses, with examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...answering import ANSWER_HEADERS, APPROVAL_HEADER, BINDING_HEADERS, RESUME_HEADERS
from ...routes import SCHEMA_REF, json_content, object_schema
from ..common import USAGE_SCHEMA
from .request import PROMPT_SCHEMA, Fields

_STRING, _INTEGER, _NULL = {"type": "string"}, {"type": "integer"}, {"type": "null"}
_CHOICE = object_schema(
    {},
    text=_STRING,
    index={"const": 0},
    logprobs=_NULL,
    finish_reason={"enum": ["stop", "length", "content_filter", None]},
)
_HEAD = {
    "id": _STRING,
    "object": {"const": "text_completion"},
    "created": _INTEGER,
    "model": _STRING,
    "choices": {"type": "array", "items": _CHOICE},
}
_COMPLETION = object_schema({}, **_HEAD, usage=USAGE_SCHEMA)
_CHUNK = object_schema({"usage": {"anyOf": [USAGE_SCHEMA, _NULL]}}, **_HEAD)
_EVENTS = [{"$ref": SCHEMA_REF.format(model=name)} for name in ("TextCompletionChunk", "Error")]
_JSON = {**_STRING, "contentMediaType": "application/json", "contentSchema": {"anyOf": _EVENTS}}
_STREAM = {
    **object_schema({"id": _STRING}, data={"anyOf": [{"const": "[DONE]"}, _JSON]}),
    "description": "One of the server-sent events. The data of the last is `[DONE]`; a failure is "
    "an event with an Error, and nothing follows it. Comments keep the connection open.",
    "$defs": {"TextCompletionChunk": _CHUNK},
}

_REQUESTS = {
    "prompt": {"model": "opensoul", "prompt": "Say hello.", "max_tokens": 64},
    "stream": {
        "model": "opensoul",
        "prompt": ["Say hello."],
        "echo": True,
        "stop": ["\n\n"],
        "stream": True,
        "stream_options": {"include_usage": True},
    },
}
_ANSWER = {
    "id": "cmpl-01",
    "object": "text_completion",
    "created": 1_750_000_000,
    "model": "opensoul",
    "choices": [{"text": "Hello!", "index": 0, "logprobs": None, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 12,
        "completion_tokens": 2,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    },
}
_EXAMPLE = """\
data: {"id":"cmpl-01","object":"text_completion","created":1750000000,"model":"opensoul",\
"choices":[{"text":"Hello!","index":0,"logprobs":null,"finish_reason":null}]}

data: {"id":"cmpl-01","object":"text_completion","created":1750000000,"model":"opensoul",\
"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}]}
id: 01:4

data: [DONE]

"""


def create() -> Mapping[str, Any]:
    """`POST /v1/completions`."""
    fields = Fields.model_json_schema(ref_template=SCHEMA_REF)
    request = {
        **object_schema(fields["properties"], prompt=PROMPT_SCHEMA),
        "$defs": fields["$defs"],
    }
    answer = {"$ref": SCHEMA_REF.format(model="TextCompletion")}
    whole = json_content({**answer, "$defs": {"TextCompletion": _COMPLETION}}, text=_ANSWER)
    streamed = {"schema": _STREAM, "examples": {"stream": {"value": _EXAMPLE}}}
    return {
        "parameters": [*BINDING_HEADERS, APPROVAL_HEADER, *RESUME_HEADERS],
        "requestBody": {"required": True, "content": json_content(request, **_REQUESTS)},
        "responses": {
            "200": {
                "description": "The answer; with `stream`, as server-sent events.",
                "headers": ANSWER_HEADERS,
                "content": {**whole, "text/event-stream": streamed},
            }
        },
    }

"""Requests and answers in the OpenAPI document. Every request is one that the endpoint answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_QUESTION = {"role": "user", "content": "What is the weather in Lisbon?"}
_TOOL = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
_CALL = {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Lisbon"}}
_RESULT = {"type": "tool_result", "tool_use_id": "call_1", "content": "21 degrees, sunny"}

REQUESTS: Mapping[str, Any] = {
    "question": {
        "model": "opensoul",
        "max_tokens": 1024,
        "messages": [{"role": "user", "content": "Hello"}],
    },
    "stream": {
        "model": "opensoul",
        "max_tokens": 1024,
        "system": [{"type": "text", "text": "Answer in one sentence."}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
        "stream": True,
    },
    "tools": {
        "model": "opensoul",
        "max_tokens": 1024,
        "messages": [_QUESTION],
        "tools": [_TOOL],
        "tool_choice": {"type": "auto"},
    },
    "tool_results": {
        "model": "opensoul",
        "max_tokens": 1024,
        "messages": [
            _QUESTION,
            {"role": "assistant", "content": [_CALL]},
            {"role": "user", "content": [_RESULT]},
        ],
        "tools": [_TOOL],
    },
    "same_session": {
        "model": "opensoul",
        "max_tokens": 1024,
        "messages": [{"role": "user", "content": "And tomorrow?"}],
        "metadata": {"user_id": "alice"},
    },
}
COUNTED: Mapping[str, Any] = {
    "question": {"model": "opensoul", "messages": [{"role": "user", "content": "Hello"}]}
}
_USAGE = {
    "input_tokens": 12,
    "output_tokens": 9,
    "output_tokens_details": {"thinking_tokens": 0},
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
}


def _message(content: Mapping[str, Any], stop_reason: str) -> dict[str, Any]:
    return {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "opensoul",
        "content": [content],
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": _USAGE,
    }


ANSWERS: Mapping[str, Any] = {
    "text": _message({"type": "text", "text": "Hello! How can I help?"}, "end_turn"),
    "tool_use": _message(_CALL, "tool_use"),
}
ERROR: Mapping[str, Any] = {
    "type": "error",
    "error": {
        "type": "invalid_request_error",
        "message": "`max_tokens` is missing; it must be a number of tokens from 1 up.",
        "param": "max_tokens",
    },
    "request_id": "req_01",
}

STREAM = """\
event: message_start
data: {"type":"message_start","message":{"id":"msg_01","type":"message","role":"assistant",\
"model":"opensoul","content":[],"stop_reason":null,"stop_sequence":null,"usage":\
{"input_tokens":0,"output_tokens":0,"output_tokens_details":{"thinking_tokens":0},\
"cache_creation_input_tokens":0,"cache_read_input_tokens":0}}}

event: ping
data: {"type":"ping"}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello!"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":\
{"input_tokens":12,"output_tokens":9,"output_tokens_details":{"thinking_tokens":0},\
"cache_creation_input_tokens":0,"cache_read_input_tokens":0}}

event: message_stop
data: {"type":"message_stop"}

"""

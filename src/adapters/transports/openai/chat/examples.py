"""Requests and answers in the OpenAPI document. Every request is one that the endpoint answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_QUESTION = {"role": "user", "content": "What is the weather in Lisbon?"}
_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city":"Lisbon"}'},
}

REQUESTS: Mapping[str, Any] = {
    "question": {"model": "opensoul", "messages": [{"role": "user", "content": "Hello"}]},
    "stream": {
        "model": "opensoul",
        "messages": [
            {"role": "system", "content": "Answer in one sentence."},
            {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    "tools": {"model": "opensoul", "messages": [_QUESTION], "tools": [_TOOL]},
    "tool_results": {
        "model": "opensoul",
        "messages": [
            _QUESTION,
            {"role": "assistant", "content": None, "tool_calls": [_CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "21 degrees, sunny"},
        ],
        "tools": [_TOOL],
    },
    "same_session": {
        "model": "opensoul",
        "messages": [{"role": "user", "content": "And tomorrow?"}],
        "user": "alice",
    },
}

_HEAD = {"id": "chatcmpl_01", "created": 1_750_000_000, "model": "opensoul"}
_USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 9,
    "total_tokens": 21,
    "prompt_tokens_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}


def _completion(message: Mapping[str, Any], finish_reason: str) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": None, "refusal": None, **message},
        "logprobs": None,
        "finish_reason": finish_reason,
    }
    return {**_HEAD, "object": "chat.completion", "choices": [choice], "usage": _USAGE}


ANSWERS: Mapping[str, Any] = {
    "text": _completion({"content": "Hello! How can I help?"}, "stop"),
    "tool_calls": _completion({"tool_calls": [_CALL]}, "tool_calls"),
}

STREAM = """\
data: {"id":"chatcmpl_01","object":"chat.completion.chunk","created":1750000000,\
"model":"opensoul","choices":[{"index":0,"delta":{"role":"assistant","content":""},\
"finish_reason":null}]}

data: {"id":"chatcmpl_01","object":"chat.completion.chunk","created":1750000000,\
"model":"opensoul","choices":[{"index":0,"delta":{"content":"Hello!"},"finish_reason":null}]}

data: {"id":"chatcmpl_01","object":"chat.completion.chunk","created":1750000000,\
"model":"opensoul","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

data: [DONE]

"""

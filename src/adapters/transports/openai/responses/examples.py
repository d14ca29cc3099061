"""Requests and answers in the OpenAPI document. Every request is one that the endpoint answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
    "strict": False,
}
_QUESTION = {"role": "user", "content": "What is the weather in Lisbon?"}
_CALL = {
    "type": "function_call",
    "call_id": "call_1",
    "name": "get_weather",
    "arguments": '{"city":"Lisbon"}',
}
_RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "21 degrees, sunny"}

REQUESTS: Mapping[str, Any] = {
    "question": {"model": "opensoul", "input": "Hello"},
    "stream": {
        "model": "opensoul",
        "instructions": "Answer in one sentence.",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hello"}]}],
        "stream": True,
    },
    "tools": {"model": "opensoul", "input": [_QUESTION], "tools": [_TOOL]},
    "tool_results": {
        "model": "opensoul",
        "input": [_QUESTION, _CALL, _RESULT],
        "tools": [_TOOL],
    },
    "same_session": {"model": "opensoul", "input": "And tomorrow?", "user": "alice"},
}

_HEAD = {
    "id": "resp_0b5c5e526cd24f398d614a0f6b6f9a11",
    "object": "response",
    "created_at": 1_750_000_000,
    "status": "completed",
    "completed_at": 1_750_000_002,
    "error": None,
    "incomplete_details": None,
    "background": False,
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "model": "opensoul",
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "auto",
    "user": None,
    "metadata": {},
}
_USAGE = {
    "input_tokens": 12,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 21,
}
_MESSAGE = {
    "id": "msg_0b5c5e526cd24f398d614a0f6b6f9a11",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [
        {
            "type": "output_text",
            "text": "Hello! How can I help?",
            "annotations": [],
            "logprobs": [],
        }
    ],
}
_ITEM = {"id": "fc_0b5c5e526cd24f398d614a0f6b6f9a11_0", "status": "completed", **_CALL}

ANSWERS: Mapping[str, Any] = {
    "text": {**_HEAD, "output": [_MESSAGE], "usage": _USAGE},
    "function_call": {**_HEAD, "tools": [_TOOL], "output": [_ITEM], "usage": _USAGE},
}

STREAM = """\
event: response.output_text.delta
data: {"type":"response.output_text.delta","item_id":"msg_0b5c5e526cd24f398d614a0f6b6f9a11",\
"output_index":0,"content_index":0,"logprobs":[],"delta":"Hello!","sequence_number":4}

event: response.output_text.done
data: {"type":"response.output_text.done","item_id":"msg_0b5c5e526cd24f398d614a0f6b6f9a11",\
"output_index":0,"content_index":0,"logprobs":[],"text":"Hello!","sequence_number":5}

data: [DONE]

"""

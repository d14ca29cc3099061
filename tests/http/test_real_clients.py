"""Requests in the shapes that libraries and programs send: all are answered, in full."""

from __future__ import annotations

from typing import Any

import pytest

from .app import Harness
from .client import HI, Client

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ANSWERED_CALL: list[dict[str, Any]] = [
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
]
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object"}},
}
STREAM = {"stream": True}
STREAM_WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}
AGAIN = {"role": "user", "content": "And now?"}


def after(*answer: dict[str, Any]) -> list[dict[str, Any]]:
    """A conversation that goes on after an answer of this shape."""
    return [{"role": "user", "content": "Hi"}, *answer, AGAIN]


SHAPES: dict[str, dict[str, Any]] = {
    "AI SDK: usage of streams": {"stream": True, "stream_options": {"include_usage": True}},
    "AI SDK: user and effort": {"user": "alice", "reasoning_effort": "low"},
    "AI SDK: developer": {"messages": [{"role": "developer", "content": "Be brief."}, *HI]},
    "aider": {"messages": after({"role": "assistant", "content": "Ok."}), "temperature": 0},
    "LangChain: settings": {
        "stream": False,
        "max_completion_tokens": 100,
        "seed": 1,
        "stop": ["x"],
        "temperature": 0.2,
        "user": "alice",
    },
    "LangChain: named user": {"messages": [{"role": "user", "content": "Hi", "name": "ann"}]},
    "LangChain: answer in parts": {
        "messages": after({"role": "assistant", "content": [{"type": "text", "text": "Ok."}]})
    },
    "OpenAI Agents: a call and its result": {"messages": ANSWERED_CALL},
    "openai-python: a dumped answer": {
        "messages": after(
            {
                "role": "assistant",
                "content": "Ok.",
                "refusal": None,
                "annotations": [],
                "audio": None,
                "function_call": None,
                "tool_calls": None,
            }
        )
    },
    "openai-python: a resent call": {
        "messages": [
            ANSWERED_CALL[0],
            {"role": "assistant", "content": "", "tool_calls": [{**CALL, "index": 0}]},
            ANSWERED_CALL[2],
        ]
    },
    "LlamaIndex: a call without content": {
        "messages": [
            ANSWERED_CALL[0],
            {"role": "assistant", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": ""},
            AGAIN,
        ]
    },
    "an empty answer: null and no calls": {
        "messages": after({"role": "assistant", "content": None, "tool_calls": []})
    },
    "an empty answer: null": {"messages": after({"role": "assistant", "content": None})},
    "an empty answer: nothing": {"messages": after({"role": "assistant"})},
    "an empty answer: no parts": {"messages": after({"role": "assistant", "content": []})},
    "an empty answer: no parts and no calls": {
        "messages": after({"role": "assistant", "content": [], "tool_calls": []})
    },
    "an empty question": {"messages": [{"role": "user", "content": []}, *HI]},
    "thoughts sent back": {
        "messages": after({"role": "assistant", "content": "Ok.", "reasoning_content": "Hm."})
    },
    "Pydantic AI: parts": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    },
    "Continue: a blank beside a call, and a result in parts": {
        **STREAM,
        "messages": [
            ANSWERED_CALL[0],
            {"role": "assistant", "content": " ", "tool_calls": [CALL]},
            {**ANSWERED_CALL[2], "content": [{"type": "text", "text": "sunny"}]},
        ],
        "tools": [{**TOOL, "function": {**TOOL["function"], "strict": False}}],
        "parallel_tool_calls": False,
        "max_tokens": 2048,
    },
    "Home Assistant: a call without content, and the end of calls": {
        **STREAM_WITH_USAGE,
        "messages": [
            {"role": "system", "content": "An overview of the areas and the devices."},
            ANSWERED_CALL[0],
            {"role": "assistant", "tool_calls": [CALL]},
            {**ANSWERED_CALL[2], "content": '{"result":"sunny"}'},
        ],
        "tools": [TOOL],
        "tool_choice": "none",
        "max_tokens": 150,
        "top_p": 1.0,
        "temperature": 0.5,
    },
    "Home Assistant, older: one user for a conversation": {
        "messages": after({"role": "assistant", "content": "Ok."}),
        "functions": [TOOL["function"]],
        "function_call": "auto",
        "max_tokens": 150,
        "top_p": 1,
        "temperature": 0.5,
        "user": "01J0000000000000000000000A",
    },
    "LibreChat: an answer in parts": {
        **STREAM_WITH_USAGE,
        "messages": after(
            {"role": "assistant", "content": [{"type": "text", "text": "Ok.", "tool_call_ids": []}]}
        ),
        "user": "665f00000000000000000000",
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "temperature": 1,
        "top_p": 1,
    },
    "n8n: tools of an agent": {
        **STREAM_WITH_USAGE,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant"},
            ANSWERED_CALL[0],
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {**ANSWERED_CALL[2], "content": '[{"response":"sunny"}]', "name": "f"},
        ],
        "tools": [TOOL],
    },
    "n8n: a file": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is in it?"},
                    {
                        "type": "input_file",
                        "filename": "a.txt",
                        "file_data": "data:text/plain;base64,c3Vubnk=",
                    },
                ],
            }
        ]
    },
    "llama.cpp's samplers": {"top_p": 1e-06, "top_k": 1, "min_p": 0.05, "repetition_penalty": 1.05},
    "a cache key": {"prompt_cache_key": "probe", "max_completion_tokens": 8},
    "JavaScript and Lua: floats": {"max_tokens": 16.0, "seed": 7.0, "n": 1.0, "top_logprobs": 0.0},
    "options of streams always": {"stream_options": {"include_usage": True}},
    "options of streams, not one": {
        "stream": False,
        "stream_options": {"include_usage": True},
    },
    "options of streams, null": {"stream": None, "stream_options": {"include_usage": None}},
    "empty lists": {"tools": [], "functions": [], "stop": [], "modalities": ["text"]},
    "empty objects": {"metadata": {}, "logit_bias": {}, "stream_options": {}},
    "nulls": dict.fromkeys(
        (
            "stop",
            "tools",
            "tool_choice",
            "response_format",
            "max_tokens",
            "temperature",
            "top_p",
            "n",
            "logprobs",
            "seed",
            "user",
            "metadata",
            "store",
            "stream_options",
        )
    ),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
async def test_a_real_request_is_answered(client: Client, shape: dict[str, Any]) -> None:
    reply = await client.chat(**shape)

    assert reply.status == 200, reply.body
    said = reply.said if shape.get("stream") else reply.json["choices"][0]["message"]["content"]
    assert said == "Hello"


async def test_numbers_reach_the_provider_as_integers_and_what_is_empty_does_not(
    gateway: Harness, client: Client
) -> None:
    await client.chat(**SHAPES["JavaScript and Lua: floats"], temperature=1)
    params = gateway.model.seen[-1].params
    assert {name: (value, type(value)) for name, value in params.items()} == {
        "max_tokens": (16, int),
        "seed": (7, int),
        "temperature": (1, int),
    }

    await client.chat(**SHAPES["empty lists"] | SHAPES["empty objects"] | SHAPES["nulls"])
    assert gateway.model.seen[-1].params == {}


async def test_an_empty_answer_of_the_client_is_taken_and_left_out_of_the_model_call(
    gateway: Harness, client: Client
) -> None:
    await client.chat(**SHAPES["an empty answer: null and no calls"])

    said = [(m.role.value, m.text) for m in gateway.model.seen[-1].messages]
    assert said == [("user", "Hi\nAnd now?")]

"""What a body asks for: what the model gets, and which fields are refused, ignored or repeated."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from opensoul.domain.agents import Agent, AgentDirectory
from opensoul.domain.messages import Image, Message, Reasoning, Role, Text, ToolCall
from opensoul.domain.models import ModelTarget, Provider
from tests.http.app import Harness
from tests.http.pictures import png

from .client import ResponsesClient

F = {"type": "function", "name": "f", "parameters": {"type": "object"}}
G = {"type": "function", "name": "g"}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "21 degrees"}
THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "r"}],
}
USER = {"role": "user", "content": "Hi"}
PNG = base64.b64encode(png()).decode()
PNG_URL = f"data:image/png;base64,{PNG}"
HI = Message(Role.USER, (Text("Hi"),))
CALLING = Message(Role.ASSISTANT, (ToolCall("c1", "f", "{}"),))
RESULT = Message(Role.TOOL, (Text("21 degrees"),), tool_call_id="c1")


def messages_of(gateway: Harness) -> tuple[Message, ...]:
    """What the model was sent last."""
    return gateway.model.seen[-1].messages


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        pytest.param("Hi", [HI], id="a text"),
        pytest.param([USER], [HI], id="an easy message"),
        pytest.param([{"type": "message", **USER}], [HI], id="a message"),
        pytest.param(
            [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}], [HI], id="parts"
        ),
        pytest.param(
            [
                USER,
                {
                    "type": "message",
                    "id": "msg_1",
                    "status": "completed",
                    "role": "assistant",
                    "content": [
                        {"type": "output_text", "text": "a", "annotations": [], "logprobs": []},
                        {"type": "refusal", "refusal": "b"},
                    ],
                },
                USER,
            ],
            [HI, Message(Role.ASSISTANT, (Text("a"), Text("b"))), HI],
            id="an answer as it was sent",
        ),
        pytest.param([USER, CALL, OUTPUT], [HI, CALLING, RESULT], id="a call and its output"),
        pytest.param(
            [
                USER,
                THOUGHT,
                {"role": "assistant", "content": "Let me see."},
                CALL,
                {**CALL, "call_id": "c2", "name": "g"},
                OUTPUT,
                {"type": "function_call_output", "call_id": "c2", "output": ""},
            ],
            [
                HI,
                Message(
                    Role.ASSISTANT,
                    (
                        Reasoning("r"),
                        Text("Let me see."),
                        ToolCall("c1", "f", "{}"),
                        ToolCall("c2", "g", "{}"),
                    ),
                ),
                RESULT,
                Message(Role.TOOL, (Text(""),), tool_call_id="c2"),
            ],
            id="thoughts, a text and calls are one message",
        ),
        pytest.param(
            [USER, CALL, {"role": "assistant", "content": "I look."}, OUTPUT],
            [HI, Message(Role.ASSISTANT, (Text("I look."), *CALLING.parts)), RESULT],
            id="a text behind the calls that it belongs to",
        ),
        pytest.param(
            [USER, {"role": "assistant", "content": "I look."}, THOUGHT, CALL, OUTPUT],
            [
                HI,
                Message(Role.ASSISTANT, (Text("I look."), Reasoning("r"), *CALLING.parts)),
                RESULT,
            ],
            id="thoughts between a text and a call",
        ),
        pytest.param([THOUGHT, USER], [HI], id="thoughts that nothing of the assistant follows"),
        pytest.param(
            [
                USER,
                {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
                USER,
            ],
            [HI, HI],
            id="reasoning that only another service can read",
        ),
        pytest.param(
            [
                USER,
                CALL,
                {
                    **OUTPUT,
                    "output": [
                        {"type": "input_text", "text": "21"},
                        {"type": "input_text", "text": "sunny"},
                    ],
                },
            ],
            [HI, CALLING, Message(Role.TOOL, (Text("21"), Text("sunny")), tool_call_id="c1")],
            id="an output of parts",
        ),
    ],
)
async def test_items_become_the_messages_that_they_are(
    gateway: Harness, client: ResponsesClient, items: object, expected: list[Message]
) -> None:
    reply = await client.respond(input=items)

    assert reply.status == 200, reply.body
    assert list(messages_of(gateway)) == expected


async def test_instructions_and_messages_of_the_system_reach_the_model(
    gateway: Harness, client: ResponsesClient
) -> None:
    system = [{"role": "system", "content": "two"}, {"role": "developer", "content": "three"}]
    await client.respond(instructions="one", input=[*system, USER])

    *before, last = messages_of(gateway)
    assert [m.role for m in before] == [Role.SYSTEM] * len(before)
    text = "\n".join(m.text for m in before)
    assert text.index("one") < text.index("two") < text.index("three")
    assert last == HI


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_image", "image_url": PNG_URL, "detail": "auto"},
        {
            "type": "input_image",
            "source": {
                "type": "base64",
                "media_type": "image/png",
                "data": PNG,
            },
        },
    ],
)
async def test_pictures_reach_the_model_from_users_and_outputs(
    gateway: Harness, client: ResponsesClient, part: dict[str, Any]
) -> None:
    seeing = ModelTarget(Provider("fake", "test"), "eyes", inputs=("text", "image"))
    agents = AgentDirectory([Agent("main", "Main", models=(seeing,))], "main")
    gateway.settings = replace(gateway.settings, agents=agents)
    asked = {"role": "user", "content": [{"type": "input_text", "text": "What?"}, part]}
    reply = await client.respond(input=[asked, CALL, {**OUTPUT, "output": [part]}])

    assert reply.status == 200, reply.body
    question, _, output = messages_of(gateway)
    assert question.parts[1] == output.parts[0] == Image(PNG, "image/png")


async def test_pictures_for_a_model_that_takes_none_are_refused(client: ResponsesClient) -> None:
    part = {"type": "input_image", "image_url": PNG_URL}
    reply = await client.respond(input=[{"role": "user", "content": [part]}])

    assert (reply.status, reply.error["param"]) == (400, "input")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,SGVsbG8="},
        {
            "type": "input_file",
            "source": {
                "type": "base64",
                "media_type": "text/plain",
                "data": "SGVsbG8=",
                "filename": "a.txt",
            },
        },
    ],
)
async def test_files_reach_the_model_as_their_text(
    gateway: Harness, client: ResponsesClient, part: dict[str, Any]
) -> None:
    reply = await client.respond(input=[{"role": "user", "content": [part]}])

    assert reply.status == 200, reply.body
    (message,) = messages_of(gateway)
    assert "Hello" in message.text
    assert "a.txt" in message.text


@pytest.mark.parametrize(
    ("tools", "choice", "names", "mode"),
    [
        ([F, G], None, {"f", "g"}, None),
        ([F, G], "auto", {"f", "g"}, None),
        ([F, G], "none", {"f", "g"}, "none"),
        ([F, G], "required", {"f", "g"}, "required"),
        (
            [F, G],
            {"type": "function", "name": "g"},
            {"f", "g"},
            {"type": "function", "function": {"name": "g"}},
        ),
        (
            [F, G],
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "g"}],
            },
            {"g"},
            "required",
        ),
        ([{"type": "function", "function": {"name": "f", "parameters": {}}}], None, {"f"}, None),
        (
            [{"type": "function", "function": {"name": "f"}}],
            {"type": "function", "function": {"name": "f"}},
            {"f"},
            {"type": "function", "function": {"name": "f"}},
        ),
    ],
)
async def test_functions_are_offered_in_either_form(
    gateway: Harness,
    client: ResponsesClient,
    tools: list[Any],
    choice: object,
    names: set[str],
    mode: object,
) -> None:
    reply = await client.respond(tools=tools, tool_choice=choice)

    assert reply.status == 200, reply.body
    request = gateway.model.seen[-1]
    assert {tool.name for tool in request.tools} == names
    assert request.params.get("tool_choice") == mode
    assert {tool["name"] for tool in reply.json["tools"]} == {
        tool.get("name") or tool["function"]["name"] for tool in tools
    }
    assert all("function" not in tool for tool in reply.json["tools"])


async def test_a_function_keeps_its_fields(gateway: Harness, client: ResponsesClient) -> None:
    tool = {**F, "description": "d", "strict": True}
    reply = await client.respond(tools=[tool])

    (offered,) = gateway.model.seen[-1].tools
    assert (offered.description, offered.strict) == ("d", True)
    assert offered.parameters == F["parameters"]
    assert reply.json["tools"] == [tool]


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


@pytest.mark.parametrize(
    ("fields", "params"),
    [
        ({"max_output_tokens": 123}, {"max_completion_tokens": 123}),
        ({"temperature": 0.5, "top_p": 0.1}, {"temperature": 0.5, "top_p": 0.1}),
        ({"reasoning": {"effort": "low"}}, {"reasoning_effort": "low"}),
        ({"text": {"verbosity": "low"}}, {"verbosity": "low"}),
        ({"text": {"format": {"type": "text"}}}, {}),
        ({"parallel_tool_calls": False, "tools": [F]}, {"parallel_tool_calls": False}),
        ({"metadata": {"a": "b"}}, {"metadata": {"a": "b"}}),
        ({"metadata": {"session_key": "s"}}, {}),
        ({"safety_identifier": "x"}, {"safety_identifier": "x"}),
        ({"prompt_cache_key": "k"}, {"prompt_cache_key": "k"}),
        ({"service_tier": "flex"}, {"service_tier": "flex"}),
        ({"store": False}, {}),
        ({"truncation": "auto", "top_logprobs": 0, "stream_options": None}, {}),
        ({"include": [], "tools": [], "prompt": None}, {}),
    ],
)
async def test_parameters_reach_the_model_under_the_names_of_chat(
    gateway: Harness, client: ResponsesClient, fields: dict[str, Any], params: dict[str, Any]
) -> None:
    reply = await client.respond(**fields)

    assert reply.status == 200, reply.body
    assert "x-opensoul-ignored" not in reply.headers
    assert gateway.model.seen[-1].params == params
    for name, value in fields.items():
        if name not in ("text", "reasoning", "tools", "stream_options", "include", "prompt"):
            assert reply.json[name] == value


async def test_a_schema_is_the_structured_output_of_chat(
    gateway: Harness, client: ResponsesClient
) -> None:
    wanted = {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}
    reply = await client.respond(text={"format": wanted})

    assert reply.status == 502  # The model says Hello, which is no JSON.
    assert gateway.model.seen[0].params["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": SCHEMA, "strict": True},
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": 1}, "input"),
        ({"input": []}, "input"),
        ({"input": "  "}, "input"),
        ({"input": [{"role": "system", "content": "s"}]}, "input"),
        ({"input": [1]}, "input[0]"),
        ({"input": [USER, {"role": "tool", "content": "x"}]}, "input[1].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "x"}]}]}, "input[0].content[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "input[0].content[0]",
        ),
        (
            {"input": [{"role": "system", "content": [{"type": "input_image"}]}, USER]},
            "input[0].content[0]",
        ),
        ({"input": [USER, {"type": "web_search_call", "id": "w"}]}, "input[1].type"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": ""}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "output": ""}]}, "input[0].call_id"),
        ({"input": [{**OUTPUT, "output": None}]}, "input[0].output"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
            "input[0].content[0].file_id",
        ),
        (
            {
                "input": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "input_image",
                                "source": {
                                    "type": "base64",
                                    "media_type": "image/tiff",
                                    "data": "AAAA",
                                },
                            }
                        ],
                    }
                ]
            },
            "input[0].content[0].source",
        ),
        ({"tools": [{"type": "custom", "name": "c"}]}, "tools[0].type"),
        ({"tools": [F, {"type": "file_search", "vector_store_ids": ["v"]}]}, "tools[1].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": ""}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [F, F]}, "tools[1].name"),
        ({"tools": [F], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice"),
        ({"tools": [F], "tool_choice": {"type": "custom", "name": "f"}}, "tool_choice.type"),
        ({"tools": [F], "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tools": [F], "tool_choice": {}}, "tool_choice"),
        ({"tools": [F], "tool_choice": 1}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        (
            {"tools": [F], "tool_choice": {"type": "allowed_tools", "mode": "x", "tools": []}},
            "tool_choice.mode",
        ),
        (
            {"tools": [F], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}},
            "tool_choice.tools",
        ),
        (
            {
                "tools": [F],
                "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "x"}]},
            },
            "tool_choice.tools[0]",
        ),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_tool_calls": 0}, "max_tool_calls"),
        ({"temperature": 3}, "temperature"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
        ({"text": {"format": {"type": "x"}}}, "text.format.type"),
        ({"reasoning": {"summary": "x"}}, "reasoning.summary"),
        ({"truncation": "x"}, "truncation"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"include": ["message.output_text.logprobs"]}, "include[0]"),
        ({"include": ["x"]}, "include[0]"),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
        ),
        ({"include": ["reasoning.encrypted_content", 1]}, "include[1]"),
        ({"model": 1}, "model"),
        ({"conversation": 1}, "conversation"),
        ({"conversation": []}, "conversation"),
        ({"conversation": {}}, "conversation.id"),
        ({"conversation": {"id": 1}}, "conversation.id"),
        ({"metadata": {"k" * 65: "v"}}, f"metadata.{'k' * 65}"),
        ({"metadata": {"[key]": 1}}, "metadata.[key]"),
    ],
)
async def test_what_is_wrong_or_not_supported_is_named(
    client: ResponsesClient, fields: dict[str, Any], param: str
) -> None:
    reply = await client.respond(**fields)

    assert reply.status == 400, reply.body
    assert reply.error["param"] == param
    assert reply.error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        ({"odd": 1}, "odd"),
        ({"truncation": "disabled"}, "truncation"),
        ({"include": ["reasoning.encrypted_content"]}, "include.reasoning.encrypted_content"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"input": [{**USER, "odd": 1}]}, "input[].odd"),
        ({"tools": [{**F, "defer_loading": True}]}, "tools[].defer_loading"),
        ({"stream_options": {"include_usage": True}}, "stream_options.include_usage"),
    ],
)
async def test_what_has_no_effect_is_named_in_a_header(
    client: ResponsesClient, fields: dict[str, Any], ignored: str
) -> None:
    reply = await client.respond(**fields)

    assert reply.status == 200, reply.body
    assert reply.headers["x-opensoul-ignored"] == ignored

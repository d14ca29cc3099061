"""Anthropic's Messages API over real sockets: requests as they are read, answers as they are
written."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opensoul.domain.agents import AgentDirectory
from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.messages import Image, Message, Reasoning, Role, Text, ToolCall
from opensoul.domain.models import (
    ModelFinished,
    ReasoningDelta,
    ReasoningSigned,
    StopReason,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from opensoul.domain.runs import Aborted
from opensoul.domain.settings import EndpointSettings
from opensoul.domain.tools import ChoiceMode, ClientTools, ToolChoice, run_of_call
from tests.app.serving import SECRET, config, serving

from .app import HELLO, TOKEN, Harness
from .client import BEARER, Client, Reply, bare
from .pictures import png

PATH = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
HI = [{"role": "user", "content": "Hi"}]
WEATHER = {
    "name": "weather",
    "description": "The weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALLING = (
    TextDelta("I look."),
    ToolCallDelta(0, "c1", "weather", '{"city": '),
    ToolCallDelta(0, arguments='"Bern"}'),
    ModelFinished(StopReason.TOOL_CALLS, Usage(9, 4)),
)


@pytest.fixture(autouse=True)
def switched_on(gateway: Harness) -> None:
    gateway.settings = replace(gateway.settings, endpoints=EndpointSettings(messages=True))


async def post(
    client: Client,
    body: Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
    path: str = PATH,
) -> Reply:
    sent = {"x-api-key": TOKEN, "Content-Type": "application/json", **(headers or {})}
    return await client.ask("POST", path, headers=sent, data=json.dumps(body).encode())


async def ask(client: Client, headers: Mapping[str, str] | None = None, **fields: Any) -> Reply:
    body = {"model": "opensoul", "max_tokens": 100, "messages": HI, **fields}
    return await post(client, body, headers)


def error(reply: Reply) -> dict[str, Any]:
    """What the envelope holds, after checking it and the ids of the request."""
    assert list(reply.json) == ["type", "error", "request_id"]
    assert reply.json["type"] == "error"
    assert reply.json["request_id"] == reply.headers["request-id"] == reply.headers["x-request-id"]
    found: dict[str, Any] = reply.json["error"]
    return found


def events(reply: Reply) -> list[dict[str, Any]]:
    """The data of the events, each of which has the name of its type."""
    found = []
    for frame in reply.body.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in frame.splitlines() if ": " in line)
        if "data" in lines:
            data = json.loads(lines["data"])
            assert data["type"] == lines["event"]
            found.append(data)
    return found


async def seen(gateway: Harness, client: Client, **fields: Any) -> Any:
    """The call of the model that a request leads to."""
    reply = await ask(client, **fields)
    assert reply.status == 200, reply.body
    return gateway.model.seen[-1]


async def read(gateway: Harness, client: Client, *content: Any, **fields: Any) -> list[Message]:
    """What of a user's content reaches the run."""
    reply = await ask(client, messages=[{"role": "user", "content": [*content]}], **fields)
    assert reply.status == 200, reply.body
    _, run = gateway.gateway.submitted[-1]
    return list(run.messages)


async def test_a_whole_answer(client: Client) -> None:
    reply = await ask(client)

    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["request-id"] == reply.headers["x-request-id"]
    run_id = reply.headers["x-opensoul-run-id"]
    assert reply.headers["x-opensoul-session-key"] == f"agent:main:anthropic:{run_id}"
    assert reply.json == {
        "id": f"msg_{run_id}",
        "type": "message",
        "role": "assistant",
        "model": "opensoul",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 7,
            "output_tokens": 2,
            "output_tokens_details": {"thinking_tokens": 0},
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        },
    }


async def test_the_events_of_a_stream_come_in_their_order(client: Client) -> None:
    reply = await ask(client, stream=True)

    assert reply.headers["Content-Type"].startswith("text/event-stream")
    run_id = reply.headers["x-opensoul-run-id"]
    start, ping, begin, *deltas, stop, delta, end = events(reply)
    assert start["message"] | {"usage": None} == {
        "id": f"msg_{run_id}",
        "type": "message",
        "role": "assistant",
        "model": "opensoul",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": None,
    }
    assert ping == {"type": "ping"}
    assert begin == {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": ""},
    }
    assert [one["delta"] for one in deltas] == [
        {"type": "text_delta", "text": "Hel"},
        {"type": "text_delta", "text": "lo"},
    ]
    assert {one["index"] for one in deltas} == {0}
    assert stop == {"type": "content_block_stop", "index": 0}
    assert delta["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert (delta["usage"]["input_tokens"], delta["usage"]["output_tokens"]) == (7, 2)
    assert end == {"type": "message_stop"}
    assert reply.ids[-1].startswith(f"{run_id}:")


THINKING = (
    ReasoningDelta("Hm"),
    ReasoningDelta("."),
    ReasoningSigned("signed"),
    TextDelta("Yes"),
    ModelFinished(StopReason.STOP, Usage(input=10, output=5, cached=4)),
)


async def test_reasoning_is_a_thinking_block(gateway: Harness, client: Client) -> None:
    gateway.model.script = THINKING
    whole = (await ask(client)).json
    streamed = events(await ask(client, stream=True))

    thought, text = whole["content"]
    assert (thought["type"], thought["thinking"]) == ("thinking", "Hm.")
    assert text == {"type": "text", "text": "Yes"}
    kinds = [(one["type"], one.get("index")) for one in streamed[2:-2]]
    start, delta, stop = "content_block_start", "content_block_delta", "content_block_stop"
    assert kinds == [
        (start, 0),
        (delta, 0),
        (delta, 0),
        (stop, 0),
        (start, 1),
        (delta, 1),
        (stop, 1),
    ]
    assert streamed[3]["delta"] == {"type": "thinking_delta", "thinking": "Hm"}


async def test_reasoning_is_left_out_where_a_header_says_so(
    gateway: Harness, client: Client
) -> None:
    gateway.model.script = THINKING
    omit = {"x-opensoul-reasoning": "omit"}

    assert [b["type"] for b in (await ask(client, omit)).json["content"]] == ["text"]
    kinds = [
        e["content_block"]["type"]
        for e in events(await ask(client, omit, stream=True))
        if "content_block" in e
    ]
    assert kinds == ["text"]


async def test_reasoning_is_left_out_where_the_client_shows_none(
    gateway: Harness, client: Client
) -> None:
    gateway.model.script = THINKING
    whole = (await ask(client, thinking={"type": "adaptive", "display": "omitted"})).json

    assert [block["type"] for block in whole["content"]] == ["text"]


async def test_cached_tokens_are_counted_beside_the_others(
    gateway: Harness, client: Client
) -> None:
    gateway.model.script = THINKING
    usage = (await ask(client)).json["usage"]

    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (6, 4)


async def test_a_usage_that_nobody_reported_is_marked(gateway: Harness, client: Client) -> None:
    gateway.model.script = (TextDelta("Yes"), ModelFinished(StopReason.STOP))

    assert (await ask(client)).json["usage"]["estimated"] is True


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        (StopReason.STOP, "end_turn"),
        (StopReason.LENGTH, "max_tokens"),
        (StopReason.CONTENT_FILTER, "refusal"),
    ],
)
async def test_the_reason_of_the_end(
    gateway: Harness, client: Client, stop: StopReason, reason: str
) -> None:
    gateway.model.script = (TextDelta("Yes"), ModelFinished(stop, Usage(1, 1)))

    assert (await ask(client)).json["stop_reason"] == reason
    assert events(await ask(client, stream=True))[-2]["delta"]["stop_reason"] == reason


async def test_the_stop_sequence_that_ended_the_answer(gateway: Harness, client: Client) -> None:
    end = {"stop_reason": "stop_sequence", "stop_sequence": "END"}
    gateway.model.script = (TextDelta("Yes"), ModelFinished(StopReason.STOP, Usage(1, 1), "END"))
    whole = (await ask(client, stop_sequences=["END"])).json
    streamed = events(await ask(client, stop_sequences=["END"], stream=True))

    assert {name: whole[name] for name in end} == end
    assert streamed[-2]["delta"] == end


async def test_calls_of_the_clients_tools_are_blocks(gateway: Harness, client: Client) -> None:
    gateway.model.script = CALLING
    whole = (await ask(client, tools=[WEATHER])).json
    streamed = events(await ask(client, tools=[WEATHER], stream=True))

    text, call = whole["content"]
    assert text == {"type": "text", "text": "I look."}
    assert (call["type"], call["name"], call["input"]) == ("tool_use", "weather", {"city": "Bern"})
    assert run_of_call(call["id"]) is not None
    assert whole["stop_reason"] == "tool_use"
    begin, delta, stop = streamed[-5:-2]
    assert begin["content_block"]["input"] == {}
    assert begin["content_block"]["name"] == "weather"
    assert delta["delta"]["type"] == "input_json_delta"
    assert json.loads(delta["delta"]["partial_json"]) == {"city": "Bern"}
    assert {begin["index"], delta["index"], stop["index"]} == {1}
    assert streamed[-2]["delta"]["stop_reason"] == "tool_use"


async def test_streamed_arguments_have_no_halves_of_surrogate_pairs(
    gateway: Harness, client: Client
) -> None:
    arguments = r'{"city": "\uD83D", "sign": "\ud83d\ude00"}'
    end = ModelFinished(StopReason.TOOL_CALLS, Usage(9, 4))
    gateway.model.script = (ToolCallDelta(0, "c1", "weather", arguments), end)
    (call,) = (await ask(client, tools=[WEATHER])).json["content"]
    delta = events(await ask(client, tools=[WEATHER], stream=True))[-4]["delta"]

    assert json.loads(delta["partial_json"]) == call["input"] == {"city": "\ufffd", "sign": "😀"}


@pytest.mark.parametrize(
    "system",
    [
        "Be brief.\n\nBe kind.",
        [
            {"type": "text", "text": "Be brief."},
            {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}},
        ],
    ],
)
async def test_system_is_a_layer_of_the_prompt(
    gateway: Harness, client: Client, system: Any
) -> None:
    request = await seen(gateway, client, system=system)

    assert request.messages[0] == Message(Role.SYSTEM, (Text("Be brief.\n\nBe kind."),))


async def test_a_conversation_with_every_block(gateway: Harness, client: Client) -> None:
    picture = base64.b64encode(png()).decode()
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": picture},
    }
    messages = [
        {"role": "user", "content": "How is Bern?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm", "signature": "signed"},
                {"type": "redacted_thinking", "data": "secret"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Bern"}},
                {"type": "tool_use", "id": "t2", "name": "weather", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t1",
                    "content": [{"type": "text", "text": "sunny"}, image],
                },
                {
                    "type": "tool_result",
                    "tool_use_id": "t2",
                    "content": "no city",
                    "is_error": True,
                },
                {"type": "text", "text": "And tomorrow?", "cache_control": {"type": "ephemeral"}},
                image,
            ],
        },
    ]
    main = gateway.settings.agents.default
    able = replace(main, models=(replace(main.models[0], inputs=("text", "image")),))
    gateway.settings = replace(gateway.settings, agents=AgentDirectory([able], "main"))
    reply = await ask(client, messages=messages)
    assert reply.status == 200, reply.body
    assert "x-opensoul-ignored" not in reply.headers
    question, answer, first, second, rest = gateway.gateway.submitted[-1][1].messages

    assert question == Message(Role.USER, (Text("How is Bern?"),))
    assert answer.parts == (
        Reasoning("Hm"),
        Reasoning("", "secret", redacted=True),
        Text("I look."),
        ToolCall("t1", "weather", '{"city":"Bern"}'),
        ToolCall("t2", "weather", "{}"),
    )
    shown = Image(picture, "image/png")
    assert first == Message(Role.TOOL, (Text("sunny"), shown), tool_call_id="t1")
    assert (second.tool_call_id, second.is_error, second.text) == ("t2", True, "no city")
    assert rest == Message(Role.USER, (Text("And tomorrow?"), shown))


async def test_a_search_result_is_data_from_outside(gateway: Harness, client: Client) -> None:
    found = {
        "type": "search_result",
        "title": "Weather",
        "source": "https://example.com",
        "content": [{"type": "text", "text": "Bern is sunny."}],
    }
    (message,) = await read(gateway, client, found, {"type": "text", "text": "How is Bern?"})

    assert message.text.startswith('<untrusted source="search result">')
    assert "Weather\nhttps://example.com\n\nBern is sunny." in message.text


async def test_a_system_message_among_the_others_is_a_layer_too(
    gateway: Harness, client: Client
) -> None:
    system = {"role": "system", "content": [{"type": "text", "text": "Be kind."}]}
    request = await seen(gateway, client, system="Be brief.", messages=[*HI, system])

    assert request.messages[0].text == "Be brief.\n\nBe kind."


async def test_results_come_before_other_blocks(gateway: Harness, client: Client) -> None:
    call = {"type": "tool_use", "id": "t1", "name": "weather", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t1"}
    content = [{"type": "text", "text": "Here"}, result]
    messages = [{"role": "assistant", "content": [call]}, {"role": "user", "content": content}]
    await ask(client, messages=[*HI, *messages])

    found = gateway.gateway.submitted[-1][1].messages
    assert [(m.role, m.text) for m in found[2:]] == [(Role.TOOL, ""), (Role.USER, "Here")]


@pytest.mark.parametrize("path", [PATH, COUNT])
async def test_a_result_without_a_call_is_refused_with_its_path(client: Client, path: str) -> None:
    result = {"type": "tool_result", "tool_use_id": "t1"}
    content = [{"type": "text", "text": "Here"}, result]
    body = {"max_tokens": 9, "system": "s", "messages": [*HI, {"role": "user", "content": content}]}
    reply = await post(client, body, path=path)

    assert (reply.status, error(reply)["type"]) == (400, "invalid_request_error")
    assert error(reply)["param"] == "messages[1].content[1].tool_use_id"
    assert "no `tool_use` block" in error(reply)["message"]


@pytest.mark.parametrize(
    "source",
    [
        {"type": "text", "media_type": "text/plain", "data": "Bern is sunny."},
        {"type": "content", "content": "Bern is sunny."},
        {"type": "content", "content": [{"type": "text", "text": "Bern is sunny."}]},
        {
            "type": "base64",
            "media_type": "text/plain",
            "data": base64.b64encode(b"Bern is sunny.").decode(),
        },
    ],
)
async def test_a_document_is_a_text(
    gateway: Harness, client: Client, source: Mapping[str, Any]
) -> None:
    document = {"type": "document", "source": source, "title": "news", "context": "Of today"}
    question = {"type": "text", "text": "How is Bern?"}
    (message,) = await read(gateway, client, document, question)

    context, text, last = message.parts
    assert (context, last) == (Text("Of today"), Text("How is Bern?"))
    assert isinstance(text, Text)
    assert "Bern is sunny." in text.text
    assert "news" in text.text


async def test_a_document_that_is_no_pdf_file_is_refused_with_its_path(client: Client) -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    content = [{"type": "text", "text": "x"}, {"type": "document", "source": source}]
    reply = await ask(client, messages=[{"role": "user", "content": content}])

    assert (reply.status, error(reply)["param"]) == (
        400,
        "messages[0].content[1].source.data",
    )


async def test_a_picture_at_a_url_needs_the_setting(client: Client) -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    reply = await ask(client, messages=[{"role": "user", "content": [image]}])

    assert reply.status == 400
    assert error(reply)["param"] == "messages[0].content[0].source.url"
    assert "images.allowUrl" in error(reply)["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"model": 3}, "model"),
        ({"temperature": 1.5}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"top_k": "x"}, "top_k"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"stream": "yes"}, "stream"),
        ({"system": 3}, "system"),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "x"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "search_result"}]}]},
            "messages[0].content[0].title",
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "server_tool_use"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]},
            "messages[0].content[0].tool_use_id",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "document",
                                "source": {"type": "url", "url": "https://example.com/a.pdf"},
                            }
                        ],
                    }
                ]
            },
            "messages[0].content[0].source.type",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "document",
                                "source": {"type": "content", "content": "x"},
                                "citations": {"enabled": True},
                            }
                        ],
                    }
                ]
            },
            "messages[0].content[0].citations",
        ),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
        ({"tools": [{"name": "a b", "input_schema": {}}]}, "tools[0].name"),
        ({"tools": [{"name": "a"}]}, "tools[0].input_schema"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].name"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "all"}}, "tool_choice.type"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name"),
        ({"thinking": {"type": "enabled"}}, "thinking"),
        ({"thinking": {"type": "much"}}, "thinking.type"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        ({"service_tier": "fast"}, "service_tier"),
        ({"metadata": {"user_id": 3}}, "metadata.user_id"),
        ({"mcp_servers": [{"url": "https://example.com"}]}, "mcp_servers"),
        ({"container": "c1"}, "container"),
    ],
)
async def test_a_refusal_names_the_field(
    client: Client, fields: Mapping[str, Any], param: str
) -> None:
    reply = await ask(client, **fields)

    assert (reply.status, error(reply)["type"]) == (400, "invalid_request_error"), reply.body
    assert error(reply)["param"] == param
    assert param in error(reply)["message"]


async def test_parameters_reach_the_model_under_the_names_of_the_domain(
    gateway: Harness, client: Client
) -> None:
    request = await seen(
        gateway,
        client,
        max_tokens=64.0,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        stop_sequences=["END"],
        service_tier="standard_only",
    )

    assert request.params == {
        "max_tokens": 64,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "stop": ["END"],
        "service_tier": "default",
    }


@pytest.mark.parametrize("where", ["output_config", "output_format"])
async def test_an_answer_in_a_format(gateway: Harness, client: Client, where: str) -> None:
    gateway.model.script = (TextDelta('{"city":"Bern"}'), HELLO[-1])
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    wanted = {"type": "json_schema", "schema": schema}
    fields = {"output_format": wanted} if where == "output_format" else {where: {"format": wanted}}
    request = await seen(gateway, client, **fields)

    assert request.params["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": True},
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_a_schema_that_cannot_be_used_is_refused_with_its_path(
    tmp_path: Path, stream: bool
) -> None:
    on = {"auth": {"token": SECRET}, "http": {"endpoints": {"messages": {"enabled": True}}}}
    wanted = {"type": "json_schema", "schema": {"type": "nothing"}}
    async with serving(tmp_path, config(gateway=on)) as served, Client(served.url) as client:
        fields = {"stream": stream, "output_config": {"format": wanted}}
        reply = await ask(client, {"x-api-key": SECRET}, **fields)

    assert (reply.status, error(reply)["param"]) == (400, "output_config.format.schema")


@pytest.mark.parametrize(
    ("fields", "level"),
    [
        ({}, None),
        ({"thinking": {"type": "disabled"}}, "off"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "minimal"),
        ({"thinking": {"type": "enabled", "budget_tokens": 10000}}, "high"),
        ({"thinking": {"type": "enabled", "budget_tokens": 31999}}, "xhigh"),
        ({"thinking": {"type": "adaptive"}}, "high"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low"),
        ({"output_config": {"effort": "max"}}, "xhigh"),
    ],
)
async def test_thinking_is_that_of_the_run(
    gateway: Harness, client: Client, fields: Mapping[str, Any], level: str | None
) -> None:
    assert (await ask(client, **fields)).status == 200
    _, run = gateway.gateway.submitted[-1]

    assert run.thinking == level


@pytest.mark.parametrize(
    ("choice", "expected", "parallel"),
    [
        (None, ToolChoice(), None),
        ({"type": "auto"}, ToolChoice(), None),
        ({"type": "any"}, ToolChoice(ChoiceMode.REQUIRED), None),
        ({"type": "none"}, ToolChoice(ChoiceMode.NONE), None),
        (
            {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
            ToolChoice(ChoiceMode.REQUIRED, "weather"),
            False,
        ),
    ],
)
async def test_the_choice_of_a_tool(
    gateway: Harness, client: Client, choice: Any, expected: ToolChoice, parallel: bool | None
) -> None:
    fields = {} if choice is None else {"tool_choice": choice}
    assert (await ask(client, tools=[{"type": "custom", **WEATHER}], **fields)).status == 200
    _, run = gateway.gateway.submitted[-1]

    assert isinstance(run.client_tools, ClientTools)
    assert [tool.name for tool in run.client_tools.tools] == ["weather"]
    assert run.client_tools.choice == expected
    assert run.params.get("parallel_tool_calls") is parallel


async def test_fields_without_an_effect_are_named(client: Client) -> None:
    reply = await ask(
        client,
        context_management={"edits": [{"type": "clear_thinking_20251015"}]},
        speed="fast",
        metadata={"user_id": "ann", "x": 1},
        thinking={"type": "disabled", "y": 1},
        messages=[{"role": "user", "content": [{"type": "text", "text": "Hi", "z": 1}], "w": 1}],
        tools=[{**WEATHER, "defer_loading": True}],
    )

    assert reply.status == 200
    assert reply.headers["x-opensoul-ignored"].split(", ") == [
        "context_management",
        "messages[].content[].z",
        "messages[].w",
        "metadata.x",
        "speed",
        "thinking.y",
        "tools[].defer_loading",
    ]


async def test_a_user_has_a_session_of_its_own(client: Client) -> None:
    first = await ask(client, metadata={"user_id": "ann"})
    second = await ask(client, metadata={"user_id": "ann"}, messages=HI)

    assert first.headers["x-opensoul-session-key"] == "agent:main:anthropic-user:ann"
    assert second.headers["x-opensoul-session-key"] == "agent:main:anthropic-user:ann"
    assert second.headers["x-opensoul-session-bound-by"] == "user"


@pytest.mark.parametrize(
    "user_id",
    [
        "user_0a1b_account_2f6e-11_session_7d3c-22",
        "user_0a1b_account__session_7d3c-22",
        '{"device_id":"d","account_uuid":"","session_id":"s"}',
    ],
)
async def test_the_id_of_a_programs_session_binds_none(client: Client, user_id: str) -> None:
    reply = await ask(client, metadata={"user_id": user_id})

    assert reply.headers["x-opensoul-session-bound-by"] == "none"


async def test_a_session_goes_on_by_its_key(gateway: Harness, client: Client) -> None:
    key = {"x-opensoul-session-key": "notes"}
    await ask(client, key)
    await ask(client, key, messages=[{"role": "user", "content": "Again"}])

    texts = [m.text for m in gateway.model.seen[-1].messages if m.role is not Role.SYSTEM]
    assert texts == ["Hi", "Hello", "Again"]


async def test_the_metadata_name_a_session(client: Client) -> None:
    reply = await ask(client, metadata={"session_key": "notes", "user_id": "ann"})

    assert reply.headers["x-opensoul-session-key"] == "agent:main:notes"
    assert reply.headers["x-opensoul-session-bound-by"] == "metadata.session_key"


@pytest.mark.parametrize(
    ("model", "agent"),
    [
        ("opensoul/beta", "beta"),
        ("beta", "beta"),
        ("opensoul", "main"),
        ("claude-sonnet-4-5-20250929", "main"),
        ("anthropic/claude-opus-4.1", "main"),
    ],
)
async def test_the_model_names_an_agent(client: Client, model: str, agent: str) -> None:
    reply = await ask(client, model=model)

    assert reply.headers["x-opensoul-agent-id"] == agent
    assert reply.json["model"] == model


async def test_a_built_in_model_leaves_the_agent_to_the_header(client: Client) -> None:
    reply = await ask(client, {"x-opensoul-agent-id": "beta"}, model="claude-haiku-4-5")

    assert reply.headers["x-opensoul-agent-id"] == "beta"


async def test_an_unknown_model_is_not_found(client: Client) -> None:
    reply = await ask(client, model="gpt-5")

    assert (reply.status, error(reply)["type"]) == (404, "not_found_error")
    assert error(reply)["param"] == "model"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"anthropic-version": "2023-06-01"},
        {"anthropic-version": "2026-10-21", "anthropic-beta": "a-2025-01-01,b"},
        {"x-api-key": "", "Authorization": f"Bearer {TOKEN}"},
    ],
)
async def test_headers_of_the_api(client: Client, headers: Mapping[str, str]) -> None:
    assert (await ask(client, headers)).status == 200


async def test_a_stranger_is_refused_in_the_envelope_of_the_api(client: Client) -> None:
    reply = await ask(client, {"x-api-key": "wrong"})

    assert (reply.status, error(reply)["type"]) == (401, "authentication_error")


@pytest.mark.parametrize(
    ("kind", "status", "name"),
    [
        (FailureKind.RATE_LIMIT, 429, "rate_limit_error"),
        (FailureKind.OVERLOADED, 529, "overloaded_error"),
        (FailureKind.TIMEOUT, 504, "timeout_error"),
        (FailureKind.BAD_RESPONSE, 502, "api_error"),
        (FailureKind.BAD_REQUEST, 400, "invalid_request_error"),
        (FailureKind.CONTEXT_TOO_LONG, 400, "invalid_request_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_before_the_answer_has_a_status(
    gateway: Harness, client: Client, kind: FailureKind, status: int, name: str, stream: bool
) -> None:
    gateway.model.script = (ModelFailed(kind, "No luck."),)
    reply = await ask(client, stream=stream)

    assert (reply.status, error(reply)["type"]) == (status, name)
    assert "No luck." in error(reply)["message"]


async def test_a_failure_in_mid_stream_is_an_event(gateway: Harness, client: Client) -> None:
    gateway.model.script = (TextDelta("Hel"), ModelFailed(FailureKind.OVERLOADED, "No luck."))
    reply = await ask(client, stream=True)

    *_, last = events(reply)
    assert reply.status == 200
    assert last == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "No luck."},
        "request_id": reply.headers["request-id"],
    }


async def test_the_run_is_aborted_when_the_client_leaves(gateway: Harness) -> None:
    gateway.model.script = (TextDelta("Hel"), asyncio.Event())
    async with bare(gateway.port) as connection:
        body = json.dumps({"model": "opensoul", "max_tokens": 9, "messages": HI, "stream": True})
        connection.send_head(
            f"Content-Length: {len(body)}", "Content-Type: application/json", path=PATH
        )
        connection.writer.write(body.encode())
        await connection.reader.readuntil(b"text_delta")
        connection.leave()
        assert isinstance(await gateway.run_log.end_of(), Aborted)


async def test_a_repeated_request_gets_the_same_answer(gateway: Harness, client: Client) -> None:
    key = {"Idempotency-Key": "once"}
    first, second = await ask(client, key), await ask(client, key)

    assert first.json["content"] == second.json["content"]
    assert first.json["id"] == second.json["id"]
    assert len(gateway.model.seen) == 1


async def test_a_repeated_stream_has_the_same_events(gateway: Harness, client: Client) -> None:
    gateway.model.script = CALLING
    key = {"Idempotency-Key": "once"}
    first = await ask(client, key, stream=True, tools=[WEATHER])
    second = await ask(client, key, stream=True, tools=[WEATHER])

    assert events(first) == events(second)
    assert first.ids == second.ids
    assert len(first.ids) == len(set(first.ids)) > 2
    assert len(gateway.model.seen) == 1


async def test_the_endpoint_is_off_unless_it_is_switched_on(
    gateway: Harness, client: Client
) -> None:
    gateway.settings = replace(gateway.settings, endpoints=EndpointSettings())

    for path in (PATH, COUNT):
        reply = await post(client, {"messages": HI}, path=path)
        assert (reply.status, error(reply)["type"]) == (404, "not_found_error")
        assert "gateway.http.endpoints.messages.enabled" in error(reply)["message"]
        assert "POST /v1/chat/completions" in error(reply)["message"]


async def test_the_405_is_in_the_envelope_of_the_api(client: Client) -> None:
    reply = await client.get(PATH, headers=BEARER)

    assert (reply.status, reply.headers["Allow"]) == (405, "POST")
    assert error(reply)["type"] == "invalid_request_error"


async def test_tokens_are_counted_without_a_run(gateway: Harness, client: Client) -> None:
    body: dict[str, Any] = {"model": "claude-x", "messages": HI}
    plain = await post(client, body, path=COUNT)
    more = await post(client, {**body, "system": "Be brief. " * 30}, path=COUNT)
    tools = await post(client, {**body, "tools": [WEATHER]}, path=COUNT)

    assert list(plain.json) == ["input_tokens"]
    assert more.json["input_tokens"] - plain.json["input_tokens"] > 90
    assert tools.json["input_tokens"] - plain.json["input_tokens"] > 20
    assert gateway.run_log.runs == []
    assert gateway.model.seen == []


async def test_a_count_is_refused_as_a_message_is(client: Client) -> None:
    unknown = await post(client, {"model": "gpt-5", "messages": HI}, path=COUNT)
    empty = await post(client, {"model": "opensoul", "messages": []}, path=COUNT)

    assert (unknown.status, empty.status) == (404, 400)
    assert error(empty)["param"] == "messages"

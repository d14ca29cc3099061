"""What clients of other gateways of this family expect of the endpoint, over real sockets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opensoul.domain.messages import Role
from opensoul.domain.models import ModelFinished, StopReason, TextDelta, Usage
from tests.http.app import Harness

from .client import RESPONSES, ResponsesClient, events_of, text_of
from .test_requests import PNG_URL

NESTED = {
    "type": "function",
    "function": {"name": "get_weather", "description": "d", "parameters": {"type": "object"}},
}
TIME = {"type": "function", "function": {"name": "get_time", "description": "t"}}


def user(content: object) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": content}


async def test_only_post_is_served_and_only_with_the_secret(client: ResponsesClient) -> None:
    assert (await client.get(RESPONSES)).status == 405
    body = json.dumps({"input": "hi"}).encode()
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        assert (await client.ask("POST", RESPONSES, headers=headers, data=body)).status == 401


async def test_a_request_without_a_model_is_for_the_default_agent(client: ResponsesClient) -> None:
    reply = await client.post({"input": "hi"})
    assert (reply.status, reply.json["model"]) == (200, "opensoul")
    assert reply.headers["x-opensoul-agent-id"] == "main"


@pytest.mark.parametrize(
    ("headers", "model"),
    [
        ({"x-opensoul-agent-id": "beta"}, "opensoul"),
        ({"x-openclaw-agent-id": "beta"}, "opensoul"),
        ({}, "opensoul:beta"),
        ({}, "opensoul/beta"),
    ],
)
async def test_a_header_or_the_model_names_the_agent(
    client: ResponsesClient, headers: dict[str, str], model: str
) -> None:
    reply = await client.respond(model=model, headers=headers)
    assert reply.headers["x-opensoul-session-key"].startswith("agent:beta:openresponses:")
    assert reply.json["model"] == model


async def test_the_session_is_that_of_the_user_or_of_the_key(client: ResponsesClient) -> None:
    reply = await client.respond(user="alice")
    assert "openresponses-user:alice" in reply.headers["x-opensoul-session-key"]

    key = {"x-opensoul-session-key": "agent:main:mine"}
    assert (await client.respond(headers=key)).headers["x-opensoul-session-key"] == key.popitem()[1]
    named = await client.respond(metadata={"session_key": "agent:main:other"})
    assert named.headers["x-opensoul-session-key"] == "agent:main:other"
    assert named.json["metadata"] == {"session_key": "agent:main:other"}


async def test_an_output_without_its_call_is_refused_by_its_place(client: ResponsesClient) -> None:
    output = {"type": "function_call_output", "call_id": "call_1", "output": "Sunny, 70F."}
    reply = await client.respond(instructions="Be kind.", input=[user("Hi"), output])

    assert (reply.status, reply.error["param"]) == (400, "input[1].call_id")
    assert "'call_1'" in reply.error["message"]


async def test_messages_and_outputs_reach_the_model_in_their_order(
    gateway: Harness, client: ResponsesClient
) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "get_weather", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": "72°F"}
    reply = await client.respond(
        input=[user("What's the weather?"), call, output, user("Thanks")], tools=[NESTED]
    )

    assert reply.status == 200, reply.body
    messages = gateway.model.seen[0].messages
    assert [(message.role, message.text) for message in messages] == [
        (Role.USER, "What's the weather?"),
        (Role.ASSISTANT, ""),
        (Role.TOOL, "72°F"),
        (Role.USER, "Thanks"),
    ]


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("none", {"get_weather", "get_time"}),
        ({"type": "function", "function": {"name": "get_time"}}, {"get_weather", "get_time"}),
    ],
)
async def test_the_choice_of_a_tool_goes_to_the_model(
    gateway: Harness, client: ResponsesClient, choice: object, names: set[str]
) -> None:
    reply = await client.respond(tools=[NESTED, TIME], tool_choice=choice)

    assert reply.status == 200, reply.body
    request = gateway.model.seen[0]
    assert {tool.name for tool in request.tools} == names
    assert request.params["tool_choice"] == choice


async def test_the_input_tokens_include_those_of_the_cache(
    gateway: Harness, client: ResponsesClient
) -> None:
    usage = Usage(input=4, output=5, cached=1, reasoning=2)
    gateway.model.script = (TextDelta("x"), ModelFinished(StopReason.STOP, usage))

    assert (await client.respond()).json["usage"] == {
        "input_tokens": 4,
        "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 9,
    }


async def test_deltas_that_repeat_one_another_are_all_sent(
    gateway: Harness, client: ResponsesClient
) -> None:
    end = ModelFinished(StopReason.STOP, Usage(1, 2))
    gateway.model.script = (TextDelta("hi"), TextDelta("hi"), end)

    events = events_of(await client.respond(stream=True))
    deltas = [e["delta"] for e in events if e["type"] == "response.output_text.delta"]
    assert deltas == ["hi", "hi"]
    assert text_of(events[-1]["response"]) == "hihi"


@pytest.mark.parametrize(
    ("part", "param"),
    [
        (
            {
                "type": "input_image",
                "source": {"type": "base64", "media_type": "image/bmp", "data": "Qk0="},
            },
            "input[0].content[0].source",
        ),
        (
            {"type": "input_image", "source": {"type": "url", "url": "https://example.com/a.png"}},
            "input[0].content[0].source",
        ),
        (
            {"type": "input_file", "source": {"type": "url", "url": "https://example.com/a.txt"}},
            "input[0].content[0].source.file_url",
        ),
        ({"type": "input_image", "source": {"type": "file"}}, "input[0].content[0].source.type"),
        ({"type": "input_image", "source": "x"}, "input[0].content[0].source"),
        ({"type": "input_image", "image_url": PNG_URL[:-8]}, "input[0].content[0].image_url"),
    ],
)
async def test_media_that_cannot_be_read_is_refused_by_its_place(
    client: ResponsesClient, part: dict[str, Any], param: str
) -> None:
    reply = await client.respond(input=[user([part])])

    assert (reply.status, reply.error["param"]) == (400, param)

"""What the endpoint's page promises, and the cases that the reference is tested with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from opensoul.domain.messages import Message, Role, Text
from opensoul.domain.models import TextDelta
from opensoul.domain.settings import EndpointSettings

from .app import HELLO, Harness
from .client import CHAT, Client

SESSION = "x-opensoul-session-key"
AGENT = "x-opensoul-agent-id"
SUNNY = "Sunny, 70F."


def spoken(gateway: Harness) -> list[tuple[str, str]]:
    """What the model was given last: role and text of each message."""
    return [(str(message.role), message.text) for message in gateway.model.seen[-1].messages]


async def test_it_answers_a_chat_completion(client: Client) -> None:
    reply = await client.chat(model="opensoul:main")

    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json"
    answer = reply.json
    assert answer["object"] == "chat.completion"
    assert answer["id"] == "chatcmpl_" + reply.headers["x-opensoul-run-id"]
    assert answer["model"] == "opensoul:main"
    assert answer["created"] > 1_700_000_000
    [choice] = answer["choices"]
    assert choice["index"] == 0
    assert choice["message"] == {"role": "assistant", "content": "Hello", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert answer["usage"]["total_tokens"] == 9


@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "OPTIONS", "HEAD"])
async def test_it_is_not_there_unless_switched_on(
    gateway: Harness, client: Client, method: str
) -> None:
    gateway.chat(enabled=False)

    reply = await client.ask(method, CHAT)

    assert reply.status == 404
    if method != "HEAD":
        assert reply.error["code"] == "endpoint_disabled"
        assert "gateway.http.endpoints.chatCompletions.enabled" in reply.error["message"]


async def test_the_model_list_is_switched_with_it_and_at_once(
    gateway: Harness, client: Client
) -> None:
    gateway.settings = replace(gateway.settings, endpoints=EndpointSettings())
    assert (await client.get("/v1/models")).status == 200
    gateway.chat(enabled=False)
    assert (await client.get("/v1/models")).status == 404
    assert (await client.get("/v1/models/opensoul")).status == 404
    gateway.chat(enabled=True)
    assert (await client.get("/v1/models")).status == 200


@pytest.mark.parametrize(
    ("model", "agent"),
    [
        ("opensoul", "main"),
        ("opensoul/default", "main"),
        ("opensoul:beta", "beta"),
        ("opensoul/beta", "beta"),
        ("OpenSoul:BETA", "beta"),
        ("openclaw", "main"),
        ("openclaw/default", "main"),
        ("openclaw:beta", "beta"),
        ("openclaw/beta", "beta"),
        ("agent:beta", "beta"),
        ("beta", "beta"),
    ],
)
async def test_the_model_field_names_the_agent(client: Client, model: str, agent: str) -> None:
    reply = await client.chat(model=model)

    assert reply.status == 200
    assert reply.json["model"] == model
    assert reply.headers[AGENT] == agent
    assert reply.headers[SESSION].startswith(f"agent:{agent}:openai:")


@pytest.mark.parametrize("body", [{}, {"model": None}])
async def test_a_missing_model_is_the_default_agent(
    client: Client, body: dict[str, object]
) -> None:
    reply = await client.post({"messages": [{"role": "user", "content": "Hi"}], **body})

    assert reply.json["model"] == "opensoul"
    assert reply.headers[AGENT] == "main"


@pytest.mark.parametrize("header", ["x-opensoul-agent-id", "x-opensoul-agent"])
async def test_a_header_names_the_agent_and_wins_over_the_model(
    client: Client, header: str
) -> None:
    reply = await client.chat(model="opensoul:beta", headers={header: "alpha"})

    assert reply.headers[AGENT] == "alpha"
    assert reply.headers[SESSION].startswith("agent:alpha:")
    assert reply.json["model"] == "opensoul:beta"


async def test_an_unknown_model_is_said_to_be_unknown(client: Client) -> None:
    reply = await client.chat(model="opensoul:nobody")

    assert reply.status == 404
    error = reply.error
    assert (error["type"], error["param"], error["code"]) == (
        "invalid_request_error",
        "model",
        "model_not_found",
    )
    assert "beta" in error["message"]


async def test_an_unknown_agent_in_the_header_names_the_header(client: Client) -> None:
    reply = await client.chat(headers={AGENT: "nobody"})

    assert (reply.status, reply.error["param"]) == (404, AGENT)


async def test_a_session_key_is_taken_as_given(client: Client) -> None:
    reply = await client.chat(headers={SESSION: "agent:beta:openai:custom"})

    assert reply.headers[SESSION] == "agent:beta:openai:custom"
    assert reply.headers[AGENT] == "beta"


async def test_a_bare_session_key_becomes_the_agents(client: Client) -> None:
    reply = await client.chat(model="opensoul:beta", headers={SESSION: "Tuesday"})

    assert reply.headers[SESSION] == "agent:beta:Tuesday"


async def test_a_session_key_may_be_of_any_script(client: Client) -> None:
    reply = await client.chat(headers={SESSION: "Gespräch 東京"})

    assert reply.status == 200
    assert reply.headers[SESSION] == "agent:main:Gespräch 東京"


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({SESSION: "agent:beta:x", AGENT: "alpha"}, "but x-opensoul-agent-id asks for 'alpha'."),
        ({SESSION: "subagent:x"}, "reserved"),
        ({SESSION: "agent:beta:cron:x"}, "reserved"),
        ({SESSION: "x" * 600}, "512"),
        ({SESSION: "agent::"}, "agent:<agentId>:<rest>"),
        ({SESSION: ""}, "empty"),
    ],
)
async def test_a_session_key_that_cannot_be_is_refused(
    client: Client, headers: dict[str, str], says: str
) -> None:
    reply = await client.chat(headers=headers)

    assert reply.status == 400
    assert reply.error["code"] == "invalid_session_key"
    assert reply.error["param"] == SESSION
    assert says in reply.error["message"]
    assert "x-opensoul-run-id" not in reply.headers


async def test_a_user_has_one_session(gateway: Harness, client: Client) -> None:
    first = await client.chat(user="Alice")
    second = await client.chat(user="Alice", messages=[{"role": "user", "content": "And?"}])

    assert first.headers[SESSION] == second.headers[SESSION] == "agent:main:openai-user:Alice"
    assert spoken(gateway) == [("user", "Hi"), ("assistant", "Hello"), ("user", "And?")]


async def test_without_user_or_key_every_request_is_a_session_of_its_own(client: Client) -> None:
    keys = {(await client.chat()).headers[SESSION] for _ in range(3)}

    assert len(keys) == 3


async def test_content_parts_are_one_text(gateway: Harness, client: Client) -> None:
    parts = [{"type": "text", "text": "hello"}, {"type": "input_text", "text": "world"}]

    await client.chat(messages=[{"role": "user", "content": parts}])

    assert spoken(gateway) == [("user", "hello\nworld")]


async def test_history_reaches_the_model_as_turns(gateway: Harness, client: Client) -> None:
    await client.chat(
        messages=[
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hello, who are you?"},
            {"role": "assistant", "content": "I am Claude."},
            {"role": "user", "content": "What did I just ask you?"},
        ]
    )

    assert spoken(gateway) == [
        ("system", "Be kind."),
        ("user", "Hello, who are you?"),
        ("assistant", "I am Claude."),
        ("user", "What did I just ask you?"),
    ]


async def test_a_lone_question_is_passed_as_it_is(gateway: Harness, client: Client) -> None:
    await client.chat(
        messages=[{"role": "developer", "content": "Rhyme."}, {"role": "user", "content": "Hello"}]
    )

    assert spoken(gateway) == [("system", "Rhyme."), ("user", "Hello")]


async def test_a_conversation_may_end_with_a_tools_result(gateway: Harness, client: Client) -> None:
    reply = await client.chat(
        messages=[
            {"role": "user", "content": "What's the weather?"},
            {"role": "assistant", "content": "Checking."},
            {"role": "tool", "content": SUNNY},
        ]
    )

    assert reply.status == 200
    assert gateway.model.seen[-1].messages[-1] == Message(Role.TOOL, (Text(SUNNY),))


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "system", "content": "Be kind."}],
        [{"role": "assistant", "content": "Hello"}],
        [{"role": "user", "content": " \n"}],
    ],
)
async def test_nothing_asked_is_refused(client: Client, messages: list[object]) -> None:
    reply = await client.chat(messages=messages)

    assert reply.status == 400
    assert reply.error == {
        "message": "Missing user message in `messages`.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "invalid_request",
    }


async def test_parameters_reach_the_provider_under_their_names(
    gateway: Harness, client: Client
) -> None:
    params: dict[str, Any] = {
        "temperature": 0,
        "top_p": 0.5,
        "max_tokens": 10,
        "max_completion_tokens": 20,
        "stop": ["a", "b"],
        "seed": -1,
        "presence_penalty": -2,
        "frequency_penalty": 2,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True},
        },
        "reasoning_effort": "low",
        "parallel_tool_calls": False,
        "metadata": {"trace": "1"},
        "logit_bias": {"50256": -100},
        "service_tier": "auto",
        "verbosity": "low",
        "prompt_cache_key": "k",
        "safety_identifier": "s",
    }
    gateway.model.script = (TextDelta("{}"), HELLO[-1])

    assert (await client.chat(**params)).status == 200
    assert gateway.model.seen[-1].params == params


async def test_every_answer_of_a_run_names_it_and_its_timings(client: Client) -> None:
    reply = await client.chat(headers={"x-request-id": "mine-1"})

    assert reply.headers["x-request-id"] == "mine-1"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"
    timings = [entry.split(";dur=") for entry in reply.headers["Server-Timing"].split(", ")]
    assert [name for name, _ in timings] == ["auth", "queue", "history", "first-token", "total"]
    assert all(float(duration) >= 0 for _, duration in timings)


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "é", "../x"])
async def test_a_strange_request_id_is_replaced(client: Client, given: str) -> None:
    reply = await client.get("/healthz", headers={"x-request-id": given})

    assert reply.headers["x-request-id"].startswith("req_")

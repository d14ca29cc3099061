"""The requests of the Messages API: what a strict server accepts, and what it is sent."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from opensoul.adapters.providers.anthropic import AnthropicMessages
from opensoul.adapters.providers.anthropic.messages import blocks_of
from opensoul.adapters.providers.http import PerMessage
from opensoul.domain.errors import FailureKind
from opensoul.domain.messages import (
    Image,
    Message,
    Part,
    Reasoning,
    Role,
    Text,
    ToolCall,
    text_message,
)
from opensoul.domain.models import ModelRequest
from opensoul.domain.tools import ToolSpec
from tests.fakes import anthropic
from tests.fakes.anthropic import message, signature, strict
from tests.fakes.provider import FakeProvider

from .calls import KEY, call, collect, failure

PIXEL = "R0lGODlhAQABAAAAACw="
EPHEMERAL = {"type": "ephemeral"}
LOOK = ToolSpec("look", "Looks around.", {"properties": {"at": {"type": "string"}}})
NOW = ToolSpec("now", "The time.")
MODEL = "acme/tiny"


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(strict(message(anthropic.text("Hello")))) as provider:
        yield provider


@pytest.fixture
async def client() -> AsyncIterator[AnthropicMessages]:
    client = AnthropicMessages()
    yield client
    await client.close()


def request(
    provider: FakeProvider,
    *messages: Message,
    tools: tuple[ToolSpec, ...] = (),
    model: str = "tiny",
    max_tokens: int = 8_192,
    **more: Any,
) -> ModelRequest:
    made = call(provider.base_url, *messages, api="anthropic-messages", **more)
    target = replace(made.target, model=model, max_tokens=max_tokens)
    return replace(made, target=target, tools=tools)


async def sent(
    provider: FakeProvider, client: AnthropicMessages, *messages: Message, **more: Any
) -> Mapping[str, Any]:
    """The body of a call that the strict server accepts."""
    await collect(client, request(provider, *messages, **more))
    body = provider.requests[-1].json
    assert isinstance(body, dict)
    return body


def user(*parts: Part | str) -> Message:
    return Message(Role.USER, tuple(Text(p) if isinstance(p, str) else p for p in parts))


def model(*parts: Part | str) -> Message:
    return replace(user(*parts), role=Role.ASSISTANT)


def result(call_id: str, *parts: Part | str) -> Message:
    return replace(user(*parts), role=Role.TOOL, tool_call_id=call_id)


def plain(value: Any) -> Any:
    """The same without cache breakpoints."""
    if isinstance(value, dict):
        return {name: plain(of) for name, of in value.items() if name != "cache_control"}
    return [plain(item) for item in value] if isinstance(value, list) else value


async def test_a_plain_request(provider: FakeProvider, client: AnthropicMessages) -> None:
    messages = [text_message(Role.SYSTEM, "Be brief."), user("Hi")]
    body = await sent(provider, client, *messages, auth_header=False)

    assert body == {
        "model": "tiny",
        "max_tokens": 8_192,
        "stream": True,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": EPHEMERAL}],
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "Hi", "cache_control": EPHEMERAL}],
            }
        ],
    }


@pytest.mark.parametrize(
    ("auth_header", "headers", "expected"),
    [
        (False, {}, {"x-api-key": KEY}),
        (True, {}, {"authorization": f"Bearer {KEY}"}),
        (False, {"X-Api-Key": "other"}, {"x-api-key": "other"}),
        (False, {"anthropic-beta": "some-beta"}, {"x-api-key": KEY, "anthropic-beta": "some-beta"}),
    ],
)
async def test_the_headers(
    provider: FakeProvider,
    client: AnthropicMessages,
    auth_header: bool,
    headers: dict[str, str],
    expected: dict[str, str],
) -> None:
    await sent(provider, client, auth_header=auth_header, headers=headers)

    names = ("x-api-key", "authorization", "anthropic-beta")
    received = provider.requests[-1].headers
    assert {name: received[name] for name in names if name in received} == expected


@pytest.mark.parametrize("end", ["", "/v1", "/v1/", "/v1/messages", "/messages"])
async def test_base_urls_are_understood_as_people_write_them(
    provider: FakeProvider, client: AnthropicMessages, end: str
) -> None:
    base_url = provider.base_url.removesuffix("/v1") + end
    await collect(client, call(base_url, api="anthropic-messages"))

    assert provider.requests[-1].path == "/v1/messages"


CALLS = model("I look.", ToolCall("a", "look", '{"at": "it"}'), ToolCall("b", "now", ""))
RESULTS = result("b", "noon"), result("a", "grass")


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param(
            [user("one"), model("two"), user("three")],
            [("user", ["one"]), ("assistant", ["two"]), ("user", ["three"])],
            id="turns",
        ),
        pytest.param(
            [user("one"), user("two"), model("three"), model("four"), user("five")],
            [("user", ["one", "two"]), ("assistant", ["three", "four"]), ("user", ["five"])],
            id="messages of one role are one message",
        ),
        pytest.param(
            [user("one", " ", ""), model("\n"), user("two")],
            [("user", ["one", "two"])],
            id="blank texts are left out",
        ),
        pytest.param(
            [user("one"), model("two", "three \n")],
            [("user", ["one"]), ("assistant", ["two", "three"])],
            id="the beginning of an answer",
        ),
        pytest.param(
            [user("one"), CALLS, *RESULTS],
            [
                ("user", ["one"]),
                ("assistant", ["I look.", ("a", "look", {"at": "it"}), ("b", "now", {})]),
                ("user", [("b", ["noon"]), ("a", ["grass"])]),
            ],
            id="results of one step are one message",
        ),
        pytest.param(
            [user("one"), CALLS, RESULTS[0], user("hurry"), RESULTS[1]],
            [
                ("user", ["one"]),
                ("assistant", ["I look.", ("a", "look", {"at": "it"}), ("b", "now", {})]),
                ("user", [("b", ["noon"]), ("a", ["grass"]), "hurry"]),
            ],
            id="results come first",
        ),
        pytest.param(
            [
                user("one"),
                *(model(ToolCall("call_0", "now", "{}")), result("call_0", "1")),
                *(model(ToolCall("call_0", "now", "{}")), result("call_0", "2")),
                *(model(ToolCall("x:1", "now", "{}")), result("x:1", "")),
            ],
            [
                ("user", ["one"]),
                *(("assistant", [("call_0", "now", {})]), ("user", [("call_0", ["1"])])),
                *(("assistant", [("call_0_2", "now", {})]), ("user", [("call_0_2", ["2"])])),
                *(("assistant", [("x_1", "now", {})]), ("user", [("x_1", [])])),
            ],
            id="ids of other providers",
        ),
        pytest.param(
            [
                user("one"),
                model(ToolCall("a", "look", "{at: it"), ToolCall("b", "look", "[1]")),
                *(result("a", "invalid"), result("b", "invalid")),
            ],
            [
                ("user", ["one"]),
                (
                    "assistant",
                    [
                        ("a", "look", {"invalid_arguments": "{at: it"}),
                        ("b", "look", {"invalid_arguments": "[1]"}),
                    ],
                ),
                ("user", [("a", ["invalid"]), ("b", ["invalid"])]),
            ],
            id="arguments that are no object",
        ),
        pytest.param(
            [user("What is it?", Image(PIXEL, "image/gif")), model("a dot"), user("Yes")],
            [("user", ["What is it?", PIXEL]), ("assistant", ["a dot"]), ("user", ["Yes"])],
            id="images",
        ),
        pytest.param(
            [user("one"), CALLS, RESULTS[0], result("a", "seen:", Image(PIXEL, "image/gif"))],
            [
                ("user", ["one"]),
                ("assistant", ["I look.", ("a", "look", {"at": "it"}), ("b", "now", {})]),
                ("user", [("b", ["noon"]), ("a", ["seen:", PIXEL])]),
            ],
            id="images of tools",
        ),
    ],
)
async def test_conversations(
    provider: FakeProvider,
    client: AnthropicMessages,
    messages: list[Message],
    expected: list[tuple[str, list[object]]],
) -> None:
    for _ in range(2):  # The second time from the cache.
        body = await sent(provider, client, *messages, tools=(LOOK, NOW))
        found = [(turn["role"], list(map(_short, turn["content"]))) for turn in body["messages"]]
        assert found == expected


def _short(block: Mapping[str, Any]) -> object:
    match block["type"]:
        case "text":
            return block["text"]
        case "image":
            return block["source"]["data"]
        case "tool_use":
            return (block["id"], block["name"], block["input"])
        case "tool_result":
            return (block["tool_use_id"], list(map(_short, block.get("content", ()))))
        case kind:
            return kind


async def test_a_failed_call_is_marked_as_an_error(
    provider: FakeProvider, client: AnthropicMessages
) -> None:
    failed = replace(RESULTS[0], is_error=True)
    body = await sent(provider, client, user("one"), CALLS, failed, RESULTS[1], tools=(LOOK, NOW))

    results = body["messages"][2]["content"]
    assert [block.get("is_error") for block in results] == [True, None]


async def test_system_messages_are_hoisted(
    provider: FakeProvider, client: AnthropicMessages
) -> None:
    messages = [
        text_message(Role.SYSTEM, "Be brief."),
        user("Hi"),
        text_message(Role.SYSTEM, "Be kind."),
        text_message(Role.SYSTEM, " "),
    ]
    body = await sent(provider, client, *messages)

    assert plain(body["system"]) == [anthropic.text("Be brief."), anthropic.text("Be kind.")]
    assert plain(body["messages"]) == [{"role": "user", "content": [anthropic.text("Hi")]}]


async def test_tools_are_offered(provider: FakeProvider, client: AnthropicMessages) -> None:
    body = await sent(provider, client, tools=(LOOK, NOW))

    empty = {"type": "object", "properties": {}}
    schema = {"type": "object", "properties": {"at": {"type": "string"}}}
    assert plain(body["tools"]) == [
        {"name": "look", "description": "Looks around.", "input_schema": schema},
        {"name": "now", "description": "The time.", "input_schema": empty},
    ]
    assert "tool_choice" not in body


async def test_a_conversation_with_calls_defines_its_tools(
    provider: FakeProvider, client: AnthropicMessages
) -> None:
    """The API requires it, even if no tool is offered any more."""
    body = await sent(provider, client, user("Hi"), CALLS, *RESULTS)

    assert [tool["name"] for tool in body["tools"]] == ["look", "now"]
    assert body["tool_choice"] == {"type": "none"}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "now"}}},
            {"type": "tool", "name": "now"},
        ),
        ({"parallel_tool_calls": True}, None),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        (
            {"tool_choice": "required", "parallel_tool_calls": False},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
    ],
)
async def test_the_choice_of_tools(
    provider: FakeProvider,
    client: AnthropicMessages,
    params: dict[str, object],
    expected: object,
) -> None:
    assert (await sent(provider, client, params=params, tools=(NOW,))).get(
        "tool_choice"
    ) == expected
    assert "tool_choice" not in await sent(provider, client, params=params)


SCHEMA = {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"temperature": 0.5}, {"temperature": 0.5}),
        ({"temperature": 1.5}, {"temperature": 1}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["A", "B"]}, {"stop_sequences": ["A", "B"]}),
        ({"response_format": {"type": "text"}}, {}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        ),
        (
            {"response_format": {"type": "json_object"}},
            {
                "system": [
                    {
                        "type": "text",
                        "text": "Answer with one JSON object and nothing else: no explanation, "
                        "no code fence.",
                        "cache_control": {"type": "ephemeral"},
                    }
                ]
            },
        ),
        ({"metadata": {"a": "b"}, "prompt_cache_key": "k", "service_tier": "auto"}, {}),
        ({"safety_identifier": "u1"}, {"metadata": {"user_id": "u1"}}),
        ({"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}}, {}),
    ],
)
async def test_parameters_are_translated(
    provider: FakeProvider,
    client: AnthropicMessages,
    params: dict[str, object],
    expected: dict[str, object],
) -> None:
    body = await sent(provider, client, params=params)

    usual = {"model": "tiny", "max_tokens": 8_192, "stream": True}
    assert {name: value for name, value in body.items() if name != "messages"} == usual | expected


@pytest.mark.parametrize("name", ["temperature", "top_p", "stop", "max_tokens"])
async def test_a_configured_value_of_a_wrong_type_is_no_crash(
    provider: FakeProvider, client: AnthropicMessages, name: str
) -> None:
    provider.default = message(anthropic.text("Hello"))
    await sent(provider, client, target_params={name: {"odd": 1}, "store": False})

    assert "store" not in provider.requests[-1].json


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"seed": 1}, "seed"),
        ({"verbosity": "low"}, "verbosity"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"reasoning_effort": "immense"}, "reasoning_effort"),
        ({"a_new_parameter": 1}, "a_new_parameter"),
    ],
)
async def test_parameters_without_a_translation_are_refused(
    provider: FakeProvider, client: AnthropicMessages, params: dict[str, object], param: str
) -> None:
    _, error = await failure(client, request(provider, params=params))

    assert (error.kind, error.param) == (FailureKind.BAD_REQUEST, param)
    assert provider.requests == []


async def test_configured_parameters_may_have_the_names_of_the_api(
    provider: FakeProvider, client: AnthropicMessages
) -> None:
    configured = {"top_k": 5, "max_tokens": 7, "metadata": {"user_id": "u"}, "temperature": 0.1}
    body = await sent(
        provider, client, target_params=configured, params={"temperature": 0.2, "seed": None}
    )

    names = ("top_k", "max_tokens", "metadata", "temperature")
    assert {name: body[name] for name in names} == configured | {"temperature": 0.2}


async def test_the_limit_of_a_request_replaces_the_configured_one(
    provider: FakeProvider, client: AnthropicMessages
) -> None:
    configured = {"max_completion_tokens": 7}
    body = await sent(provider, client, target_params=configured, params={"max_tokens": 5})

    assert body["max_tokens"] == 5


def breakpoints(body: Mapping[str, Any]) -> list[object]:
    """Where a request has cache breakpoints: the tools, the system, or the turn's number."""
    places: list[object] = [
        name for name in ("tools", "system") if "cache_control" in body.get(name, [{}])[-1]
    ]
    turns = enumerate(body["messages"])
    return places + [number for number, turn in turns if "cache_control" in turn["content"][-1]]


async def test_caches_end_behind_tools_system_and_the_last_questions(
    provider: FakeProvider, client: AnthropicMessages
) -> None:
    messages = [text_message(Role.SYSTEM, "Be brief."), user("Hi"), CALLS, *RESULTS]
    messages += [model("Grass."), user("Thanks")]
    body = await sent(provider, client, *messages, tools=(LOOK, NOW))

    assert breakpoints(body) == ["tools", "system", 2, 4]


async def test_a_turn_begins_with_the_bytes_of_the_turn_before(
    provider: FakeProvider, client: AnthropicMessages
) -> None:
    first = [text_message(Role.SYSTEM, "Be brief."), user("Hi"), CALLS, *RESULTS]
    more = [model("Grass."), user("Thanks")]
    before = plain(await sent(provider, client, *first, tools=(LOOK, NOW)))
    after = plain(await sent(provider, client, *first, *more, tools=(LOOK, NOW)))

    assert after["messages"][: len(before["messages"])] == before["messages"]
    assert {**after, "messages": 0} == {**before, "messages": 0}


@pytest.mark.parametrize(
    ("retention", "control"),
    [("none", None), ("short", EPHEMERAL), ("long", {"type": "ephemeral", "ttl": "1h"})],
)
async def test_how_long_caches_are_kept_is_configured(
    provider: FakeProvider, client: AnthropicMessages, retention: str, control: object
) -> None:
    body = await sent(provider, client, target_params={"cacheRetention": retention})

    assert body["messages"][0]["content"][0].get("cache_control") == control
    assert "cacheRetention" not in body


def budget(tokens: int) -> dict[str, object]:
    return {"thinking": {"type": "enabled", "budget_tokens": tokens}}


def adaptive(effort: str, **display: str) -> dict[str, object]:
    return {"thinking": {"type": "adaptive", **display}, "output_config": {"effort": effort}}


SHOWN = {"display": "summarized"}


@pytest.mark.parametrize(
    ("name", "effort", "max_tokens", "expected"),
    [
        ("claude-sonnet-4-5", "none", 64_000, {}),
        ("claude-sonnet-4-5", "minimal", 64_000, budget(1_024)),
        ("claude-sonnet-4-5", "low", 64_000, budget(4_096)),
        ("claude-opus-4-20250514", "medium", 64_000, budget(8_192)),
        ("claude-3-7-sonnet-20250219", "high", 64_000, budget(16_384)),
        ("kimi-k2", "xhigh", 128_000, budget(32_768)),
        ("claude-haiku-4-5-20251001", "high", 8_192, budget(4_096)),
        ("claude-haiku-4-5-20251001", "high", 2_000, {}),
        ("claude-opus-4-6", "minimal", 8_192, adaptive("low")),
        ("claude-sonnet-4.6", "xhigh", 8_192, adaptive("high")),
        ("claude-opus-4-7", "xhigh", 8_192, adaptive("xhigh", **SHOWN)),
        ("anthropic.claude-opus-5", "high", 100, adaptive("high", **SHOWN)),
        ("claude-opus-5-5", "none", 100, {"output_config": {"effort": "low"}}),
    ],
)
async def test_levels_of_thinking(
    provider: FakeProvider,
    client: AnthropicMessages,
    name: str,
    effort: str,
    max_tokens: int,
    expected: dict[str, object],
) -> None:
    params = {"reasoning_effort": effort}
    body = await sent(provider, client, model=name, max_tokens=max_tokens, target_params=params)

    assert body["max_tokens"] == max_tokens
    assert {n: body[n] for n in ("thinking", "output_config") if n in body} == expected


async def test_thinking_goes_without_a_temperature(
    provider: FakeProvider, client: AnthropicMessages
) -> None:
    thinking = {"reasoning_effort": "low"}
    body = await sent(provider, client, target_params=thinking, params={"temperature": 0.3})
    assert "thinking" in body
    assert "temperature" not in body


async def test_a_forced_call_goes_without_thinking(
    provider: FakeProvider, client: AnthropicMessages
) -> None:
    params = {"reasoning_effort": "low", "tool_choice": "required"}
    body = await sent(provider, client, params=params, tools=(NOW,))

    assert "thinking" not in body
    assert body["tool_choice"] == {"type": "any"}


def signed(thought: str, by: str = MODEL) -> Reasoning:
    return Reasoning(thought, signature(thought), by)


NOW_CALL = ToolCall("n", "now", "{}")


@pytest.mark.parametrize(
    ("messages", "reasoning", "thinks"),
    [
        pytest.param(
            [user("Hi"), model(signed("hm"), NOW_CALL), result("n", "noon")],
            [anthropic.thought("hm")],
            True,
            id="while tools are called",
        ),
        pytest.param(
            [
                user("Hi"),
                model(signed("hm"), Reasoning("", "c2Vj", MODEL, True), NOW_CALL),
                result("n", "noon"),
            ],
            [anthropic.thought("hm"), {"type": "redacted_thinking", "data": "c2Vj"}],
            True,
            id="redacted",
        ),
        pytest.param(
            [user("Hi"), model(signed("hm"), NOW_CALL), result("n", "noon"), user("a"), user("b")],
            [anthropic.thought("hm")],
            True,
            id="with messages between steps",
        ),
        pytest.param(
            [user("Hi"), model(signed("hm"), "Hello"), user("How are you?")],
            [],
            True,
            id="of an earlier turn",
        ),
        pytest.param(
            [user("Hi"), model(signed("hm", "other/m"), NOW_CALL), result("n", "noon")],
            [],
            False,
            id="of another model",
        ),
        pytest.param(
            [user("Hi"), model(Reasoning("hm"), NOW_CALL), result("n", "noon")],
            [],
            False,
            id="without a signature",
        ),
    ],
)
async def test_reasoning_goes_back_to_the_model_that_signed_it(
    provider: FakeProvider,
    client: AnthropicMessages,
    messages: list[Message],
    reasoning: list[object],
    thinks: bool,
) -> None:
    params = {"reasoning_effort": "low"}
    body = await sent(provider, client, *messages, tools=(NOW,), params=params)

    kinds = ("thinking", "redacted_thinking")
    blocks = [block for turn in body["messages"] for block in turn["content"]]
    assert [block for block in blocks if block["type"] in kinds] == reasoning
    assert ("thinking" in body) is thinks


def test_forgotten_messages_leave_the_cache() -> None:
    cache = PerMessage(blocks_of)
    kept, gone = user("kept"), user("gone")
    first = cache(kept)
    cache(gone)
    del gone
    gc.collect()

    assert len(cache) == 1
    assert cache(kept) is first

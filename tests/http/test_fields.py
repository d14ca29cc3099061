"""Fields of the body: strict types, limits, and nothing dropped in silence."""

from __future__ import annotations

from typing import Any

import pytest

from opensoul.adapters.transports.openai.chat.request import (
    NEUTRAL,
    PASSED_ON,
    ChatRequest,
    read_request,
)
from opensoul.domain.errors import InvalidRequest, Unsupported
from opensoul.domain.messages import Message, Reasoning, Role, Text, ToolCall

from .client import HI, Client


def read(**fields: Any) -> ChatRequest:
    return read_request({"messages": HI, **fields})


def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        read(**fields)
    return refused.value


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("temperature", 2.1, None),
        ("temperature", -0.1, None),
        ("temperature", "1", None),
        ("temperature", True, None),
        ("temperature", 10**400, None),
        ("top_p", 1.01, None),
        ("top_p", -1, None),
        ("presence_penalty", 2.5, None),
        ("frequency_penalty", -2.5, None),
        ("max_tokens", 0, None),
        ("max_tokens", 1.5, None),
        ("max_tokens", 0.0, None),
        ("max_completion_tokens", float("1e30"), None),
        ("max_tokens", "5", None),
        ("max_tokens", True, None),
        ("max_tokens", 2**63, None),
        ("max_completion_tokens", -1, None),
        ("seed", 1.5, None),
        ("seed", 2**64, None),
        ("stop", [1], None),
        ("stop", 1, None),
        ("stop", {}, None),
        ("stream", "yes", None),
        ("stream", 1, None),
        ("model", 5, None),
        ("model", "x" * 513, None),
        ("user", 5, None),
        ("user", ["a"], None),
        ("user", "a\ud83d", None),
        ("model", "\ude00", None),
        ("parallel_tool_calls", "no", None),
        ("reasoning_effort", 3, None),
        ("service_tier", "", None),
        ("verbosity", ["low"], None),
        ("prompt_cache_key", 5, None),
        ("metadata", {"a": 1}, "metadata.a"),
        ("metadata", {"a" * 65: "1"}, "metadata." + "a" * 65),
        ("metadata", {"a": "1" * 513}, "metadata.a"),
        ("metadata", {str(i): "1" for i in range(17)}, None),
        ("metadata", [], None),
        ("logit_bias", {"1": 101}, "logit_bias.1"),
        ("logit_bias", {"1": "1"}, "logit_bias.1"),
        ("response_format", "json", None),
        ("response_format", {"type": "yaml"}, "response_format.type"),
        ("response_format", {}, "response_format.type"),
        ("response_format", {"type": "json_schema"}, None),
        (
            "response_format",
            {"type": "json_schema", "json_schema": {"name": "a b"}},
            "response_format.json_schema.name",
        ),
        (
            "response_format",
            {"type": "json_schema", "json_schema": {"name": "a", "schema": []}},
            "response_format.json_schema.schema",
        ),
        ("stream_options", True, None),
        ("stream_options", {"include_usage": "yes"}, "stream_options.include_usage"),
        ("messages", "Hi", None),
        ("messages", {}, None),
        ("messages", None, None),
        ("messages", ["Hi"], "messages[0]"),
    ],
)
def test_a_wrong_value_names_its_field(field: str, value: object, param: str | None) -> None:
    error = refusal(**{field: value})

    assert type(error) is InvalidRequest
    assert error.param == (param or field)
    assert f"`{error.param}`" in error.message
    assert len(error.message) < 300


def test_messages_say_what_is_allowed_and_what_was_given() -> None:
    assert refusal(temperature=3).message == (
        "`temperature`: must be less than or equal to 2, not 3."
    )
    assert refusal(stream="yes").message == "`stream`: must be a valid boolean, not 'yes'."
    assert refusal(stop=["a", 1]).message == (
        "`stop`: must be a string or a list of strings, not a list."
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reasoning_effort", "ultra"),
        ("reasoning_effort", ""),
        ("stop", ["a"] * 16),
        ("stop", ""),
        ("verbosity", "loud"),
    ],
)
def test_what_only_the_provider_can_judge_is_passed_on(name: str, value: object) -> None:
    assert read(**{name: value}).params == {name: value}


@pytest.mark.parametrize("name", sorted(PASSED_ON | NEUTRAL.keys() | {"user", "stream", "model"}))
def test_null_asks_for_nothing(name: str) -> None:
    assert read(**{name: None}).params == {}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in NEUTRAL.items() for value in values]
)
def test_neutral_values_are_accepted_and_go_nowhere(name: str, value: object) -> None:
    asked = read(**{name: value})

    assert (asked.params, asked.ignored) == ({}, "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2),
        ("n", 0),
        ("n", True),
        ("n", 2.0),
        ("n", "1"),
        ("logprobs", True),
        ("logprobs", 0),
        ("top_logprobs", 3),
        ("audio", {"voice": "x"}),
        ("modalities", ["text", "audio"]),
        ("prediction", {"type": "content", "content": "x"}),
        ("store", "yes"),
        ("web_search_options", {}),
        ("moderation", {"model": "x"}),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(name: str, value: object) -> None:
    error = refusal(**{name: value})

    assert isinstance(error, Unsupported)
    assert error.param == name
    assert f"`{name}`" in error.message


async def test_unsupported_is_told_as_such(client: Client) -> None:
    reply = await client.chat(n=2)

    assert reply.status == 400
    assert (reply.error["code"], reply.error["param"]) == ("unsupported_parameter", "n")


async def test_fields_that_nobody_knows_are_named_in_the_answer(client: Client) -> None:
    strange: dict[str, Any] = {"top_k": 5, "wéird\r\nx-evil: 1": 2, "gone": None}

    reply = await client.chat(
        **strange,
        messages=[
            {
                "role": "user",
                "content": [{"type": "text", "text": "Hi", "cache_control": {"t": 1}}],
            },
            {"role": "user", "content": "Hi", "weight": 1},
        ],
    )

    assert reply.status == 200
    assert "x-evil" not in reply.headers
    assert reply.headers["x-opensoul-ignored"] == (
        "messages[].content[].cache_control, messages[].weight, top_k, w?ird??x-evil??1"
    )


def test_the_list_of_ignored_fields_is_bounded() -> None:
    ignored = read(**{f"f{i:03}" + "x" * 1_000: 1 for i in range(500)}).ignored

    assert len(ignored) < 2_000
    assert ignored.endswith("and 480 more")


def test_the_usage_chunk_is_for_streams_only() -> None:
    assert read(stream=True, stream_options={"include_usage": True}).include_usage
    assert not read(stream=True, stream_options={"include_usage": False}).include_usage
    assert not read(stream=True, stream_options={}).include_usage
    assert not read(stream=True).include_usage
    assert not read(stream_options={"include_usage": True}).include_usage
    assert not read(stream=False, stream_options={"include_obfuscation": True}).include_usage
    obfuscated = refusal(stream=True, stream_options={"include_obfuscation": True})
    assert (type(obfuscated), obfuscated.param) == (
        Unsupported,
        "stream_options.include_obfuscation",
    )
    assert read(stream=True, stream_options={"x": 1}).ignored == "stream_options.x"


def messages_of(*messages: Any) -> tuple[Message, ...]:
    return read(messages=[*messages, *HI]).messages[:-1]


def test_every_role_has_its_place() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{"}}
    assert messages_of(
        {"role": "system", "content": "s"},
        {"role": "developer", "content": "d"},
        {"role": "user", "content": "u", "name": "Ann"},
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None},
        {"role": "tool", "content": [{"type": "text", "text": "t"}], "tool_call_id": "c1"},
        {"role": "assistant", "content": "a", "reasoning_content": "hm", "tool_calls": [call]},
    ) == (
        Message(Role.SYSTEM, (Text("s"),)),
        Message(Role.SYSTEM, (Text("d"),)),
        Message(Role.USER, (Text("u"),), name="Ann"),
        Message(Role.ASSISTANT, (ToolCall("c1", "f", "{"),)),
        Message(Role.TOOL, (Text("t"),), tool_call_id="c1"),
        Message(Role.ASSISTANT, (Reasoning("hm"), Text("a"), ToolCall("c1", "f", "{"))),
    )


def test_the_older_function_calls_get_ids_that_match() -> None:
    assert messages_of(
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}},
        {"role": "function", "name": "f", "content": "1"},
    ) == (
        Message(Role.ASSISTANT, (ToolCall("function_call_1", "f", ""),)),
        Message(Role.TOOL, (Text("1"),), name="f", tool_call_id="function_call_1"),
    )
    assert messages_of({"role": "function", "name": "f", "content": "1"}) == (
        Message(Role.TOOL, (Text("1"),), name="f"),
    )


def test_refusals_of_the_assistant_are_speech() -> None:
    assert messages_of(
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "Never."}]},
    ) == (
        Message(Role.ASSISTANT, (Text("No."),)),
        Message(Role.ASSISTANT, (Text("Never."),)),
    )


def test_the_older_spelling_of_a_text_part_is_read() -> None:
    part = {"type": "input_text", "input_text": "old"}
    assert messages_of({"role": "user", "content": [part]})[0].text == "old"


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"content": "Hi"}, "role"),
        ({"role": "king", "content": "Hi"}, "role"),
        ({"role": 5, "content": "Hi"}, "role"),
        ({"role": "user"}, "content"),
        ({"role": "user", "content": None}, "content"),
        ({"role": "user", "content": 5}, "content"),
        ({"role": "user", "content": {}}, "content"),
        ({"role": "tool", "content": None}, "content"),
        ({"role": "assistant", "content": 5}, "content"),
        ({"role": "user", "content": "Hi", "name": 5}, "name"),
        ({"role": "user", "content": ["Hi"]}, "content[0]"),
        ({"role": "user", "content": [{"text": "Hi"}]}, "content[0].type"),
        ({"role": "user", "content": [{"type": "poem", "text": "Hi"}]}, "content[0].type"),
        ({"role": "user", "content": [{"type": "refusal", "refusal": "x"}]}, "content[0].type"),
        ({"role": "user", "content": [{"type": "text"}]}, "content[0].text"),
        ({"role": "user", "content": [{"type": "text", "text": 5}]}, "content[0].text"),
        ({"role": "tool", "content": "x", "tool_call_id": 5}, "tool_call_id"),
        ({"role": "assistant", "content": "x", "refusal": 5}, "refusal"),
        ({"role": "assistant", "tool_calls": {}}, "tool_calls"),
        ({"role": "assistant", "tool_calls": [5]}, "tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, "tool_calls[0].id"),
        ({"role": "assistant", "tool_calls": [{"id": "1"}]}, "tool_calls[0].function"),
        (
            {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
            "tool_calls[0].function.arguments",
        ),
        ({"role": "assistant", "function_call": "f"}, "function_call"),
    ],
)
def test_a_wrong_message_names_the_path(message: object, param: str) -> None:
    error = refusal(messages=[*HI, message])

    assert type(error) is InvalidRequest
    assert error.param == f"messages[1].{param}"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {}},
        {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
        {"type": "image", "source": {}},
    ],
)
def test_parts_of_other_kinds_are_refused_by_their_path(part: object) -> None:
    content = [{"type": "text", "text": "What is this?"}, part]

    error = refusal(messages=[{"role": "user", "content": content}])

    assert (type(error), error.param) == (Unsupported, "messages[0].content[1]")


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "assistant", "audio": {"id": "x"}}, "audio"),
        (
            {"role": "assistant", "tool_calls": [{"id": "1", "type": "custom", "custom": {}}]},
            "tool_calls[0].type",
        ),
    ],
)
def test_what_assistants_cannot_have_said_here_is_unsupported(message: object, param: str) -> None:
    error = refusal(messages=[*HI, message])

    assert (type(error), error.param) == (Unsupported, f"messages[1].{param}")

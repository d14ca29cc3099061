"""`POST /v1/completions`: one prompt, answered as text, for clients of the older format."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from openai import AsyncOpenAI

from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.models import ModelFinished, StopReason, TextDelta, Usage
from opensoul.domain.runs import Aborted
from opensoul.domain.settings import EndpointSettings

from .app import HELLO, TOKEN, Harness
from .client import BEARER, Client, Reply, bare
from .test_openapi import answer_of, made, problems

PATH = "/v1/completions"


async def complete(
    client: Client, *, headers: Mapping[str, str] | None = None, **fields: Any
) -> Reply:
    body = {"model": "opensoul", "prompt": "Say hello.", **fields}
    sent = {**BEARER, "Content-Type": "application/json", **(headers or {})}
    return await client.ask("POST", PATH, headers=sent, data=json.dumps(body).encode())


def texts(reply: Reply) -> list[str]:
    return [choice["text"] for chunk in reply.chunks for choice in chunk["choices"]]


@pytest.mark.parametrize("prompt", ["Say hello.", ["Say hello."]])
async def test_a_prompt_is_said_to_the_agent_and_its_answer_is_the_text(
    gateway: Harness, client: Client, prompt: object
) -> None:
    reply = await complete(client, prompt=prompt, model="opensoul/beta")

    assert reply.status == 200
    run = reply.headers["x-opensoul-run-id"]
    assert reply.headers["x-opensoul-agent-id"] == "beta"
    created = reply.json.pop("created")
    assert {**reply.json, "created": created} == {
        "id": f"cmpl-{run}",
        "object": "text_completion",
        "created": created,
        "model": "opensoul/beta",
        "choices": [{"text": "Hello", "index": 0, "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 2,
            "total_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }
    (said,) = gateway.model.seen[0].messages
    assert said.text == "Say hello."


async def test_a_stream_has_the_pieces_of_the_text_and_then_its_end(client: Client) -> None:
    reply = await complete(client, stream=True, stream_options={"include_usage": True})

    assert reply.headers["Content-Type"].startswith("text/event-stream")
    assert reply.frames[-1] == "[DONE]"
    *pieces, end, usage = reply.chunks
    assert texts(reply) == ["Hel", "lo", ""]
    assert [chunk["choices"][0]["finish_reason"] for chunk in pieces] == [None, None]
    assert end["choices"][0]["finish_reason"] == "stop"
    assert {chunk["usage"] for chunk in (*pieces, end)} == {None}
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 9)
    assert len({(chunk["id"], chunk["object"], chunk["created"]) for chunk in reply.chunks}) == 1
    assert "usage" not in (await complete(client, stream=True)).chunks[0]


async def test_the_id_of_an_event_names_the_run_and_the_last_of_its_events(client: Client) -> None:
    reply = await complete(client, stream=True, headers={"Idempotency-Key": "a"})

    run = reply.headers["x-opensoul-run-id"]
    assert [one.rpartition(":")[0] for one in reply.ids] == [run] * 3
    numbers = [int(one.rpartition(":")[2]) for one in reply.ids]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("stream", [True, False])
async def test_echo_puts_the_prompt_before_the_answer(client: Client, stream: bool) -> None:
    reply = await complete(client, prompt="Once: ", echo=True, stream=stream)

    answered = texts(reply) if stream else [reply.json["choices"][0]["text"]]
    assert "".join(answered) == "Once: Hello"


async def test_an_echo_of_an_answer_without_text_is_the_prompt(
    gateway: Harness, client: Client
) -> None:
    gateway.model.script = (ModelFinished(StopReason.CONTENT_FILTER, Usage(1, 0)),)
    reply = await complete(client, prompt="Once: ", echo=True, stream=True)

    assert texts(reply) == ["Once: "]


@pytest.mark.parametrize("stop", ["stop", "length", "content_filter"])
@pytest.mark.parametrize("stream", [True, False])
async def test_the_reason_for_the_end(
    gateway: Harness, client: Client, stop: str, stream: bool
) -> None:
    gateway.model.script = (TextDelta("Hm"), ModelFinished(StopReason(stop), Usage(1, 1)))
    reply = await complete(client, stream=stream)

    (last, *_) = [reply.json] if not stream else reply.chunks[::-1]
    assert last["choices"][0]["finish_reason"] == stop


async def test_parameters_reach_the_model(gateway: Harness, client: Client) -> None:
    parameters: dict[str, Any] = {
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.5,
        "seed": 1,
        "stop": ["\n"],
        "presence_penalty": 1,
        "frequency_penalty": -1,
        "logit_bias": {"50256": -100},
    }
    neutral: dict[str, Any] = {"n": 1, "best_of": 1, "logprobs": None, "suffix": "", "tools": []}
    reply = await complete(client, **parameters, **neutral)

    assert reply.status == 200
    assert gateway.model.seen[0].params == parameters
    assert "x-opensoul-ignored" not in reply.headers


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"prompt": None}, "prompt", "missing"),
        ({"prompt": "  "}, "prompt", "empty"),
        ({"prompt": [""]}, "prompt", "empty"),
        ({"prompt": []}, "prompt", "must be a string"),
        ({"prompt": {}}, "prompt", "must be a string"),
        ({"prompt": 1}, "prompt", "must be a string"),
        ({"prompt": [{}]}, "prompt", "must be a string"),
        ({"prompt": [1, 2]}, "prompt", "tokens"),
        ({"prompt": [[1, 2]]}, "prompt", "tokens"),
        ({"prompt": [[1], [2]]}, "prompt", "tokens"),
        ({"prompt": ["a", "b"]}, "prompt", "a request for each prompt"),
        ({"suffix": "end"}, "suffix", "not supported"),
        ({"n": 2}, "n", "not supported"),
        ({"best_of": 2}, "best_of", "not supported"),
        ({"logprobs": 0}, "logprobs", "not supported"),
        ({"echo": 1}, "echo", "boolean"),
        ({"max_tokens": 0}, "max_tokens", "greater"),
        ({"stop": [1]}, "stop", "list of strings"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", "boolean"),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
            "not supported",
        ),
        ({"tools": [{"type": "function"}]}, "tools", "not supported"),
        ({"functions": [{"name": "f"}]}, "functions", "not supported"),
        ({"tool_choice": "required"}, "tool_choice", "not supported"),
    ],
)
async def test_what_is_not_possible_is_refused_by_its_name(
    gateway: Harness, client: Client, fields: dict[str, Any], param: str, says: str
) -> None:
    reply = await complete(client, **fields)

    assert (reply.status, reply.error["param"]) == (400, param)
    assert says in reply.error["message"]
    assert gateway.model.seen == []


async def test_a_conversation_is_shown_the_way_to_chat_completions(client: Client) -> None:
    reply = await complete(client, prompt=None, messages=[{"role": "user", "content": "Hi"}])

    assert "POST /v1/chat/completions" in reply.error["message"]


async def test_what_has_no_effect_is_named(client: Client) -> None:
    headers = {"x-opensoul-events": "tools", "x-opensoul-reasoning": "include"}
    reply = await complete(client, chat_template="x", headers=headers)

    assert reply.headers["x-opensoul-ignored"] == (
        "chat_template, x-opensoul-events, x-opensoul-reasoning"
    )


async def test_requests_of_one_user_go_on_with_one_session(
    gateway: Harness, client: Client
) -> None:
    first = await complete(client, user="alice")
    second = await complete(client, user="alice", prompt="Again.")

    assert first.headers["x-opensoul-session-key"] == second.headers["x-opensoul-session-key"]
    said = [message.text for message in gateway.model.seen[1].messages]
    assert said == ["Say hello.", "Hello", "Again."]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_repeated_request_gets_the_same_answer(
    gateway: Harness, client: Client, stream: bool
) -> None:
    key = {"Idempotency-Key": "once"}
    first = await complete(client, headers=key, stream=stream)
    second = await complete(client, headers=key, stream=stream)

    assert first.status == second.status == 200
    assert first.headers["x-opensoul-run-id"] == second.headers["x-opensoul-run-id"]
    if stream:
        assert "".join(texts(first)) == "".join(texts(second)) == "Hello"
    else:
        assert first.json == second.json
    assert len(gateway.model.seen) == 1


async def test_a_failure_before_the_first_piece_has_its_status(
    gateway: Harness, client: Client
) -> None:
    gateway.model.script = (ModelFailed(FailureKind.RATE_LIMIT, "Slow."),)
    reply = await complete(client, stream=True)

    assert (reply.status, reply.error["code"]) == (429, "rate_limit_exceeded")


async def test_a_stream_that_breaks_ends_with_an_error(gateway: Harness, client: Client) -> None:
    gateway.model.script = (TextDelta("Hel"), ModelFailed(FailureKind.BAD_RESPONSE, "Cut."))
    reply = await complete(client, stream=True)

    assert reply.status == 200
    assert reply.chunks[0]["choices"][0]["text"] == "Hel"
    assert reply.chunks[-1]["error"]["code"] == "provider_bad_response"
    assert "[DONE]" not in reply.frames


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_stops_the_run(gateway: Harness, stream: bool) -> None:
    gateway.model.script = (TextDelta("Hel"), asyncio.Event())
    body = json.dumps({"prompt": "Hi", "stream": stream}).encode()
    async with bare(gateway.port) as wire:
        wire.send_head(f"Content-Length: {len(body)}", path=PATH)
        wire.writer.write(body)
        await gateway.model.called.wait()
        wire.leave()
        assert await gateway.run_log.end_of() == Aborted("The client left.")


async def test_it_is_served_only_while_it_is_switched_on(gateway: Harness, client: Client) -> None:
    gateway.settings = replace(gateway.settings, endpoints=EndpointSettings())
    reply = await complete(client)

    assert (reply.status, reply.error["code"]) == (404, "endpoint_disabled")
    assert "gateway.http.endpoints.completions.enabled" in reply.error["message"]
    assert "POST /v1/chat/completions" in reply.error["message"]


async def test_answers_and_examples_fit_the_document(gateway: Harness, client: Client) -> None:
    whole = made(gateway)
    content = whole["paths"][PATH]["post"]["requestBody"]["content"]["application/json"]
    chunk = {"$ref": "#/components/schemas/TextCompletionChunk"}

    assert set(content["examples"]) == {"prompt", "stream"}
    for example in content["examples"].values():
        reply = await complete(client, **example["value"])
        assert reply.status == 200
        if example["value"].get("stream"):
            found = [problems(sent, chunk, whole) for sent in reply.chunks]
            assert found == [[]] * len(reply.chunks)
        else:
            assert problems(reply.json, answer_of(whole, PATH, "post", 200), whole) == []


@pytest.fixture
async def official(gateway: Harness) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=gateway.url + "/v1", api_key=TOKEN) as client:
        yield client


async def test_openais_client_reads_an_answer_and_a_stream(official: AsyncOpenAI) -> None:
    whole = await official.completions.create(model="opensoul", prompt="Hi", max_tokens=9)
    assert whole.choices[0].text == "Hello"
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert whole.usage.total_tokens == 9

    said, usage = "", None
    stream = await official.completions.create(
        model="opensoul", prompt="Hi", stream=True, stream_options={"include_usage": True}
    )
    async for chunk in stream:
        said += "".join(choice.text for choice in chunk.choices)
        usage = chunk.usage or usage
    assert said == "Hello"
    assert usage is not None
    assert usage.completion_tokens == HELLO[-1].usage.output  # type: ignore[union-attr]

"""`POST /v1/embeddings`: the vectors of texts, whole or in base64."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from opensoul.domain.access import Scope
from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.settings import EndpointSettings

from .app import TOKEN, Harness
from .client import BEARER, Client, Reply, bare
from .conftest import AccessLog
from .test_openapi import answer_of, made, problems

PATH = "/v1/embeddings"


async def embed(
    client: Client, *, headers: Mapping[str, str] | None = None, **fields: Any
) -> Reply:
    body = {"model": "opensoul", "input": "Hello", **fields}
    sent = {**BEARER, "Content-Type": "application/json", **(headers or {})}
    return await client.ask("POST", PATH, headers=sent, data=json.dumps(body).encode())


async def test_a_text_gets_its_vector(gateway: Harness, client: Client) -> None:
    reply = await embed(client)

    assert reply.status == 200
    assert reply.json == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [5.0, 0.5]}],
        "model": "fake/embed-1",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    assert gateway.embedder.seen[0].texts == ("Hello",)


async def test_vectors_have_the_order_of_the_texts(client: Client) -> None:
    reply = await embed(client, input=["a", "bbb", "cc"])

    assert [item["index"] for item in reply.json["data"]] == [0, 1, 2]
    assert [item["embedding"][0] for item in reply.json["data"]] == [1.0, 3.0, 2.0]


async def test_base64_holds_the_same_numbers(client: Client) -> None:
    reply = await embed(client, input=["a", "bb"], encoding_format="base64")

    packed = [base64.b64decode(item["embedding"]) for item in reply.json["data"]]
    assert [struct.unpack("<ff", vector) for vector in packed] == [(1.0, 0.5), (2.0, 0.5)]


async def test_many_texts_are_sent_to_the_model_in_parts(gateway: Harness, client: Client) -> None:
    reply = await embed(client, input=["x" * (i % 7 + 1) for i in range(2_048)])

    assert [item["embedding"][0] for item in reply.json["data"]] == [
        float(i % 7 + 1) for i in range(2_048)
    ]
    assert {len(request.texts) for request in gateway.embedder.seen} == {64}
    assert reply.json["usage"]["total_tokens"] == 3 * 32


async def test_usage_is_estimated_where_the_model_reports_none(
    gateway: Harness, client: Client
) -> None:
    gateway.embedder.usage = None
    reply = await embed(client, input="twelve bytes")

    assert reply.json["usage"] == {"prompt_tokens": 4, "total_tokens": 4, "estimated": True}


@pytest.mark.parametrize(
    ("model", "answers"),
    [
        ("opensoul", "fake/embed-1"),
        ("opensoul/beta", "fake/embed-1"),
        ("openclaw:alpha", "fake/embed-1"),
        ("beta", "fake/embed-1"),
        ("embed-2", "fake/embed-2"),
        ("fake/embed-2", "fake/embed-2"),
        (None, "fake/embed-1"),
    ],
)
async def test_a_model_is_named_by_itself_and_the_first_one_by_every_agent(
    client: Client, model: str | None, answers: str
) -> None:
    assert (await embed(client, model=model)).json["model"] == answers


async def test_the_header_chooses_the_model(client: Client) -> None:
    reply = await embed(client, headers={"x-opensoul-model": "fake/embed-2"})

    assert reply.json["model"] == "fake/embed-2"


@pytest.mark.parametrize("model", ["text-embedding-3-small", "opensoul/nobody", "fake/fake-1"])
async def test_an_unknown_model_is_not_found(gateway: Harness, client: Client, model: str) -> None:
    reply = await embed(client, model=model)

    assert (reply.status, reply.error["code"]) == (404, "model_not_found")
    assert reply.error["param"] == "model"
    assert "does not exist or you do not have access to it" in reply.error["message"]
    assert "fake/embed-1, fake/embed-2" in reply.error["message"]
    assert gateway.embedder.seen == []


async def test_without_a_configured_model_the_setting_is_named(
    gateway: Harness, client: Client
) -> None:
    gateway.settings = replace(gateway.settings, embedding_models=())
    reply = await embed(client)

    assert (reply.status, reply.error["code"]) == (501, "unavailable")
    assert "gateway.http.endpoints.embeddings.models" in reply.error["message"]


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"input": None}, "input", "missing"),
        ({"input": ""}, "input", "empty"),
        ({"input": ["a", ""]}, "input", "`input[1]` is empty"),
        ({"input": []}, "input", "must be a string"),
        ({"input": 5}, "input", "must be a string"),
        ({"input": {"text": "a"}}, "input", "must be a string"),
        ({"input": ["a", None]}, "input", "`input[1]` must be a string"),
        ({"input": [1, 2, 3]}, "input", "tokens"),
        ({"input": [[1, 2], [3]]}, "input", "tokens"),
        ({"input": ["a"] * 2_049}, "input", "the limit is 2048"),
        ({"dimensions": 0}, "dimensions", "greater"),
        ({"dimensions": "2"}, "dimensions", "integer"),
        ({"encoding_format": "int8"}, "encoding_format", "'float' or 'base64'"),
        ({"input_type": 5}, "input_type", "string"),
    ],
)
async def test_what_is_not_possible_is_refused_by_its_name(
    gateway: Harness, client: Client, fields: dict[str, Any], param: str, says: str
) -> None:
    reply = await embed(client, **fields)

    assert (reply.status, reply.error["param"]) == (400, param)
    assert says in reply.error["message"]
    assert gateway.embedder.seen == []


async def test_parameters_reach_the_model(gateway: Harness, client: Client) -> None:
    reply = await embed(client, dimensions=256.0, input_type="query")

    assert reply.status == 200
    (request,) = gateway.embedder.seen
    assert (request.dimensions, request.input_type) == (256, "query")


async def test_what_has_no_effect_is_named(client: Client) -> None:
    headers = {"x-opensoul-session-key": "main", "x-opensoul-odd": "1"}
    reply = await embed(client, user="alice", headers=headers)

    ignored = reply.headers["x-opensoul-ignored"]
    assert ignored == "user, x-opensoul-odd, x-opensoul-session-key"


async def test_no_run_begins_and_no_session(gateway: Harness, client: Client) -> None:
    reply = await embed(client)

    assert gateway.run_log.runs == []
    assert not [name for name in reply.headers if name.lower().startswith("x-opensoul-")]


async def test_the_access_log_has_the_model_and_the_tokens_and_no_text(
    client: Client, access_log: AccessLog
) -> None:
    await embed(client, input=["a secret text", "b"])

    line = await access_log.line()
    assert (line["model"], line["inputs"], line["tokens"]) == ("fake/embed-1", 2, 3)
    assert line["outcome"] == "answered"
    assert "secret" not in repr(line)


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (FailureKind.RATE_LIMIT, 429, "rate_limit_exceeded"),
        (FailureKind.AUTH, 502, "provider_auth"),
        (FailureKind.TIMEOUT, 504, "provider_timeout"),
        (FailureKind.BAD_REQUEST, 400, "provider_bad_request"),
    ],
)
async def test_a_failure_of_the_provider_has_its_status(
    gateway: Harness, client: Client, kind: FailureKind, status: int, code: str
) -> None:
    gateway.embedder.failure = ModelFailed(kind, "It failed.")
    reply = await embed(client)

    assert (reply.status, reply.error["code"]) == (status, code)


async def test_a_client_that_leaves_ends_the_call(gateway: Harness) -> None:
    gateway.embedder.gate = asyncio.Event()
    async with bare(gateway.port) as wire:
        body = b'{"input":"Hello"}'
        wire.send_head(f"Content-Length: {len(body)}", path=PATH)
        wire.writer.write(body)
        await gateway.embedder.called.wait()
        wire.leave()
        async with asyncio.timeout(10):
            await gateway.embedder.left.wait()


async def test_too_many_requests_at_once_are_refused(gateway: Harness, client: Client) -> None:
    gateway.embedder.gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(embed(client)) for _ in range(64)]
        async with asyncio.timeout(10):
            while len(gateway.embedder.seen) < 64:
                gateway.embedder.called.clear()
                await gateway.embedder.called.wait()
        refused = await embed(client)
        gateway.embedder.gate.set()

    assert (refused.status, refused.error["code"]) == (503, "gateway_busy")
    assert refused.headers["Retry-After"] == "1"
    assert {task.result().status for task in waiting} == {200}
    assert (await embed(client)).status == 200


async def test_it_needs_the_scope_to_write(gateway: Harness, client: Client) -> None:
    gateway.gateway.scopes = frozenset({Scope.READ})

    assert (await embed(client)).status == 403


async def test_it_is_served_only_while_it_is_switched_on(gateway: Harness, client: Client) -> None:
    gateway.settings = replace(gateway.settings, endpoints=EndpointSettings())
    reply = await embed(client)

    assert (reply.status, reply.error["code"]) == (404, "endpoint_disabled")
    assert "gateway.http.endpoints.embeddings.enabled" in reply.error["message"]


async def test_answers_and_examples_fit_the_document(gateway: Harness, client: Client) -> None:
    whole = made(gateway)
    content = whole["paths"][PATH]["post"]["requestBody"]["content"]["application/json"]

    assert set(content["examples"]) == {"one", "several"}
    for example in content["examples"].values():
        reply = await embed(client, **example["value"])
        assert reply.status == 200
        assert problems(reply.json, answer_of(whole, PATH, "post", 200), whole) == []
    refused = await embed(client, model="none")
    assert problems(refused.json, answer_of(whole, PATH, "post", 404), whole) == []


@pytest.fixture
async def official(gateway: Harness) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=gateway.url + "/v1", api_key=TOKEN) as client:
        yield client


async def test_openais_client_reads_the_vectors(gateway: Harness, official: AsyncOpenAI) -> None:
    answer = await official.embeddings.create(model="opensoul", input=["a", "bb"])
    assert [item.embedding for item in answer.data] == [[1.0, 0.5], [2.0, 0.5]]
    assert answer.usage.total_tokens == 3

    numbers = await official.embeddings.create(
        model="embed-2", input="ccc", encoding_format="float", dimensions=2
    )
    assert numbers.data[0].embedding == [3.0, 0.5]
    with pytest.raises(openai.NotFoundError):
        await official.embeddings.create(model="text-embedding-3-small", input="a")

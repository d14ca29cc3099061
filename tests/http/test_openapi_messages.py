"""The OpenAPI document says of the Messages API what the endpoint does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.models import TextDelta
from opensoul.domain.settings import EndpointSettings

from .app import Harness
from .client import BEARER, Client, Reply
from .test_messages import CALLING, COUNT, PATH, THINKING
from .test_openapi import answer_of, made, problems


@pytest.fixture(autouse=True)
def switched_on(gateway: Harness) -> None:
    gateway.settings = replace(gateway.settings, endpoints=EndpointSettings(messages=True))


def examples(whole: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """The bodies of requests in the document, by their names."""
    content = whole["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    return {name: example["value"] for name, example in content["examples"].items()}


async def send(client: Client, path: str, body: Mapping[str, Any]) -> Reply:
    headers = {**BEARER, "Content-Type": "application/json"}
    return await client.ask("POST", path, headers=headers, data=json.dumps(body).encode())


async def test_every_example_of_a_request_is_answered(gateway: Harness, client: Client) -> None:
    whole = made(gateway)
    answer = answer_of(whole, PATH, "post", 200)

    found = examples(whole, PATH)
    assert found.keys() == {"question", "stream", "tools", "tool_results", "same_session"}
    for name, body in found.items():
        reply = await send(client, PATH, body)
        assert reply.status == 200, name
        if name == "stream":
            assert reply.body.startswith(b"event: message_start\n")
        else:
            assert problems(reply.json, answer, whole) == [], name
    for body in examples(whole, COUNT).values():
        reply = await send(client, COUNT, body)
        assert problems(reply.json, answer_of(whole, COUNT, "post", 200), whole) == []


@pytest.mark.parametrize("script", [CALLING, THINKING])
async def test_every_block_of_an_answer_is_in_the_document(
    gateway: Harness, client: Client, script: Any
) -> None:
    gateway.model.script = script
    whole = made(gateway)
    tools = examples(whole, PATH)["tools"]
    weather = {**tools["tools"][0], "name": "weather"}
    reply = await send(client, PATH, {**tools, "tools": [weather]})

    assert reply.status == 200
    assert problems(reply.json, answer_of(whole, PATH, "post", 200), whole) == []


@pytest.mark.parametrize("kind", FailureKind)
async def test_every_failure_of_a_model_is_in_the_document(
    gateway: Harness, client: Client, kind: FailureKind
) -> None:
    gateway.model.script = (ModelFailed(kind, "No luck."), TextDelta("never"))
    whole = made(gateway)
    reply = await send(client, PATH, examples(whole, PATH)["question"])
    assert "No luck." in reply.json["error"]["message"]

    responses = whole["paths"][PATH]["post"]["responses"]
    content = responses[str(reply.status)]["content"]["application/json"]
    assert problems(reply.json, content["schema"], whole) == []
    example = content["examples"]["error"]["value"]
    assert example.keys() == reply.json.keys()

"""The model list holds the agents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from opensoul.domain.agents import Agent, AgentDirectory
from opensoul.domain.models import ModelTarget, Provider
from opensoul.domain.settings import EndpointSettings

from .app import Harness
from .client import BEARER, Client, Reply
from .test_openapi import answer_of, made, problems

VERSIONED = {"anthropic-version": "2023-06-01"}


async def test_the_list_names_every_agent_and_the_default_one_twice(client: Client) -> None:
    reply = await client.get("/v1/models")

    assert reply.status == 200
    assert reply.json["object"] == "list"
    models = {model["id"]: model for model in reply.json["data"]}
    assert list(models) == [
        "opensoul",
        "opensoul/default",
        "opensoul/main",
        "opensoul/beta",
        "opensoul/alpha",
        "opensoul/demo",
        "fake/embed-1",
        "fake/embed-2",
    ]
    for model in models.values():
        assert model["object"] == "model"
        assert model["created"] == 1_700_000_000
        assert model["owned_by"] == ("fake" if "embed" in model["id"] else "opensoul")
    assert models["opensoul"]["opensoul"] == {"agent": "main", "name": "Main"}


async def test_an_agent_that_only_pretends_is_labelled(client: Client) -> None:
    demo = (await client.get("/v1/models/opensoul/demo")).json
    real = (await client.get("/v1/models/opensoul/beta")).json

    assert demo["opensoul"]["scripted"] is True
    assert "no language model" in demo["description"]
    assert "scripted" not in real["opensoul"]


@pytest.mark.parametrize(
    ("path", "model_id", "agent"),
    [
        ("opensoul", "opensoul", "main"),
        ("opensoul/default", "opensoul/default", "main"),
        ("opensoul/beta", "opensoul/beta", "beta"),
        ("opensoul%2Fbeta", "opensoul/beta", "beta"),
        ("opensoul:beta", "opensoul:beta", "beta"),
        ("openclaw/beta", "openclaw/beta", "beta"),
        ("openclaw", "openclaw", "main"),
        ("agent:beta", "agent:beta", "beta"),
        ("beta", "beta", "beta"),
    ],
)
async def test_a_model_is_found_under_every_spelling(
    client: Client, path: str, model_id: str, agent: str
) -> None:
    reply = await client.get(f"/v1/models/{path}")

    assert reply.status == 200
    assert (reply.json["id"], reply.json["opensoul"]["agent"]) == (model_id, agent)


@pytest.mark.parametrize("name", ["gpt-5", "opensoul/nobody", "opensoul/beta/x", "%00", "%ff"])
async def test_an_unknown_model_is_said_to_be_unknown(client: Client, name: str) -> None:
    reply = await client.get(f"/v1/models/{name}")

    assert (reply.status, reply.error["code"]) == (404, "model_not_found")
    assert reply.error["param"] == "model"


async def test_a_head_request_is_answered_like_a_get(client: Client) -> None:
    reply = await client.ask("HEAD", "/v1/models")

    assert (reply.status, reply.body) == (200, b"")
    posted = await client.ask("POST", "/v1/models")
    assert (posted.status, posted.headers["Allow"]) == (405, "GET, HEAD")


def serve(gateway: Harness, *targets: ModelTarget, runner: str = "native") -> None:
    agent = Agent("main", "Main", models=targets, runner=runner)
    gateway.settings = replace(gateway.settings, agents=AgentDirectory([agent], "main"))


def target(api: str = "openai-completions", **more: Any) -> ModelTarget:
    return ModelTarget(Provider("acme", api), "m", **more)


async def shown(client: Client, name: str = "opensoul/main") -> Any:
    return (await client.get(f"/v1/models/{name}")).json


async def test_an_agent_shows_what_its_models_can_do(gateway: Harness, client: Client) -> None:
    seeing = target(context_window=32_000, reasoning=True, inputs=("text", "image"))
    serve(gateway, seeing)
    model = await shown(client)

    assert model["context_length"] == 32_000
    assert model["architecture"] == {
        "input_modalities": ["text", "image", "file"],
        "output_modalities": ["text"],
    }
    assert {"tools", "response_format", "seed", "reasoning_effort"} <= {
        *model["supported_parameters"]
    }


@pytest.mark.parametrize(
    ("api", "absent"),
    [
        ("openai-completions", {"reasoning_effort"}),
        ("anthropic-messages", {"seed", "logit_bias", "frequency_penalty", "reasoning_effort"}),
        ("local", {"tools", "tool_choice", "reasoning_effort"}),
    ],
)
async def test_an_agent_does_not_show_what_its_model_cannot(
    gateway: Harness, client: Client, api: str, absent: set[str]
) -> None:
    serve(gateway, target(api))
    model = await shown(client)

    assert model["architecture"]["input_modalities"] == ["text", "file"]
    assert "max_tokens" in model["supported_parameters"]
    assert not absent & {*model["supported_parameters"]}


async def test_a_picture_may_go_to_a_fallback(gateway: Harness, client: Client) -> None:
    serve(gateway, target(), target(inputs=("text", "image")))

    assert "image" in (await shown(client))["architecture"]["input_modalities"]


@pytest.mark.parametrize("runner", ["echo", "native"])
async def test_of_an_agent_without_known_models_nothing_is_claimed(
    gateway: Harness, client: Client, runner: str
) -> None:
    serve(gateway, *([target()] if runner == "echo" else [target("scripted")]), runner=runner)
    model = await shown(client)

    assert not {"context_length", "architecture", "supported_parameters"} & model.keys()


async def test_the_names_of_people_tell_the_models_apart(client: Client) -> None:
    models = (await client.get("/v1/models")).json["data"]
    names = [model["name"] for model in models]

    assert names[:3] == ["Main (opensoul)", "Main (opensoul/default)", "Main"]
    assert len(set(names)) == len(names)


async def test_embedding_models_are_marked_and_listed_while_they_are_served(
    gateway: Harness, client: Client
) -> None:
    model = await shown(client, "fake/embed-2")
    assert model["opensoul"] == {"embeddings": True}
    assert model["architecture"]["output_modalities"] == ["embeddings"]

    gateway.settings = replace(gateway.settings, endpoints=EndpointSettings())
    listed = [model["id"] for model in (await client.get("/v1/models")).json["data"]]
    assert "fake/embed-2" not in listed
    assert (await client.get("/v1/models/fake/embed-2")).status == 404


@pytest.mark.parametrize("endpoint", ["responses", "messages", "completions", "embeddings"])
async def test_any_endpoint_whose_clients_list_models_turns_the_list_on(
    gateway: Harness, client: Client, endpoint: str
) -> None:
    gateway.chat(enabled=False)
    gateway.settings = replace(gateway.settings, endpoints=EndpointSettings(**{endpoint: True}))

    assert (await client.get("/v1/models")).status == 200


async def ask_versioned(client: Client, path: str, headers: dict[str, str] = BEARER) -> Reply:
    return await client.get(path, headers={**headers, **VERSIONED})


async def test_a_client_of_anthropic_gets_the_list_in_its_format(client: Client) -> None:
    reply = await ask_versioned(client, "/v1/models")
    listed = reply.json

    assert reply.headers["request-id"] == reply.headers["x-request-id"]
    assert list(listed) == ["data", "has_more", "first_id", "last_id"]
    assert listed["data"][2] == {
        "type": "model",
        "id": "opensoul/main",
        "display_name": "Main",
        "created_at": "2023-11-14T22:13:20Z",
    }
    assert (listed["has_more"], listed["first_id"]) == (False, "opensoul")
    assert listed["last_id"] == "opensoul/demo"
    one = (await ask_versioned(client, "/v1/models/beta")).json
    assert (one["type"], one["id"], one["display_name"]) == ("model", "beta", "Beta (beta)")


@pytest.mark.parametrize(
    ("query", "ids", "more"),
    [
        ("limit=2", ["opensoul", "opensoul/default"], True),
        ("limit=2&after_id=opensoul/default", ["opensoul/main", "opensoul/beta"], True),
        ("limit=2&after_id=opensoul/beta", ["opensoul/alpha", "opensoul/demo"], False),
        ("after_id=opensoul/demo", [], False),
        ("limit=2&before_id=opensoul/main", ["opensoul", "opensoul/default"], False),
        ("limit=1&before_id=opensoul/main", ["opensoul/default"], True),
        ("before_id=opensoul", [], False),
    ],
)
async def test_the_list_has_pages(
    client: Client, query: str, ids: Sequence[str], more: bool
) -> None:
    listed = (await ask_versioned(client, f"/v1/models?{query}")).json

    assert [info["id"] for info in listed["data"]] == ids
    assert listed["has_more"] is more
    ends = (ids[0], ids[-1]) if ids else (None, None)
    assert (listed["first_id"], listed["last_id"]) == ends


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "limit=%C2%B2", "after_id=none", "before_id="],
)
async def test_a_wrong_page_is_an_error_in_the_format_of_anthropic(
    client: Client, query: str
) -> None:
    reply = await ask_versioned(client, f"/v1/models?{query}")

    assert (reply.status, reply.json["type"]) == (400, "error")
    assert reply.json["error"]["type"] == "invalid_request_error"
    assert query.partition("=")[0] in reply.json["error"]["message"]


async def test_one_page_is_requested_at_a_time(client: Client) -> None:
    reply = await ask_versioned(client, "/v1/models?after_id=opensoul&before_id=opensoul")

    assert reply.status == 400


async def test_other_errors_have_the_format_of_anthropic_too(
    gateway: Harness, client: Client
) -> None:
    unknown = await ask_versioned(client, "/v1/models/claude")
    assert (unknown.status, unknown.json["error"]["type"]) == (404, "not_found_error")
    stranger = await ask_versioned(client, "/v1/models", {"x-api-key": "wrong"})
    assert (stranger.status, stranger.json["error"]["type"]) == (401, "authentication_error")
    for path, reply in (("/v1/models/{model_id}", unknown), ("/v1/models", stranger)):
        schema = answer_of(whole := made(gateway), path, "get", reply.status)
        assert problems(reply.json, schema, whole) == []


async def test_parameters_of_pages_are_named_where_there_are_none(client: Client) -> None:
    reply = await client.get("/v1/models?limit=1&user=alice")

    assert reply.headers["x-opensoul-ignored"] == "limit, user"
    assert len(reply.json["data"]) > 1
    wrong = await client.get("/v1/models?limit=x")
    assert (wrong.status, wrong.error["param"]) == (400, "limit")


async def test_the_lists_fit_the_document(gateway: Harness, client: Client) -> None:
    whole = made(gateway)
    for path, asked in (
        ("/v1/models", "/v1/models"),
        ("/v1/models/{model_id}", "/v1/models/beta"),
        ("/v1/models/{model_id}", "/v1/models/fake/embed-1"),
    ):
        schema = answer_of(whole, path, "get", 200)
        for reply in (await client.get(asked), await ask_versioned(client, asked)):
            if reply.status == 200:
                assert problems(reply.json, schema, whole) == []

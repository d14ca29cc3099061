"""The model list holds the agents."""

from __future__ import annotations

import pytest

from .client import Client


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
    ]
    for model in models.values():
        assert model["object"] == "model"
        assert model["created"] == 1_700_000_000
        assert model["owned_by"] == "opensoul"
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

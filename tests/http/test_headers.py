"""Headers that choose an agent and a session, under both of their names, and the API key."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opensoul.domain.settings import LockoutSettings

from .app import TOKEN, Harness
from .client import CHAT, Client


@pytest.mark.parametrize("name", ["x-openclaw-agent-id", "x-openclaw-agent", "X-OpenClaw-Agent-Id"])
async def test_the_agent_is_chosen_by_the_family_s_header(client: Client, name: str) -> None:
    reply = await client.chat(headers={name: "beta"})

    assert reply.headers["x-opensoul-agent-id"] == "beta"
    assert "x-opensoul-ignored" not in reply.headers


async def test_the_session_is_chosen_by_the_family_s_header(client: Client) -> None:
    reply = await client.chat(headers={"x-openclaw-session-key": "agent:beta:trip"})

    assert reply.headers["x-opensoul-session-key"] == "agent:beta:trip"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("x-opensoul-agent-id", "x-openclaw-agent-id"),
        ("x-opensoul-agent", "x-openclaw-agent-id"),
        ("x-opensoul-session-key", "x-openclaw-session-key"),
    ],
)
async def test_two_names_with_one_value_agree_and_with_two_are_refused(
    client: Client, ours: str, theirs: str
) -> None:
    assert (await client.chat(headers={ours: "beta", theirs: "beta "})).status == 200

    reply = await client.chat(headers={ours: "beta", theirs: "main"})

    assert (reply.status, reply.error["param"]) == (400, theirs)
    assert ours in reply.error["message"]
    assert theirs in reply.error["message"]


@pytest.mark.parametrize("prefix", ["x-opensoul-", "x-openclaw-"])
async def test_headers_of_the_family_that_have_no_effect_are_named(
    client: Client, prefix: str
) -> None:
    headers = {f"{prefix}message-channel": "slack", f"{prefix}account-id": "1"}

    reply = await client.chat(headers=headers, top_k=5)

    assert reply.status == 200
    assert reply.headers["x-opensoul-ignored"] == (
        f"top_k, {prefix}account-id, {prefix}message-channel"
    )


async def test_the_list_of_headers_without_effect_is_bounded(client: Client) -> None:
    headers = {f"x-openclaw-{number:02}{'x' * 99}": "1" for number in range(50)}

    ignored = (await client.chat(headers=headers)).headers["x-opensoul-ignored"]

    assert len(ignored) < 2_000


@pytest.mark.parametrize("name", ["x-opensoul-model", "x-openclaw-model"])
async def test_a_header_that_asks_for_an_unknown_model_is_refused(
    gateway: Harness, client: Client, name: str
) -> None:
    reply = await client.chat(headers={name: "openai/gpt-5"})

    assert (reply.status, reply.error["param"]) == (400, name)
    assert "openai/gpt-5" in reply.error["message"]
    assert gateway.model.seen == []
    assert (await client.chat(headers={name: ""})).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": TOKEN},
        {"X-Api-Key": f" {TOKEN} "},
        {"x-api-key": TOKEN, "Authorization": "Basic c2VjcmV0"},
        {"x-api-key": TOKEN, "Authorization": "Bearer "},
        {"x-api-key": "other", "Authorization": f"Bearer {TOKEN}"},
    ],
)
async def test_the_api_key_is_a_credential_where_no_bearer_is(
    client: Client, headers: dict[str, str]
) -> None:
    assert (await client.get("/v1/models", headers=headers)).status == 200


async def test_a_wrong_api_key_counts_and_a_right_one_does_not_hide_a_wrong_bearer(
    gateway: Harness, client: Client
) -> None:
    limits = LockoutSettings(max_attempts=3)
    auth = replace(gateway.settings.auth, lockout=limits)
    gateway.settings = replace(gateway.settings, auth=auth)

    for headers in (
        {"x-api-key": "wrong"},
        {"x-api-key": TOKEN, "Authorization": "Bearer false"},
        {"x-api-key": "untrue"},
    ):
        assert (await client.get("/v1/models", headers=headers)).status == 401
    assert (await client.get("/v1/models", headers={"x-api-key": TOKEN})).status == 429


async def test_an_empty_api_key_is_a_missing_one(client: Client) -> None:
    reply = await client.ask("POST", CHAT, headers={"x-api-key": " "})

    assert reply.status == 401
    assert "is needed" in reply.error["message"]

"""API keys over real sockets: agents, sessions, limits, rotation and revocation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from dependency_injector import providers

from tests.app.grants import first_text, rest
from tests.app.keyed import (
    AGENTS,
    SCOPES,
    administer,
    ask,
    asked,
    bearer,
    content,
    created,
    entered,
    provider,
)
from tests.app.serving import SECRET, Served, serving
from tests.control.client import Refused
from tests.fakes.behaviours import Exchange, answer, chunk, fail, hang_after
from tests.fakes.domain import FakeClock
from tests.fakes.provider import FakeProvider

__all__ = ["provider"]

DAY = 86_400.0
NOON = 1_800_000_000.0 - 1_800_000_000.0 % DAY + DAY / 2


@pytest_asyncio.fixture
async def served(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Served]:
    async with serving(tmp_path, content(provider)) as served:
        yield served


@pytest.mark.parametrize("header", ["bearer", "x-api-key"])
async def test_a_key_is_a_credential_of_http(served: Served, header: str) -> None:
    key = await created(served, "web")
    headers = bearer(key) if header == "bearer" else {"x-api-key": key}
    async with served.client.get("/v1/models", headers=headers) as response:
        assert response.status == 200


async def test_a_key_sees_its_agents_alone(served: Served) -> None:
    key = await created(served, "kitchen", agents=["cook", "Guide"])
    async with served.client.get("/v1/models", headers=bearer(key)) as response:
        names = [model["id"] for model in (await response.json())["data"]]
    assert "opensoul/cook" in names
    assert not [name for name in names if "main" in name]
    async with served.client.get("/v1/models/opensoul/main", headers=bearer(key)) as response:
        assert response.status == 404
    for headers, body in (
        ({}, {"model": "opensoul:main"}),
        ({"X-OpenSoul-Agent-Id": "main"}, {}),
        ({"X-OpenSoul-Session-Key": "agent:main:main"}, {}),
    ):
        assert (await asked(served, key, headers, **body)).status == 404
    assert (await asked(served, key, model="opensoul/cook")).status == 200
    async with entered(served, key) as peer:
        listed = await peer.call("agents.list")
        assert [agent["id"] for agent in listed["agents"]] == ["cook", "guide"] or [
            agent["id"] for agent in listed["agents"]
        ] == ["guide", "cook"]


async def test_a_key_without_agents_may_use_all_of_them_and_is_no_operator(served: Served) -> None:
    key = await created(served, "all")
    for agent in AGENTS["list"]:
        assert (await asked(served, key, model=f"opensoul/{agent['id']}")).status == 200
    async with entered(served, key, ["operator.admin", *SCOPES]) as peer:
        for method in ("config.get", "keys.list", "logs.tail", "device.pair.list"):
            with pytest.raises(Refused):
                await peer.call(method, {})


async def test_a_key_without_operator_write_starts_no_run(served: Served) -> None:
    key = await created(served, "reader", scopes=["read"])
    assert (await asked(served, key)).status == 403
    async with served.client.get("/v1/models", headers=bearer(key)) as response:
        assert response.status == 200


async def test_equal_session_keys_and_users_of_two_keys_never_meet(
    served: Served, provider: FakeProvider
) -> None:
    one, two = await created(served, "one"), await created(served, "two")
    named = {"X-OpenSoul-Session-Key": "notes"}
    sessions = set()
    by_chat = {"X-OpenWebUI-Chat-Id": "c1"}
    by_metadata = {"metadata": {"session_key": "trip"}}
    for headers, body in ((named, {}), ({}, {"user": "ada"}), (by_chat, {}), ({}, by_metadata)):
        for key in (one, two, SECRET):
            response = await asked(served, key, headers, **body)
            assert response.status == 200
            sessions.add(response.headers["x-opensoul-session-key"])
            assert len((await provider.arrival()).json["messages"]) == 1
    assert len(sessions) == 12
    again = await asked(served, one, named)
    assert again.headers["x-opensoul-session-key"] in sessions
    assert len((await provider.arrival()).json["messages"]) == 3


async def test_the_session_key_of_an_answer_continues_its_session(
    served: Served, provider: FakeProvider
) -> None:
    key = await created(served, "one")
    first = await asked(served, key)
    await provider.arrival()
    session = {"X-OpenSoul-Session-Key": first.headers["x-opensoul-session-key"]}
    second = await asked(served, key, session)
    assert second.headers["x-opensoul-session-key"] == first.headers["x-opensoul-session-key"]
    assert len((await provider.arrival()).json["messages"]) == 3


async def test_the_sessions_and_runs_of_another_key_are_unknown(
    served: Served, provider: FakeProvider
) -> None:
    owner, thief = await created(served, "owner"), await created(served, "thief")
    response = await asked(served, owner, {"X-OpenSoul-Session-Key": "notes"})
    session = response.headers["x-opensoul-session-key"]
    run = response.headers["x-opensoul-run-id"]
    operators = await asked(served, SECRET, {"X-OpenSoul-Session-Key": "notes"})
    await provider.arrival()
    await provider.arrival()

    stolen = await asked(served, thief, {"X-OpenSoul-Session-Key": session})
    assert stolen.status == 404
    named = {"X-OpenSoul-Session-Key": operators.headers["x-opensoul-session-key"]}
    assert (await asked(served, thief, named)).status == 200  # A session of its own.
    assert len((await provider.arrival()).json["messages"]) == 1
    scopes = [*SCOPES, "operator.approvals"]
    async with entered(served, thief, scopes) as peer:
        assert session not in [row["key"] for row in (await peer.call("sessions.list"))["sessions"]]
        for method, params in (
            ("chat.history", {"sessionKey": session}),
            ("chat.abort", {"sessionKey": session}),
            ("chat.send", {"sessionKey": session, "message": "hi", "idempotencyKey": "k"}),
            ("sessions.patch", {"key": session, "label": "mine"}),
            ("sessions.messages.subscribe", {"key": session}),
            ("sessions.describe", {"key": session}),
            ("runs.get", {"runId": run}),
            ("runs.follow", {"runId": run}),
            ("runs.abort", {"runId": run}),
        ):
            with pytest.raises(Refused, match=r"not found|There is no run") as refused:
                await peer.call(method, params)
            assert "owner" not in str(refused.value)
        waited = await peer.call("agent.wait", {"runId": run, "timeoutMs": 0})
        assert waited["error"] == f"There is no run '{run}', or it ended too long ago."
    async with entered(served, owner) as peer:
        assert len((await peer.call("chat.history", {"sessionKey": "notes"}))["messages"]) == 2
        assert (await peer.call("runs.get", {"runId": run}))["runId"] == run


async def test_a_chat_over_websocket_is_in_the_namespace_of_the_key(served: Served) -> None:
    one, two = await created(served, "one"), await created(served, "two")
    async with entered(served, one) as first, entered(served, two) as second:
        await first.call(
            "chat.send", {"sessionKey": "main", "message": "hi", "idempotencyKey": "k1"}
        )
        await first.event("chat", state="final")
        assert len((await first.call("chat.history", {"sessionKey": "main"}))["messages"]) == 2
        assert (await second.call("chat.history", {"sessionKey": "main"}))["messages"] == []
        await second.call("agents.list")
        assert not [event for event in second.events if event["event"] in ("chat", "agent")]


@pytest.mark.parametrize(("method", "reason"), [("revoke", "revoked"), ("rotate", "rotated")])
async def test_a_key_that_ends_takes_its_streams_and_sockets_along_and_no_others(
    served: Served, provider: FakeProvider, method: str, reason: str
) -> None:
    lost, other = await created(served, "lost"), await created(served, "other")
    gate = asyncio.Event()
    provider.will(hang_after("Hel"), answer("Hel", "lo!", gate=gate))
    async with (
        entered(served, lost) as peer,
        entered(served, other) as untouched,
        ask(served, lost, stream=True) as ended,
        ask(served, other, stream=True) as standing,
    ):
        await first_text(ended)
        await first_text(standing)
        await administer(served, f"keys.{method}", key="lost")
        assert await peer.closed() == (4001, f"API key {reason}")
        assert f"no longer valid: API key {reason}" in await rest(ended)
        gate.set()
        assert "[DONE]" in await rest(standing)
        assert (await untouched.call("agents.list"))["agents"]
    assert (await asked(served, lost)).status == 401
    assert (await asked(served, other)).status == 200


async def test_a_rotated_key_keeps_its_sessions(served: Served, provider: FakeProvider) -> None:
    key = await created(served, "one")
    named = {"X-OpenSoul-Session-Key": "notes"}
    await asked(served, key, named)
    await provider.arrival()
    fresh = (await administer(served, "keys.rotate", key="one"))["key"]
    assert (await asked(served, key, named)).status == 401
    assert (await asked(served, fresh, named)).status == 200
    assert len((await provider.arrival()).json["messages"]) == 3


async def test_the_requests_of_a_minute_are_admitted_at_once_and_no_more(served: Served) -> None:
    key = await created(served, "slow", requestsPerMinute=3)
    left = []
    for _ in range(3):
        response = await asked(served, key)
        assert response.status == 200
        assert response.headers["x-ratelimit-limit-requests"] == "3"
        left.append(response.headers["x-ratelimit-remaining-requests"])
    assert left == ["2", "1", "0"]
    async with ask(served, key) as refused:
        assert refused.status == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 20
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        error = (await refused.json())["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    async with entered(served, key) as peer:
        with pytest.raises(Refused, match="requests per minute") as by_socket:
            await peer.call(
                "chat.send", {"sessionKey": "main", "message": "hi", "idempotencyKey": "k"}
            )
        assert by_socket.value.error["retryAfterMs"] > 0
    assert (await asked(served, SECRET)).status == 200


async def test_runs_at_once_are_limited(served: Served, provider: FakeProvider) -> None:
    key = await created(served, "single", runsAtOnce=1)
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    async with ask(served, key, stream=True) as running:
        await first_text(running)
        refused = await asked(served, key)
        assert refused.status == 429
        assert "Retry-After" in refused.headers
        assert refused.headers["x-ratelimit-remaining-runs"] == "0"
        gate.set()
        assert "[DONE]" in await rest(running)
    for _ in range(3):  # Each is released before its answer is complete.
        assert (await asked(served, key)).status == 200


async def test_a_run_that_is_left_makes_room(served: Served, provider: FakeProvider) -> None:
    key = await created(served, "single", runsAtOnce=1)
    provider.will(hang_after("Hel"))
    async with ask(served, key, stream=True) as running:
        await first_text(running)
        left = await provider.arrival()
    await left.disconnected.wait()
    while (response := await asked(served, key)).status == 429:
        pass
    assert response.status == 200


@pytest.mark.parametrize(
    ("limit", "until"),
    [
        ({"tokensPerDay": 20}, DAY / 2),
        ({"tokensPerMonth": 20}, None),
        ({"costPerMonth": 20.0}, None),
    ],
)
async def test_tokens_and_cost_are_limited_also_after_a_restart(
    tmp_path: Path, provider: FakeProvider, limit: dict[str, Any], until: float | None
) -> None:
    clock = FakeClock(NOON)
    parts = {"clock": providers.Object(clock)}
    async with serving(tmp_path, content(provider), **parts) as served:
        key = await created(served, "metered", **limit)
        first = await asked(served, key)
        assert first.status == 200
        if "costPerMonth" not in limit:
            assert first.headers["x-ratelimit-limit-tokens"] == "20"
        assert (await asked(served, key)).status == 200
    async with serving(tmp_path, content(provider), **parts) as served:
        async with ask(served, key) as refused:
            assert refused.status == 429
            assert (await refused.json())["error"]["code"] == "insufficient_quota"
            assert refused.headers["X-Should-Retry"] == "false"
            wait = float(refused.headers["Retry-After"])
            what = "cost" if "costPerMonth" in limit else "tokens"
            assert refused.headers[f"x-ratelimit-remaining-{what}"] == "0"
        if until is not None:
            assert wait == until
        clock.advance(wait)
        assert (await asked(served, key)).status == 200


async def test_usage_is_counted_by_key(served: Served) -> None:
    one = await created(served, "one")
    await created(served, "idle")
    await asked(served, one)
    await asked(served, one)
    await asked(served, SECRET)
    used = (await administer(served, "usage.keys"))["keys"]
    assert [(row["name"], row["totals"]["requests"], row["totals"]["runs"]) for row in used] == [
        ("one", 2, 2)
    ]
    totals = used[0]["totals"]
    assert (totals["input"], totals["output"], totals["totalCost"]) == (14, 6, 20.0)
    assert used[0]["daily"][0]["requests"] == 2


async def test_an_answer_that_is_cut_short_is_counted_by_estimate(
    served: Served, provider: FakeProvider
) -> None:
    key = await created(served, "hasty")
    provider.will(hang_after("Hello, wor"))
    async with ask(served, key, stream=True) as running:
        async for line in running.content:
            if b"wor" in line:
                break
        left = await provider.arrival()
    await left.disconnected.wait()
    while not (used := (await administer(served, "usage.keys"))["keys"][0]["totals"])["output"]:
        pass  # The run is aborted soon.
    assert (used["runs"], used["output"]) == (1, 4)
    assert used["input"] > 0
    assert used["totalCost"] == used["totalTokens"]


async def test_a_repeated_request_gets_its_answer_at_the_limit(served: Served) -> None:
    key = await created(served, "lost", tokensPerDay=5)
    headers = {"Idempotency-Key": "one"}
    first = await asked(served, key, headers)
    again = await asked(served, key, headers)
    assert (first.status, again.status) == (200, 200)
    assert await again.json() == await first.json()
    assert (await asked(served, key)).status == 429
    assert (await asked(served, key, {"Idempotency-Key": "two"})).status == 429


async def test_a_repeated_request_is_counted_while_its_run_goes_on(
    served: Served, provider: FakeProvider
) -> None:
    key = await created(served, "eager", requestsPerMinute=2, runsAtOnce=1)
    headers, gate = {"Idempotency-Key": "one"}, asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    async with ask(served, key, headers, stream=True) as running:
        await first_text(running)
        async with ask(served, key, headers, stream=True) as again:
            assert again.status == 200
            assert again.headers["x-ratelimit-remaining-requests"] == "0"
            assert (await asked(served, key, headers)).status == 429
            gate.set()
            assert "[DONE]" in await rest(again)
        assert "[DONE]" in await rest(running)
    assert len(provider.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_breaks_its_format_is_counted(
    served: Served, provider: FakeProvider, stream: bool
) -> None:
    key = await created(served, "forms")
    provider.will(answer("No", " JSON."), answer("Again", " none."))
    reply = await asked(served, key, stream=stream, response_format={"type": "json_object"})
    assert reply.status == 502
    (used,) = (await administer(served, "usage.keys"))["keys"]
    assert (used["totals"]["input"], used["totals"]["output"]) == (14, 6)
    assert (used["totals"]["runs"], used["totals"]["totalCost"]) == (1, 20.0)


async def test_a_withheld_answer_that_is_cut_short_is_counted_by_estimate(
    served: Served, provider: FakeProvider
) -> None:
    """The text is in no event. The reasoning behind it shows that it has arrived."""

    async def hang_in_json(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event(chunk({"role": "assistant", "content": '{"hello": 1'}))
        await exchange.event(chunk({"reasoning_content": "."}))
        await asyncio.Event().wait()

    key = await created(served, "hasty")
    provider.will(hang_in_json)
    body = {"stream": True, "response_format": {"type": "json_object"}}
    async with ask(served, key, {"x-opensoul-reasoning": "include"}, **body) as running:
        async for line in running.content:
            assert b"hello" not in line
            if b"reasoning_content" in line:
                break
        left = await provider.arrival()
    await left.disconnected.wait()
    while not (used := (await administer(served, "usage.keys"))["keys"][0]["totals"])["output"]:
        pass  # The run is aborted soon.
    assert (used["runs"], used["output"]) == (1, 4)
    assert used["input"] > 0


async def test_an_answer_is_counted_whose_repair_fails(
    served: Served, provider: FakeProvider
) -> None:
    key = await created(served, "forms")
    provider.will(answer("No", " JSON."), *[fail(400, {"error": {"message": "no"}})] * 9)
    reply = await asked(served, key, response_format={"type": "json_object"})
    assert reply.status == 400
    (used,) = (await administer(served, "usage.keys"))["keys"]
    assert (used["totals"]["input"], used["totals"]["output"]) == (7, 3)
    assert used["totals"]["runs"] == 1


async def test_an_expired_key_proves_nothing_and_its_sockets_end(
    tmp_path: Path, provider: FakeProvider
) -> None:
    clock = FakeClock(NOON)
    async with serving(tmp_path, content(provider), clock=providers.Object(clock)) as served:
        key = await created(served, "brief", expiresAtMs=int((NOON + 60) * 1_000))
        assert (await asked(served, key)).status == 200
        async with entered(served, key) as peer:
            clock.advance(60.0)
            served.container.access().check()
            assert (await peer.closed())[0] == 4001
        assert (await asked(served, key)).status == 401
        rows = (await administer(served, "keys.list"))["keys"]
        assert [row["status"] for row in rows] == ["expired"]


async def test_keys_survive_a_restart_without_their_secrets(
    tmp_path: Path, provider: FakeProvider
) -> None:
    async with serving(tmp_path, content(provider)) as served:
        kept, revoked = await created(served, "kept"), await created(served, "revoked")
        await administer(served, "keys.revoke", key="revoked")
    for file in (tmp_path / "state").rglob("*"):
        if file.is_file():
            assert kept.encode() not in file.read_bytes(), file
            assert revoked.encode() not in file.read_bytes(), file
    assert (tmp_path / "state" / "keys.sqlite3").stat().st_mode & 0o077 == 0
    async with serving(tmp_path, content(provider)) as served:
        assert (await asked(served, kept)).status == 200
        assert (await asked(served, revoked)).status == 401


async def test_wrong_keys_count_towards_the_lockout(tmp_path: Path, provider: FakeProvider) -> None:
    limited = content(provider, rateLimit={"maxAttempts": 3})
    async with serving(tmp_path, limited) as served:
        key = await created(served, "one")
        for number in range(3):
            assert (await asked(served, f"osk_guess{number}")).status == 401
        assert (await asked(served, key)).status == 429

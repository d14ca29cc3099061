"""Where API keys are accepted, and that they appear nowhere else."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.app.grants import rest
from tests.app.keyed import (
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
from tests.control.client import Refused, connected
from tests.control.signing import connected_device
from tests.fakes.behaviours import hang_after
from tests.fakes.devices import Device
from tests.fakes.provider import FakeProvider

__all__ = ["provider"]

CONFIGURED = "osk_of-the-configuration"
ENTRY = {"name": "ci", "key": CONFIGURED, "agents": ["guide"], "requestsPerMinute": 2}


async def changed(served: Served, config: dict[str, Any], keys: int) -> None:
    """Return when the Gateway has so many configured keys."""
    served.configure(config)
    async with asyncio.timeout(20):
        while len(served.container.settings()().auth.keys) != keys:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_key_of_the_configuration_counts_until_it_is_removed(
    tmp_path: Path, provider: FakeProvider
) -> None:
    async with serving(tmp_path, content(provider, keys=[ENTRY])) as served:
        assert (await asked(served, CONFIGURED, model="opensoul/main")).status == 404
        response = await asked(served, CONFIGURED)
        assert response.headers["x-opensoul-agent-id"] == "guide"
        assert response.headers["x-ratelimit-limit-requests"] == "2"
        provider.will(hang_after("Hel"))
        async with (
            entered(served, CONFIGURED) as peer,
            ask(served, CONFIGURED, stream=True) as stream,
            connected(served.client, SECRET) as operator,
        ):
            await changed(served, content(provider), 0)
            assert (await peer.closed())[0] == 4001
            assert "no longer valid" in await rest(stream)
            assert (await operator.call("health"))["ok"]
        assert (await asked(served, CONFIGURED)).status == 401


async def test_a_key_of_the_configuration_keeps_its_sessions_over_restarts(
    tmp_path: Path, provider: FakeProvider
) -> None:
    named = {"X-OpenSoul-Session-Key": "notes"}
    for messages in (1, 3):
        async with serving(tmp_path, content(provider, keys=[ENTRY])) as served:
            assert (await asked(served, CONFIGURED, named)).status == 200
            assert len((await provider.arrival()).json["messages"]) == messages


async def test_without_authentication_a_key_gets_no_more_than_its_own(
    tmp_path: Path, provider: FakeProvider
) -> None:
    whole = content(provider)
    whole["gateway"]["auth"] = {"mode": "none", "keys": [ENTRY]}
    async with serving(tmp_path, whole) as served:
        async with served.client.get("/v1/models") as response:
            everything = (await response.json())["data"]
        async with served.client.get("/v1/models", headers=bearer(CONFIGURED)) as response:
            own = (await response.json())["data"]
        assert len(own) < len(everything)
        assert (await asked(served, "osk_of-nobody")).status == 401
        assert (await asked(served, "any other secret")).status == 200


async def test_a_key_is_accepted_beside_a_password(tmp_path: Path, provider: FakeProvider) -> None:
    whole = content(provider)
    whole["gateway"]["auth"] = {"mode": "password", "password": SECRET, "keys": [ENTRY]}
    async with serving(tmp_path, whole) as served:
        assert (await asked(served, CONFIGURED)).status == 200
        async with entered(served, CONFIGURED) as peer:
            assert [one["id"] for one in (await peer.call("agents.list"))["agents"]] == ["guide"]


async def test_a_device_does_not_get_paired_by_a_key(
    tmp_path: Path, provider: FakeProvider
) -> None:
    async with serving(tmp_path, content(provider, keys=[ENTRY])) as served:
        async with connected_device(served.client, Device(), CONFIGURED, scopes=SCOPES) as peer:
            assert "deviceToken" not in peer.hello.get("auth", {})
            assert [one["id"] for one in (await peer.call("agents.list"))["agents"]] == ["guide"]
        assert (await administer(served, "device.pair.list"))["paired"] == []


async def test_keys_appear_in_no_log_and_in_no_answer(
    tmp_path: Path, provider: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(tmp_path, content(provider, keys=[ENTRY])) as served:
        made = await created(served, "web", requestsPerMinute=1)
        for key in (made, CONFIGURED):
            await asked(served, key)
            await asked(served, key)
            async with entered(served, key) as peer:
                await peer.call("agents.list")
        rotated = (await administer(served, "keys.rotate", key="web"))["key"]
        await asked(served, made)
        answers = [
            await administer(served, method, **params)
            for method, params in (
                ("config.get", {}),
                ("keys.list", {}),
                ("keys.get", {"key": "web"}),
                ("keys.revoke", {"key": "web"}),
                ("usage.keys", {}),
                ("system-presence", {}),
                ("sessions.list", {}),
            )
        ]
    written = json.dumps(answers) + caplog.text
    written += "".join(repr(record.__dict__) for record in caplog.records)
    for key in (made, rotated, CONFIGURED):
        assert key not in written


@pytest.mark.parametrize("secret", [{"key": CONFIGURED}, {"keyHash": f"sha256:{'0' * 64}"}])
async def test_no_key_is_configured_over_the_network(
    tmp_path: Path, provider: FakeProvider, secret: dict[str, str]
) -> None:
    entry = {"name": "mine", **secret}
    async with serving(tmp_path, content(provider)) as served:
        base = (await administer(served, "config.get"))["hash"]
        patch = {"raw": json.dumps({"gateway": {"auth": {"keys": [entry]}}}), "baseHash": base}
        with pytest.raises(Refused, match=r"gateway\.auth\.keys"):
            await administer(served, "config.patch", **patch)


async def test_tool_calls_count_as_requests(tmp_path: Path, provider: FakeProvider) -> None:
    async with serving(tmp_path, content(provider)) as served:
        key = await created(served, "web", requestsPerMinute=1)
        call = {"tool": "nothing"}
        statuses = []
        for _ in range(2):
            async with served.client.post(
                "/tools/invoke", json=call, headers=bearer(key)
            ) as response:
                statuses.append(response.status)
        assert statuses == [404, 429]


@pytest.mark.parametrize(
    ("wanted", "status"), [("operator.read", 403), ("operator.read,operator.write", 200)]
)
async def test_a_key_of_an_administrator_is_an_operators(
    tmp_path: Path, provider: FakeProvider, wanted: str, status: int
) -> None:
    async with serving(tmp_path, content(provider)) as served:
        admin = await created(served, "admin", scopes=["operator.admin"])
        async with connected(served.client, admin, scopes=["operator.admin"]) as peer:
            made = await peer.call("keys.create", {"name": "two", "scopes": wanted.split(",")})
        assert (await asked(served, made["key"])).status == status
        assert (await asked(served, admin)).status == 200
        used = {
            row["name"]: row["totals"] for row in (await administer(served, "usage.keys"))["keys"]
        }
        assert used["admin"]["totalTokens"] == 10

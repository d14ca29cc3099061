"""Agent cards, and the switch of the endpoint."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a.client import A2ACardResolver
from a2a.types import GetExtendedAgentCardRequest

from opensoul.adapters.transports.a2a import extra
from tests.app.keyed import content, created
from tests.app.serving import SECRET, Served, serving
from tests.fakes.provider import FakeProvider

from .agents import Caller, calling, rpc, switched_on

CARD = "/.well-known/agent-card.json"


async def fetched(served: Served, path: str = CARD, **headers: str) -> Any:
    async with served.client.get(path, headers=headers) as response:
        return response.status, await response.json()


async def test_a_stranger_gets_a_card_that_names_no_agent(served: Served) -> None:
    status, card = await fetched(served)
    assert status == 200
    assert card["url"] == f"{served.url}/a2a"
    assert card["supportsAuthenticatedExtendedCard"]
    assert not card["capabilities"]["pushNotifications"]
    interfaces = {one["protocolVersion"]: one["url"] for one in card["supportedInterfaces"]}
    assert interfaces == {"1.0": card["url"], "0.3": card["url"]}
    assert set(card["securitySchemes"]) == {"bearer", "apiKey"}

    _, known = await fetched(served, f"/a2a/guide{CARD}")
    _, unknown = await fetched(served, f"/a2a/nobody{CARD}")
    assert str(known).replace("/a2a/guide", "") == str(unknown).replace("/a2a/nobody", "")
    text = str((card, known)).replace("/a2a/guide", "")
    assert not any(agent in text for agent in ("main", "guide", "cook"))


async def test_the_extended_card_describes_the_agent(caller: Caller) -> None:
    caller.agent = "guide"
    client = await caller.client()
    card = await client.get_extended_agent_card(GetExtendedAgentCardRequest())
    if caller.version == "1.0":
        assert card.skills[0].id == "guide"
        assert "image/png" in card.default_input_modes
    method = {"1.0": "GetExtendedAgentCard", "0.3": "agent/getAuthenticatedExtendedCard"}
    response = await caller.raw(rpc(method[caller.version]))
    assert response.json()["result"]["skills"][0]["id"] == "main"


async def test_the_extended_card_of_a_foreign_agent_is_refused(served: Served) -> None:
    secret = await created(served, "kitchen", agents=["cook"])
    async with calling(served, secret) as caller:
        url = f"{served.url}/a2a/guide"
        response = await caller.http.post(url, json=rpc("GetExtendedAgentCard"))
    assert response.json()["error"]["code"] == -32602
    assert "Agents: cook." in response.json()["error"]["message"]


async def test_the_resolver_of_the_sdk_reads_the_card(served: Served) -> None:
    async with httpx.AsyncClient() as client:
        card = await A2ACardResolver(client, f"{served.url}/a2a/guide").get_agent_card()
    assert card.supported_interfaces[0].url == f"{served.url}/a2a/guide"


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_trusted_proxy_sets_the_address(
    tmp_path: Path, provider: FakeProvider, trusted: bool
) -> None:
    whole = switched_on(content(provider))
    whole["gateway"]["trustedProxies"] = ["127.0.0.1"] if trusted else []
    async with serving(tmp_path, whole) as served:
        headers = {
            "X-Forwarded-For": "203.0.113.7",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "agents.example.org",
        }
        _, card = await fetched(served, **headers)
        expected = "https://agents.example.org" if trusted else served.url
        assert card["url"] == f"{expected}/a2a"


@pytest.mark.parametrize("path", [CARD, f"/a2a/main{CARD}"])
async def test_the_endpoint_is_off_by_default(
    tmp_path: Path, provider: FakeProvider, path: str
) -> None:
    async with serving(tmp_path, content(provider)) as served:
        status, body = await fetched(served, path)
    assert status == 404
    assert "gateway.http.endpoints.a2a.enabled" in body["error"]["message"]


async def test_without_the_sdk_requests_are_refused_with_what_to_install(
    tmp_path: Path,
    provider: FakeProvider,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    async with serving(tmp_path, switched_on(content(provider))) as served:
        status, body = await fetched(served)
        assert status == 501
        assert "pip install 'opensoul[a2a]'" in body["error"]["message"]
        headers = {"Authorization": f"Bearer {SECRET}"}
        async with served.client.post("/a2a", json=rpc("GetTask"), headers=headers) as response:
            assert response.status == 501
    assert "opensoul[a2a]" in caplog.text


def test_the_sdk_is_not_imported_with_the_transport() -> None:
    code = (
        "import sys, opensoul.adapters.transports.a2a, opensoul.app.container\n"
        "print([name for name in sys.modules if name == 'a2a' or name.startswith('google')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"

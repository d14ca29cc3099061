"""What clients see that are restricted to agents, over real sockets."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest

from examples.header_authenticator import PEOPLE, HeaderAuthenticator
from opensoul.adapters.transports.control.protocol import FOR_AGENTS, METHODS
from tests.app.grants import ask, people, provider, served, through_proxy
from tests.app.serving import SECRET, Served
from tests.control.client import Peer, Refused, connected
from tests.control.signing import connected_device
from tests.fakes.devices import Device
from tests.fakes.provider import FakeProvider

__all__ = ["people", "provider", "served"]
KEY_TEXT = "agent:guide:notes"
KEY = {"X-OpenSoul-Session-Key": KEY_TEXT}


def entered(served: Served, user: str) -> AbstractAsyncContextManager[Peer]:
    return connected(served.client, None, headers=through_proxy(user))


async def run_id_of(served: Served, headers: dict[str, str], **body: Any) -> str:
    async with ask(served, headers, **body) as response:
        assert response.status == 200, await response.text()
        run_id: str = response.headers["x-opensoul-run-id"]
        return run_id


async def test_a_restricted_client_sees_its_agents_alone(served: Served) -> None:
    async with served.client.get("/v1/models", headers=through_proxy("grace")) as response:
        models = [model["id"] for model in (await response.json())["data"]]
    assert "opensoul/guide" in models
    assert not [model for model in models if "main" in model]
    async with ask(served, through_proxy("grace"), model="opensoul:main") as refused:
        assert refused.status == 404
        assert "Agents: guide." in await refused.text()
    async with ask(served, through_proxy("grace")) as by_default:
        assert by_default.headers["x-opensoul-agent-id"] == "guide"
    async with entered(served, "grace") as peer:
        listed = await peer.call("agents.list")
        assert (listed["defaultId"], [a["id"] for a in listed["agents"]]) == ("guide", ["guide"])
        snapshot = peer.hello["snapshot"]
        assert snapshot["sessionDefaults"]["defaultAgentId"] == "guide"
        assert (snapshot["presence"], snapshot["health"]) == ([], {})
        assert set(peer.hello["features"]["methods"]) <= FOR_AGENTS


async def test_a_restricted_client_may_call_no_method_for_the_whole_gateway(
    served: Served,
) -> None:
    async with entered(served, "grace") as peer:
        for name in ("config.get", "logs.tail", "sessions.subscribe", "status", "wake"):
            assert name in METHODS
            with pytest.raises(Refused, match="restricted to agents"):
                await peer.call(name, {})


async def test_each_owner_sees_its_own_sessions_and_runs_and_the_operator_sees_all(
    served: Served, people: HeaderAuthenticator
) -> None:
    people.people["alan"] = replace(PEOPLE["grace"], id="alan", principal="alan")
    hers = await run_id_of(served, through_proxy("grace") | KEY)
    his = await run_id_of(served, through_proxy("alan"), user="alan")
    operators = await run_id_of(served, served.authorization, user="op", model="opensoul:guide")

    async with entered(served, "grace") as grace, entered(served, "alan") as alan:
        assert [s["key"] for s in (await grace.call("sessions.list"))["sessions"]] == [
            "agent:guide:notes"
        ]
        assert [r["runId"] for r in (await grace.call("runs.list"))["runs"]] == [hers]
        assert [r["runId"] for r in (await alan.call("runs.list"))["runs"]] == [his]
        assert len((await grace.call("chat.history", {"sessionKey": KEY_TEXT}))["messages"]) == 2
        assert (await alan.call("chat.history", {"sessionKey": KEY_TEXT}))["messages"] == []
        for run_id in (hers, operators):
            for method in ("runs.get", "runs.follow", "runs.abort"):
                with pytest.raises(Refused, match="There is no run"):
                    await alan.call(method, {"runId": run_id})
        with pytest.raises(Refused, match="belongs to another principal"):
            await alan.call(
                "chat.send", {"sessionKey": KEY_TEXT, "message": "hi", "idempotencyKey": "k"}
            )
        with pytest.raises(Refused):
            await alan.call("sessions.patch", {"key": KEY_TEXT, "label": "mine"})
    async with ask(served, through_proxy("alan") | KEY) as refused:
        assert refused.status == 403
    async with connected(served.client, SECRET) as operator:
        runs = (await operator.call("runs.list"))["runs"]
        assert {run["runId"] for run in runs} == {hers, his, operators}
        history = await operator.call("chat.history", {"sessionKey": KEY_TEXT})
        assert len(history["messages"]) == 2
        rows = (await operator.call("sessions.list"))["sessions"]
        assert not [row for row in rows if "owner" in row]


async def test_events_of_a_session_reach_its_owner_and_the_operator_alone(
    served: Served, provider: FakeProvider, people: HeaderAuthenticator
) -> None:
    people.people["alan"] = replace(PEOPLE["grace"], id="alan", principal="alan")
    await run_id_of(served, through_proxy("grace") | KEY)
    async with (
        entered(served, "grace") as grace,
        entered(served, "alan") as alan,
        connected(served.client, SECRET) as operator,
    ):
        for peer in (grace, alan, operator):
            await peer.call("sessions.messages.subscribe", {"key": KEY_TEXT})
        sent = {"sessionKey": KEY_TEXT, "message": "hi", "idempotencyKey": "k"}
        await grace.call("chat.send", sent)
        for peer in (grace, operator):
            await peer.event("chat", state="final")
        # What was sent to alan before this answer has arrived.
        await alan.call("agents.list")
        assert not [e for e in alan.events if e["event"] in ("chat", "agent", "sessions.changed")]


async def test_a_subscription_ends_when_the_session_is_deleted(
    served: Served, people: HeaderAuthenticator
) -> None:
    people.people["alan"] = replace(PEOPLE["grace"], id="alan", principal="alan")
    await run_id_of(served, through_proxy("grace") | KEY)
    async with (
        entered(served, "grace") as grace,
        entered(served, "alan") as alan,
        connected(served.client, SECRET) as operator,
    ):
        await grace.call("sessions.messages.subscribe", {"key": KEY_TEXT})
        assert (await operator.call("sessions.delete", {"key": KEY_TEXT}))["deleted"]
        sent = {"sessionKey": KEY_TEXT, "message": "hi", "idempotencyKey": "k"}
        await alan.call("chat.send", sent)
        await alan.event("chat", state="final")
        await grace.call("agents.list")
        assert not [e for e in grace.events if e["event"] in ("chat", "agent")]


async def test_a_device_can_be_approved_for_some_agents(
    served: Served,
) -> None:
    device = Device()
    async with connected(served.client, SECRET) as operator:
        remote = {"X-Forwarded-For": "203.0.113.9"}
        with pytest.raises(Refused, match="pairing required"):
            async with connected_device(
                served.client, device, SECRET, headers=remote, scopes=["operator.write"]
            ):
                pass
        (pending,) = (await operator.call("device.pair.list"))["pending"]
        approved = {"requestId": pending["requestId"], "agents": ["guide"]}
        assert (await operator.call("device.pair.approve", approved))["device"]["agents"] == [
            "guide"
        ]
    async with connected_device(served.client, device, SECRET, scopes=["operator.write"]) as peer:
        assert [a["id"] for a in (await peer.call("agents.list"))["agents"]] == ["guide"]
        with pytest.raises(Refused, match="restricted to agents"):
            await peer.call("config.get")

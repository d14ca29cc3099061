"""Approvals over the control protocol, with a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.approvals.office import ARGUMENTS, Courier, Office, calls, open_office
from tests.control.client import Peer, Refused
from tests.fakes.provider import FakeProvider

METHODS = ("exec.approval.resolve", "approval.resolve")


async def test_a_request_and_its_decision_reach_the_clients_that_may_decide(
    office: Office, peer: Peer
) -> None:
    async with office.connected("ada") as ada, office.connected("alan") as alan:
        requested = await office.waiting(peer)
        seen = (await ada.event("exec.approval.requested"))["payload"]
        assert seen == requested
        assert (requested["tool"], requested["arguments"]) == ("send", ARGUMENTS)
        assert requested["request"]["toolName"] == "send"

        await ada.call("exec.approval.resolve", {"id": seen["id"], "decision": "allow-once"})

        resolved = (await peer.event("exec.approval.resolved"))["payload"]
        assert (resolved["id"], resolved["decision"]) == (seen["id"], "allow-once")
        assert resolved["resolvedBy"] == "ada"
        await peer.event("chat", state="final")
        await alan.call("agents.list")
        assert [e for e in alan.events if e["event"].startswith("exec.approval")] == []
    assert office.courier.sent == [ARGUMENTS]


async def test_the_owner_of_a_run_decides_on_its_calls(office: Office) -> None:
    async with office.connected("grace") as grace, office.connected("alan") as alan:
        requested = await office.waiting(grace, sessionKey="agent:guide:hers")
        for method in ("exec.approval.get", "approval.get"):
            with pytest.raises(Refused) as unknown:
                await alan.call(method, {"id": requested["id"]})
            assert unknown.value.error["code"] == "APPROVAL_NOT_FOUND"
        with pytest.raises(Refused):
            await alan.call("approval.resolve", {"id": requested["id"], "decision": "allow-once"})
        assert await alan.call("exec.approval.list", {}) == []

        (listed,) = await grace.call("exec.approval.list", {})
        assert listed == requested
        assert await grace.call("approval.list", {}) == {"approvals": [listed]}
        found = await grace.call("exec.approval.get", {"id": listed["id"]})
        assert found["allowedDecisions"] == ["allow-once", "allow-always", "deny"]
        await grace.call("approval.resolve", {"id": listed["id"], "decision": "deny"})

        await grace.event("exec.approval.resolved", decision="deny")
        found = await grace.call("approval.get", {"id": listed["id"]})
        assert (found["decision"], found["allowedDecisions"]) == ("deny", [])
    assert office.courier.sent == []


async def test_without_the_scope_there_are_neither_events_nor_methods(
    office: Office, peer: Peer
) -> None:
    scopes = ["operator.read", "operator.write"]
    async with office.connected(scopes=scopes) as reader, office.connected("eve") as eve:
        requested = await office.waiting(peer)
        for client in (reader, eve):
            for method in ("exec.approval.list", "approval.list"):
                with pytest.raises(Refused, match="missing scope"):
                    await client.call(method, {})
            with pytest.raises(Refused, match="missing scope"):
                await client.call(
                    "exec.approval.resolve", {"id": requested["id"], "decision": "allow-once"}
                )
            assert [e for e in client.events if e["event"].startswith("exec.approval")] == []
    assert office.courier.sent == []


@pytest.mark.parametrize("method", METHODS)
async def test_a_decision_is_made_once_and_with_one_of_three_words(
    office: Office, peer: Peer, method: str
) -> None:
    requested = await office.waiting(peer)
    for params in (
        {"id": requested["id"], "decision": "allow"},
        {"id": "f00", "decision": "allow-once"},
    ):
        with pytest.raises(Refused):
            await peer.call(method, params)

    await peer.call(method, {"id": requested["id"], "decision": "deny"})

    with pytest.raises(Refused, match="decided before"):
        await peer.call(method, {"id": requested["id"], "decision": "allow-once"})
    await peer.event("chat", state="final")
    assert office.courier.sent == []


async def test_an_approval_outlives_the_process(tmp_path: Path, provider: FakeProvider) -> None:
    courier = Courier()
    async with open_office(tmp_path, provider, courier) as office, office.connected() as peer:
        requested = await office.waiting(peer)

    async with open_office(tmp_path, provider, courier) as office, office.connected() as peer:
        await peer.call("sessions.subscribe", {})
        assert await peer.call("exec.approval.list", {}) == [requested]
        await peer.call("exec.approval.resolve", {"id": requested["id"], "decision": "allow-once"})
        await peer.event("chat", state="final", runId="k1")

    assert courier.sent == [ARGUMENTS]


async def test_each_request_and_each_decision_is_sent_once(office: Office, peer: Peer) -> None:
    office.provider.will(calls(ARGUMENTS, ARGUMENTS | {"to": "grace"}))
    await peer.call("agent", {"agentId": "guide", "message": "Send.", "idempotencyKey": "k1"})
    first = (await peer.event("exec.approval.requested"))["payload"]
    second = (await peer.event("exec.approval.requested"))["payload"]
    params = {"id": first["id"], "decision": "deny"}

    await peer.call("exec.approval.resolve", params)
    await peer.event("exec.approval.resolved", id=first["id"], decision="deny")
    with pytest.raises(Refused):
        await peer.call("exec.approval.resolve", params)
    await peer.event("agent", data__phase="waiting")  # Again, for the second call.
    await peer.call("runs.abort", {"runId": "k1"})
    await office.served.container.approvals().expire()

    await peer.event("exec.approval.resolved", id=second["id"], decision="expired")
    await peer.call("health")
    assert [e for e in peer.events if e["event"].startswith("exec.approval")] == []
    assert office.courier.sent == []

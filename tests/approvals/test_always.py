"""`allow-always`, with a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.approvals.office import ARGUMENTS, Courier, Office, calls, open_office
from tests.control.client import Peer, Refused
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

REORDERED = dict(reversed(ARGUMENTS.items()))


async def decide(office: Office, peer: Peer, word: str) -> None:
    requested = await office.waiting(peer)
    await peer.call("exec.approval.resolve", {"id": requested["id"], "decision": word})
    await peer.event("chat", state="final", runId="k1")


async def run(peer: Peer, run_id: str, agent: str = "guide") -> None:
    await peer.call("agent", {"agentId": agent, "message": "Again.", "idempotencyKey": run_id})


async def test_the_same_call_needs_no_approval_afterwards(office: Office, peer: Peer) -> None:
    await decide(office, peer, "allow-always")
    office.provider.will(calls(REORDERED), answer("Sent again."))

    await run(peer, "k2")

    await peer.event("chat", state="final", runId="k2")
    assert office.courier.sent == [ARGUMENTS, ARGUMENTS]


async def test_other_arguments_and_other_agents_need_one(office: Office, peer: Peer) -> None:
    await decide(office, peer, "allow-always")
    other = ARGUMENTS | {"to": "eve"}
    office.provider.will(calls(other), calls())

    await run(peer, "k2")
    asked = (await peer.event("exec.approval.requested"))["payload"]
    await run(peer, "k3", agent="main")
    also_asked = (await peer.event("exec.approval.requested"))["payload"]

    assert (asked["arguments"], also_asked["agentId"]) == (other, "main")
    assert office.courier.sent == [ARGUMENTS]


async def test_allow_once_is_for_one_call(office: Office, peer: Peer) -> None:
    await decide(office, peer, "allow-once")
    office.provider.will(calls())

    await run(peer, "k2")

    await peer.event("exec.approval.requested")
    assert office.courier.sent == [ARGUMENTS]


async def test_it_outlives_the_process(tmp_path: Path, provider: FakeProvider) -> None:
    courier = Courier()
    async with open_office(tmp_path, provider, courier) as office, office.connected() as peer:
        await decide(office, peer, "allow-always")

    async with open_office(tmp_path, provider, courier) as office, office.connected() as peer:
        provider.will(calls(), answer("Sent again."))
        await run(peer, "k2")
        await peer.event("chat", state="final", runId="k2")

    assert courier.sent == [ARGUMENTS, ARGUMENTS]


async def test_it_is_listed_and_revoked(office: Office, peer: Peer) -> None:
    await decide(office, peer, "allow-always")
    (listed,) = (await peer.call("approval.standing.list", {}))["standing"]
    assert (listed["agentId"], listed["tool"]) == ("guide", "send")
    assert (listed["arguments"], listed["grantedBy"]) == (ARGUMENTS, "operator")
    async with office.connected("grace") as grace:
        assert await grace.call("approval.standing.list", {}) == {"standing": []}
        with pytest.raises(Refused):
            await grace.call("approval.standing.revoke", {"id": listed["id"]})

    await peer.call("approval.standing.revoke", {"id": listed["id"]})

    with pytest.raises(Refused):
        await peer.call("approval.standing.revoke", {"id": listed["id"]})
    office.provider.will(calls())
    await run(peer, "k2")
    await peer.event("exec.approval.requested")
    assert office.courier.sent == [ARGUMENTS]


async def test_one_who_is_restricted_revokes_what_it_has_allowed(office: Office) -> None:
    async with office.connected("grace") as grace:
        requested = await office.waiting(grace, sessionKey="agent:guide:hers")
        params = {"id": requested["id"], "decision": "allow-always"}
        await grace.call("approval.resolve", params)
        (listed,) = (await grace.call("approval.standing.list", {}))["standing"]

        await grace.call("approval.standing.revoke", {"id": listed["id"]})

        assert await grace.call("approval.standing.list", {}) == {"standing": []}

"""`opensoul approvals` and the Python client, beside a real server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from opensoul.client import CallFailed, Client
from tests.app.serving import SECRET
from tests.approvals.office import ARGUMENTS, Office, calls
from tests.control.client import Peer
from tests.e2e.process import OPENSOUL
from tests.fakes.behaviours import answer


def url(office: Office) -> str:
    return office.served.url.replace("http", "ws", 1)


async def opensoul(office: Office, *arguments: str) -> tuple[int, str, str]:
    """The exit code, the output and the errors of `opensoul approvals`."""
    return await command(office, "approvals", *arguments)


async def command(office: Office, *arguments: str) -> tuple[int, str, str]:
    address = ("--url", url(office), "--token", SECRET)
    env = {"HOME": str(office.served.config_path.parent)}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        OPENSOUL, *arguments, *address, stdout=pipe, stderr=pipe, env=env
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def as_json(office: Office, *arguments: str) -> Any:
    code, out, err = await opensoul(office, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


async def test_approvals_are_listed_and_shown(office: Office, peer: Peer) -> None:
    code, out, _ = await opensoul(office)
    assert (code, out) == (0, "No tool call waits for a decision.\n")
    requested = await office.waiting(peer)

    _, listed, _ = await opensoul(office, "list")
    _, shown, _ = await opensoul(office, "get", requested["id"])

    assert requested["id"] in listed
    for printed in (listed, shown):
        assert json.dumps(ARGUMENTS) in printed
    assert await as_json(office) == {"approvals": [requested]}
    assert (await as_json(office, "get", requested["id"]))["tool"] == "send"
    assert office.courier.sent == []


@pytest.mark.parametrize(
    ("arguments", "said", "decision"),
    [
        (["allow"], "Allowed.\n", "allow-once"),
        (["allow", "--always"], "Allowed, now and later.\n", "allow-always"),
        (["deny"], "Denied.\n", "deny"),
    ],
)
async def test_a_call_is_allowed_or_denied(
    office: Office, peer: Peer, arguments: list[str], said: str, decision: str
) -> None:
    requested = await office.waiting(peer)

    code, out, _ = await opensoul(office, *arguments, requested["id"])

    assert (code, out) == (0, said)
    await peer.event("exec.approval.resolved", decision=decision)
    await peer.event("chat", state="final")
    assert office.courier.sent == ([] if decision == "deny" else [ARGUMENTS])
    code, _, err = await opensoul(office, "allow", requested["id"])
    assert (code, "decided before" in err) == (1, True)


async def test_the_client_lists_shows_and_decides(office: Office, peer: Peer) -> None:
    requested = await office.waiting(peer)
    scopes = ["operator.approvals"]
    async with Client.connect(url(office), token=SECRET, scopes=scopes) as client:
        (approval,) = await client.approvals()
        assert (approval.id, approval.tool) == (requested["id"], "send")
        assert (approval.arguments, approval.run_id) == (ARGUMENTS, "k1")
        assert approval.expires_at is not None
        assert approval.created_at == pytest.approx(approval.expires_at - 600)

        await client.decide(approval.id, "allow-once")

        assert await client.approvals() == ()
        assert (await client.approval(approval.id)).decision == "allow-once"
        with pytest.raises(CallFailed):
            await client.decide(approval.id, "deny")
    await peer.event("chat", state="final")
    assert office.courier.sent == [ARGUMENTS]


async def test_who_asks_an_agent_is_informed_of_a_call_that_waits(office: Office) -> None:
    office.provider.will(calls(), answer("It is sent."))
    async with office.connected() as peer:
        asking = asyncio.create_task(command(office, "agent", "--agent", "guide", "-m", "Send it."))
        requested = (await peer.event("exec.approval.requested"))["payload"]
        await peer.call("approval.resolve", {"id": requested["id"], "decision": "allow-once"})

        code, out, err = await asking

    assert (code, out) == (0, "I send it. \n\nIt is sent.\n")
    assert err.endswith(f"Allow it with: opensoul approvals allow {requested['id']}\n")


async def test_what_was_allowed_for_later_calls_is_listed_and_revoked(
    office: Office, peer: Peer
) -> None:
    code, out, _ = await opensoul(office, "standing")
    assert (code, out) == (0, "Nothing was allowed for later calls.\n")
    requested = await office.waiting(peer)
    await peer.call("approval.resolve", {"id": requested["id"], "decision": "allow-always"})
    _, listed, _ = await opensoul(office, "standing")
    assert json.dumps(ARGUMENTS) in listed
    async with Client.connect(url(office), token=SECRET, scopes=["operator.approvals"]) as client:
        (standing,) = await client.standing_approvals()
        assert (standing.tool, standing.arguments) == ("send", ARGUMENTS)

        assert (await opensoul(office, "revoke", standing.id))[0] == 0

        assert await client.standing_approvals() == ()
        with pytest.raises(CallFailed):
            await client.revoke_approval(standing.id)

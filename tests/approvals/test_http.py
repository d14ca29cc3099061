"""Approvals over HTTP, with a real server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.approvals.office import ARGUMENTS, Office
from tests.control.client import Peer


async def test_pending_approvals_are_listed_and_found_by_id(office: Office, peer: Peer) -> None:
    requested = await office.waiting(peer)

    status, listed = await office.http("GET")

    assert status == 200
    (shown,) = listed["data"]
    assert listed == {"object": "list", "data": [shown]}
    assert shown == {
        "id": requested["id"],
        "tool": "send",
        "arguments": ARGUMENTS,
        "runId": "k1",
        "agentId": "guide",
        "sessionKey": "agent:guide:main",
        "createdAt": shown["createdAt"],
        "expiresAt": shown["createdAt"] + 600_000,
    }
    assert await office.http("GET", f"/{requested['id']}") == (200, shown)


@pytest.mark.parametrize(("word", "sent"), [("allow-once", 1), ("allow-always", 1), ("deny", 0)])
async def test_a_decision_stands_and_the_run_goes_on(
    office: Office, peer: Peer, word: str, sent: int
) -> None:
    requested = await office.waiting(peer)
    path = f"/{requested['id']}"

    status, decided = await office.http("POST", path, decision=word)

    assert (status, decided["decision"], decided["decidedBy"]) == (200, word, "operator")
    await peer.event("chat", state="final")
    assert office.courier.sent == [ARGUMENTS] * sent
    assert await office.http("GET") == (200, {"object": "list", "data": []})
    for again in ("allow-once", "allow-always", "deny"):
        status, refused = await office.http("POST", path, decision=again)
        assert (status, refused["error"]["code"]) == (409, "approval_decided")
    assert office.courier.sent == [ARGUMENTS] * sent


@pytest.mark.parametrize(
    "body",
    [{"decision": "allow"}, {"decision": "expired"}, {"decision": ["deny"]}, {"approve": True}],
)
async def test_any_other_word_decides_nothing(
    office: Office, peer: Peer, body: dict[str, Any]
) -> None:
    requested = await office.waiting(peer)

    status, refused = await office.http("POST", f"/{requested['id']}", **body)

    assert (status, refused["error"]["param"]) == (400, "decision")
    assert len((await office.http("GET"))[1]["data"]) == 1
    assert office.courier.sent == []


async def test_unknown_and_foreign_approvals_are_not_found(office: Office, peer: Peer) -> None:
    requested = await office.waiting(peer)
    mine = f"/{requested['id']}"

    for user, path in (("", "/f00"), ("alan", mine), ("alan", "/f00")):
        answers = [
            await office.http("GET", path, user),
            await office.http("POST", path, user, decision="allow-once"),
        ]
        for status, refused in answers:
            assert (status, refused["error"]["code"]) == (404, "approval_not_found")
    assert await office.http("GET", user="alan") == (200, {"object": "list", "data": []})
    assert office.courier.sent == []


async def test_without_the_scope_nothing_is_shown_and_nothing_decided(
    office: Office, peer: Peer
) -> None:
    requested = await office.waiting(peer)
    mine = f"/{requested['id']}"

    refused = [
        await office.http("GET", user="eve"),
        await office.http("GET", mine, "eve"),
        await office.http("POST", mine, "eve", decision="allow-once"),
    ]

    assert [status for status, _ in refused] == [403, 403, 403]
    assert office.courier.sent == []


async def test_an_aborted_run_has_no_pending_approval(office: Office, peer: Peer) -> None:
    requested = await office.waiting(peer)

    await peer.call("runs.abort", {"runId": "k1"})

    assert (await office.http("GET"))[1]["data"] == []
    status, _ = await office.http("POST", f"/{requested['id']}", decision="allow-once")
    assert status == 409
    assert office.courier.sent == []


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ('{"n": 1.5, "s": "\u00fc"}', {"n": 1.5, "s": "ü"}),
        ('{"n": 123456789012345678901234567890}', '{"n": 123456789012345678901234567890}'),
        ('{"s": "\\ud800"}', '{"s": "\\ud800"}'),
    ],
)
async def test_arguments_are_shown_as_the_tool_gets_them(
    office: Office, arguments: str, shown: object
) -> None:
    await office.asked(arguments)

    (listed,) = (await office.http("GET"))[1]["data"]

    assert listed["arguments"] == shown

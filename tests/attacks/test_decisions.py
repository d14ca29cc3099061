"""Decisions about calls by those who may not make them, too late, again, or about other arguments,
through each door."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from dependency_injector import providers

from opensoul.domain.messages import ToolCall
from opensoul.domain.tools import Approval, approval_id
from tests.approvals.office import ARGUMENTS, Clock, Office, open_office
from tests.control.client import Refused
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

Door = Callable[[Office, str, Approval], Awaitable[bool]]
"""Allows a call through a door, as a person; whether the Gateway has accepted that."""


async def by_message(office: Office, user: str, approval: Approval) -> bool:
    return (await office.said(f"approve {approval.code}", user)).status == 200


async def by_http(office: Office, user: str, approval: Approval) -> bool:
    status, _ = await office.http("POST", f"/{approval.id}", user, decision="allow-once")
    return status == 200


def by_method(name: str) -> Door:
    async def decide(office: Office, user: str, approval: Approval) -> bool:
        scopes = ["operator.read", "operator.write"]
        if user != "eve":
            scopes.append("operator.approvals")
        async with office.connected(user, scopes=scopes) as peer:
            try:
                await peer.call(name, {"id": approval.id, "decision": "allow-once"})
            except Refused:
                return False
        return True

    return decide


DOORS: dict[str, Door] = {
    "message": by_message,
    "http": by_http,
    "exec.approval.resolve": by_method("exec.approval.resolve"),
    "approval.resolve": by_method("approval.resolve"),
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def office(tmp_path: Path, clock: Clock) -> AsyncIterator[Office]:
    async with (
        FakeProvider(answer("Hello")) as provider,
        open_office(tmp_path, provider, clock=providers.Object(clock)) as opened,
    ):
        yield opened


async def waiting(office: Office, by: str = "grace") -> Approval:
    """An approval that a run of this person waits for."""
    asked = await office.asked(by=by)
    found = await office.served.container.approval_book().pending()
    return next(approval for approval in found if approval.code == asked.code)


@pytest.mark.parametrize("door", DOORS)
async def test_each_door_decides_for_those_who_may(office: Office, door: str) -> None:
    """Otherwise the other tests would prove nothing."""
    for number, user in enumerate(("grace", "ada", ""), 1):
        approval = await waiting(office)
        assert await DOORS[door](office, user, approval)
        await ended(office, approval)
        assert len(office.courier.sent) == number


async def ended(office: Office, approval: Approval) -> None:
    """Return once the run has its terminal event."""
    principal = await office.served.container.run_events().find(approval.run_id)
    assert principal is not None
    async for batch in office.served.container.run_events().follow(approval.run_id):
        if batch.ending is not None:
            return


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("owner", "user"), [("grace", "eve"), ("grace", "alan"), ("", "grace")])
async def test_a_stranger_decides_nothing(office: Office, door: str, owner: str, user: str) -> None:
    approval = await waiting(office, owner)

    assert not await DOORS[door](office, user, approval)

    assert office.courier.sent == []
    assert await still_waits(office, approval)


async def still_waits(office: Office, approval: Approval) -> bool:
    book = office.served.container.approval_book()
    return approval.id in [one.id for one in await book.pending()]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("first", ["allow-once", "deny"])
async def test_a_decision_is_not_made_again(office: Office, door: str, first: str) -> None:
    approval = await waiting(office)
    await office.http("POST", f"/{approval.id}", "grace", decision=first)
    await ended(office, approval)
    sent = list(office.courier.sent)

    for user in ("grace", "ada", ""):
        assert not await DOORS[door](office, user, approval)

    assert office.courier.sent == sent == [ARGUMENTS] * (first == "allow-once")


@pytest.mark.parametrize("door", DOORS)
async def test_a_decision_that_comes_too_late_is_none(
    office: Office, clock: Clock, door: str
) -> None:
    approval = await waiting(office)
    clock.ahead = 601

    assert not await DOORS[door](office, "grace", approval)

    assert office.courier.sent == []


@pytest.mark.parametrize("door", DOORS)
async def test_a_call_of_an_aborted_run_is_not_allowed_any_more(office: Office, door: str) -> None:
    approval = await waiting(office)
    async with office.connected() as peer:
        await peer.call("runs.abort", {"runId": approval.run_id})
    await ended(office, approval)

    assert not await DOORS[door](office, "grace", approval)

    assert office.courier.sent == []


GUESSES = [
    "",
    "*",
    "%",
    "_",
    "..",
    "0",
    "null",
    "-1",
    "CODE",
    "RUN",
    "ID ",
    "ID\n",
    "ID%00",
    "\u0130D",
]
"""Instead of an id."""


async def test_what_is_no_id_finds_no_approval(office: Office) -> None:
    approval = await waiting(office)
    async with office.connected() as peer:
        for guess in GUESSES:
            text = guess.replace("CODE", approval.code).replace("RUN", approval.run_id)
            text = text.replace("ID", approval.id)
            for name in ("exec.approval.resolve", "approval.resolve", "exec.approval.get"):
                with pytest.raises(Refused):
                    await peer.call(name, {"id": text, "decision": "allow-once"})

    assert office.courier.sent == []
    assert await still_waits(office, approval)


SWAPS = [
    '{"to": "eve", "what": "a letter"}',
    '{"to": "ada ", "what": "a letter"}',
    '{"To": "ada", "what": "a letter"}',
    '{"to": ["ada"], "what": "a letter"}',
    '{"to": "\u0430da", "what": "a letter"}',
    '{"to": "ada\u200b", "what": "a letter"}',
    '{"to": "ada", "what": "a letter", "more": null}',
    '{"to": "ada", "to": "eve", "what": "a letter"}',
    '{"to": "ada"}',
    "{}",
]
"""Arguments that are not those that were approved."""


async def test_an_approval_is_of_no_use_for_other_arguments(office: Office) -> None:
    """Neither that of one call, nor what was allowed for later calls."""
    approval = await waiting(office)
    await office.http("POST", f"/{approval.id}", decision="allow-always")
    await ended(office, approval)
    for swapped in SWAPS:
        call = ToolCall(approval.call.id, approval.call.name, swapped)
        assert approval_id("key", call) != approval_id("key", approval.call)

        asked = await office.asked(swapped, by="grace")

        assert asked.code != approval.code
        await office.said(f"deny {asked.code}", "grace")
    assert office.courier.sent == [ARGUMENTS] == [json.loads(approval.call.arguments)]

"""Approvals in the chat of the terminal, beside a real server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from textual.pilot import Pilot

from opensoul.app.cli.tui import Chat
from opensoul.app.cli.tui.approvals import ApprovalScreen
from opensoul.app.cli.tui.bubbles import Bubble
from opensoul.client import Options
from tests.app.serving import SECRET
from tests.approvals.office import ARGUMENTS, Office, calls
from tests.control.client import Peer
from tests.fakes.behaviours import answer

SCOPES = ("operator.write", "operator.approvals")
EVIL = {"to": "ada\x1b[2J\u202e", "what": "[link=http://x.example]a[/link]"}


def chat(office: Office, scopes: tuple[str, ...] = SCOPES) -> Chat:
    url = office.served.url.replace("http", "ws", 1)
    return Chat(Options(url=url, token=SECRET, scopes=scopes), session_key="agent:guide:main")


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    """Let the application work until something is so; the test's timeout bounds it."""
    while not true():
        await pilot.pause()


def asks(app: Chat) -> bool:
    return isinstance(app.screen, ApprovalScreen)


def said(app: Chat) -> list[str]:
    return [bubble.text for bubble in app.screen_stack[0].query(Bubble)]


@pytest.mark.parametrize(
    ("downs", "decision", "sent"),
    [(1, "allow-once", 1), (2, "allow-always", 1), (3, "deny", 0)],
)
async def test_a_person_decides_in_the_chat(
    office: Office, peer: Peer, downs: int, decision: str, sent: int
) -> None:
    office.provider.will(calls(), answer("It is sent."))
    app = chat(office)
    async with app.run_test() as pilot:
        await until(pilot, lambda: "connected" in str(app.query_one("#state").render()))
        await pilot.press(*"send", "enter")
        await until(pilot, lambda: asks(app))
        await pilot.press(*["down"] * downs, "enter")
        await until(pilot, lambda: said(app)[-1:] == ["I send it. \n\nIt is sent."])
    await peer.event("exec.approval.resolved", decision=decision)
    assert office.courier.sent == [ARGUMENTS] * sent


async def test_enter_alone_decides_nothing_and_the_call_can_be_shown_again(
    office: Office, peer: Peer
) -> None:
    requested = await office.waiting(peer)
    app = chat(office)
    async with app.run_test() as pilot:
        await until(pilot, lambda: asks(app))
        await pilot.press("enter")
        await until(pilot, lambda: not asks(app))
        assert len((await office.http("GET"))[1]["data"]) == 1
        await pilot.press("ctrl+r")
        await until(pilot, lambda: asks(app))

        await office.http("POST", f"/{requested['id']}", decision="deny")

        await until(pilot, lambda: not asks(app))
    assert office.courier.sent == []


async def test_what_the_model_wrote_steers_nothing(office: Office, peer: Peer) -> None:
    office.provider.will(calls(EVIL))
    await peer.call("agent", {"agentId": "guide", "message": "Send.", "idempotencyKey": "k1"})
    await peer.event("exec.approval.requested")
    app = chat(office)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: asks(app))
        await pilot.pause()
        strips = app.screen._compositor.render_strips()
        assert not [s for strip in strips for s in strip if s.style and s.style.link]
        shown = "\n".join(strip.text for strip in strips)
        assert "\\u001b[2J\\u202e" in shown
        assert "[link=http://x.example]a[/link]" in shown


async def test_without_the_scope_nothing_is_asked(office: Office, peer: Peer) -> None:
    await office.waiting(peer)
    app = chat(office, ("operator.write",))
    async with app.run_test() as pilot:
        await until(pilot, lambda: "connected" in str(app.query_one("#state").render()))
        await pilot.press("ctrl+r")
        await pilot.pause()
        assert not asks(app)
        assert not [bubble for bubble in app.query(Bubble) if bubble.has_class("problem")]

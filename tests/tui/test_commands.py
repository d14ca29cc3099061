"""Commands in the chat of the terminal, beside a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest_asyncio
from textual.pilot import Pilot
from textual.widgets import Input

from opensoul.app.cli.tui import Chat
from opensoul.app.cli.tui.bubbles import Bubble
from opensoul.client import Options
from tests.app.serving import SECRET, Served, config, serving
from tests.fakes.behaviours import hang_after
from tests.fakes.provider import FakeProvider

SCOPES = ("operator.write", "operator.approvals", "operator.admin")


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with (
        FakeProvider(hang_after("Hel")) as provider,
        serving(tmp_path, config(provider.base_url)) as served,
    ):
        yield served


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    """Let the application work until something is so; the test's timeout bounds it."""
    while not true():
        await pilot.pause()


def said(app: Chat) -> list[str]:
    return [bubble.text for bubble in app.screen_stack[0].query(Bubble)]


async def test_commands_are_answered_while_a_run_works_and_stop_it(served: Served) -> None:
    url = served.url.replace("http", "ws", 1)
    app = Chat(Options(url=url, token=SECRET, scopes=SCOPES), session_key="agent:main:main")

    async with app.run_test() as pilot:

        async def enter(text: str, answer: str) -> None:
            app.query_one(Input).value = text
            await pilot.press("enter")
            await until(pilot, lambda: said(app)[-1].startswith(answer))

        await until(pilot, lambda: "connected" in str(app.query_one("#state").render()))
        await enter("work", "Hel")
        await enter("/status", "Agent: main")
        assert "Runs at work: 1" in said(app)[-1]
        await enter("/help", "/help: Show the commands.")
        await enter("/stop", "The run was stopped.")
        await enter("/new", "The session starts over.")
        await enter("/status", "Agent: main")
        assert "Runs at work: 0" in said(app)[-1]

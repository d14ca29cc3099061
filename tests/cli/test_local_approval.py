"""Turns without a Gateway: a tool call that waits for approval, and a command."""

from __future__ import annotations

import asyncio
import json

import pytest

from opensoul.app.container import Container
from tests.app.serving import config
from tests.approvals.office import Courier, calls, installed
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

from .command import Home


@pytest.mark.parametrize("json_", [False, True])
async def test_a_turn_without_a_gateway_has_nobody_to_approve_its_calls(
    home: Home, json_: bool
) -> None:
    courier = Courier()
    async with FakeProvider() as provider:
        provider.will(calls(), answer("Then not."))
        home.configure(json.dumps(config(provider.base_url, tools={"allow": ["send"]})))

        more = ["--json"] if json_ else []
        with Container.find_plugins.override(installed(courier=courier)):
            asked = await asyncio.to_thread(
                home.opensoul, "agent", "--local", "-m", "Send it.", *more
            )

    assert asked.code == 0
    if json_:
        assert (asked.json["status"], asked.err) == ("ok", "")
    else:
        assert asked.out == "I send it. \n\nThen not.\n"
        assert "nobody to approve it" in asked.err
    assert courier.sent == []


async def test_a_command_without_a_gateway_calls_no_model(home: Home) -> None:
    async with FakeProvider() as provider:
        home.configure(json.dumps(config(provider.base_url)))
        asked = await asyncio.to_thread(home.opensoul, "agent", "--local", "-m", "/status")
        assert (asked.code, provider.requests) == (0, [])
    assert "Session: agent:main:main\nModel: fake/m\n" in asked.out

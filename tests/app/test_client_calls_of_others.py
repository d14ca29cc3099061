"""The id of a call that another principal was handed discloses nothing of that turn."""

from __future__ import annotations

from typing import Any

import pytest

from tests.app.grants import ask, people, provider, served, through_proxy
from tests.app.serving import Served
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

__all__ = ["people", "provider", "served"]

FUNCTION = {"name": "weather", "arguments": "{}"}
CALL = {"index": 0, "id": "c", "type": "function", "function": FUNCTION}
TOOLS = [{"type": "function", "function": {"name": "weather"}}]
SECRET_TEXT = "what grace was told"


@pytest.mark.parametrize(("thief", "sees"), [("grace", True), ("ada", True), ("heidi", False)])
async def test_a_stolen_call_id(
    served: Served, provider: FakeProvider, people: Any, thief: str, sees: bool
) -> None:
    """Grace goes on with her turn; an operator may see it; another restricted person may not."""
    grace = people.people["grace"]
    people.people["heidi"] = type(grace)(
        "heidi", principal="heidi", scopes=grace.scopes, agents=grace.agents
    )
    body: dict[str, Any] = {"model": "opensoul/guide", "tools": TOOLS}
    question = {"role": "user", "content": "How is it?"}
    provider.will(answer(SECRET_TEXT, tool_calls=[CALL], finish_reason="tool_calls"))
    headers = through_proxy("grace")
    async with ask(served, headers, **body, messages=[question]) as response:
        (call,) = (await response.json())["choices"][0]["message"]["tool_calls"]

    mine = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}
    headers, messages = through_proxy(thief), [question, mine, result]
    async with ask(served, headers, **body, messages=messages) as response:
        assert response.status == 200, await response.text()

    assert (SECRET_TEXT in provider.requests[-1].body.decode()) is sees

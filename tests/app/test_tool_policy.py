"""The policy for tools in a running Gateway, from the configuration file to the provider."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest
from dependency_injector import providers

from opensoul.domain.access import Principal, Scope
from opensoul.domain.messages import ToolCall
from opensoul.domain.ports import ToolContext
from opensoul.domain.tools import Decision, ToolOutput, ToolResult, ToolSpec
from tests.app.serving import Served, config, serving
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

OPERATOR = Principal("operator", frozenset({Scope.APPROVALS, Scope.ADMIN}), "token")


class Machine:
    """A source of tools that only says what it would do."""

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        return [ToolSpec("exec", "Runs a command."), ToolSpec("read", "Reads a file.")]

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        yield ToolResult(f"ran {call.name} {call.arguments}")

    async def close(self) -> None:
        """There is nothing to release."""


KNOWN = providers.Object(Machine())


def calling(*calls: tuple[str, dict[str, Any]]) -> Any:
    """An answer of the model that calls tools: their names and arguments."""
    deltas = [
        {
            "index": number,
            "id": f"c{number}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for number, (name, arguments) in enumerate(calls)
    ]
    return answer(tool_calls=deltas, finish_reason="tool_calls")


def results(request: Any) -> list[str]:
    return [one["content"] for one in request.json["messages"] if one["role"] == "tool"]


def offered(request: Any) -> list[str]:
    return [tool["function"]["name"] for tool in request.json.get("tools", [])]


async def decide(served: Served, answered: asyncio.Task[str], decision: Decision) -> str:
    """Decide on the approval that a request waits for; the arguments of its call."""
    service = served.container.approvals()
    pending = await service.pending(OPERATOR)
    while not pending and not answered.done():
        await asyncio.sleep(0)
        pending = await service.pending(OPERATOR)
    (approval,) = pending
    await service.decide(OPERATOR, approval.id, decision)
    return approval.call.arguments


async def test_a_call_of_a_denied_tool_is_an_error_for_the_model(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        called = calling(("exec", {"command": "id"}), ("read", {"path": "x"}))
        provider.will(called, answer("I see."))
        content = config(provider.base_url, tools={"allow": ["*"], "deny": ["group:runtime"]})
        async with serving(tmp_path, content, all_tools=KNOWN) as served:
            assert await served.text() == "I see."
        first, second = provider.requests

    assert offered(first) == ["read"]
    assert results(second)[1] == 'ran read {"path": "x"}'
    assert "ran" not in results(second)[0]


async def test_an_agents_own_rules_hold_for_it_alone(tmp_path: Path) -> None:
    agents = {
        "defaults": {"model": {"primary": "fake/m"}},
        "list": [
            {"id": "main"},
            {"id": "reader", "tools": {"profile": "coding", "deny": ["exec"]}},
        ],
    }
    async with FakeProvider() as provider:
        content = config(provider.base_url, agents=agents)
        async with serving(tmp_path, content, all_tools=KNOWN) as served:
            await served.text(model="opensoul:main")
            await served.text(model="opensoul:reader")
            served.configure(content | {"tools": {"alsoAllow": ["exec"]}})
            await served.text(model="opensoul:main")

    assert [offered(request) for request in provider.requests] == [[], ["read"], ["exec"]]


@pytest.mark.parametrize(
    ("decision", "result"),
    [
        (Decision.ALLOW, 'ran exec {"command": "git push"}'),
        (Decision.DENY, "denied: operator did not approve this call"),
    ],
)
async def test_a_command_that_the_allow_list_misses_waits_for_a_decision(
    tmp_path: Path, decision: Decision, result: str
) -> None:
    rules = {"allow": ["exec"], "exec": {"ask": "on-miss", "allowlist": ["git log *"]}}
    async with FakeProvider() as provider:
        provider.will(
            calling(("exec", {"command": "git log"})),
            calling(("exec", {"command": "git push"})),
            answer("Done."),
        )
        content = config(provider.base_url, tools=rules)
        async with serving(tmp_path, content, all_tools=KNOWN) as served:
            said = asyncio.create_task(served.text({"x-opensoul-approval": "wait"}))
            waited = await decide(served, said, decision)
            assert await said == "Done."

    assert waited == '{"command": "git push"}'
    assert results(provider.requests[-1]) == ['ran exec {"command": "git log"}', result]

"""What only agents of pydantic-ai have; test_every_framework.py has the rest."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from opensoul.adapters.python_agents import Status
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider
from tests.python_agents.agents import PYDANTIC_AI
from tests.python_agents.bench import bench, call, calling, says, written
from tests.python_agents.conftest import Write
from tests.python_agents.test_functions import text_of

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

STRUCTURED = """
    from pydantic import BaseModel
    class Sky(BaseModel):
        color: str
    agent = Agent(model, output_type=Sky)
"""
FACTORY = """
    inner = agent
    def agent(run):
        return inner
"""
OWN_DEPS = """
    class Database:
        pass
    agent = Agent(model, deps_type=Database)
"""
VALIDATED = """
    @agent.output_validator
    def loud(text: str) -> str:
        return text.upper()
"""
LIMITED = """
    from pydantic_ai import UsageLimitExceeded
    @agent.tool_plain
    def more() -> str:
        raise UsageLimitExceeded("too many tokens")
"""
CALLS_ANOTHER = """
    from pydantic_ai.messages import ToolCallPart
    @agent.tool
    async def forecast(ctx: RunContext[AgentRun]) -> str:
        inner = ToolCallPart("weather", {"city": "Rome"}, "inner")
        return str(await ctx.tool_manager.handle_call(inner))
"""
ASKS_ITSELF = """
    from pydantic_ai import ApprovalRequired
    @agent.tool
    def send(ctx: RunContext[AgentRun], to: str) -> str:
        if not ctx.tool_call_approved:
            raise ApprovalRequired
        return f"sent to {to}"
"""
DEFERS = """
    from pydantic_ai import CallDeferred
    @agent.tool_plain
    def later() -> str:
        raise CallDeferred
"""
LOOK = {"type": "function", "function": {"name": "look"}}


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


async def test_a_structured_output_is_answered_as_json(
    write: Write, tmp_path: Path, provider: FakeProvider
) -> None:
    module = written(write, tmp_path, PYDANTIC_AI + STRUCTURED, provider)
    provider.default = calling(call("final_result", '{"color":"blue"}'))

    async with bench(tmp_path, module, provider) as agent:
        whole = await agent.whole(user="ada")
        chunks = await agent.streamed(user="ada")
        sent = agent.sent()

    assert whole["choices"][0]["message"]["content"] == '{"color":"blue"}'
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert text_of(chunks) == '{"color":"blue"}'
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert sent[1]["content"] == '{"color":"blue"}'


@pytest.mark.parametrize(
    ("more", "text"), [(FACTORY, "Hello there"), (VALIDATED, "HELLO THERE")], ids=["factory", "own"]
)
async def test_factories_and_validators_are_called(
    more: str, text: str, write: Write, tmp_path: Path, provider: FakeProvider
) -> None:
    module = written(write, tmp_path, PYDANTIC_AI + more, provider)

    async with bench(tmp_path, module, provider) as agent:
        whole = await agent.whole()

    assert whole["choices"][0]["message"]["content"] == text


async def test_an_agent_with_deps_of_its_own_is_refused(
    write: Write, tmp_path: Path, provider: FakeProvider
) -> None:
    module = written(write, tmp_path, PYDANTIC_AI + OWN_DEPS, provider)

    async with bench(tmp_path, module, provider) as agent:
        state = await agent.served.container.python_agents().loaded("main")
        error = (await agent.whole(502))["error"]

    assert state.status is Status.FAILED
    assert "deps_type=Database" in state.what
    assert error["code"] == "agent_failed"
    assert provider.requests == []


async def test_a_memory_of_its_own_is_refused(
    write: Write, tmp_path: Path, provider: FakeProvider
) -> None:
    module = written(write, tmp_path, PYDANTIC_AI, provider)

    async with bench(tmp_path, module, provider, memory="framework") as agent:
        error = (await agent.whole(502))["error"]

    assert "has no memory of its own" in error["message"]


FAULTS: dict[str, tuple[str, str, str]] = {
    "limit": (LIMITED, "more", "reached a limit: too many tokens"),
    "deferred": (DEFERS, "later", "The tool `later`"),
}


@pytest.mark.parametrize(("more", "tool", "why"), FAULTS.values(), ids=FAULTS)
async def test_limits_and_calls_that_nobody_answers_are_named(
    more: str, tool: str, why: str, write: Write, tmp_path: Path, provider: FakeProvider
) -> None:
    module = written(write, tmp_path, PYDANTIC_AI + more, provider)
    provider.will(calling(call(tool, "{}")))

    async with bench(tmp_path, module, provider) as agent:
        error = (await agent.whole(502))["error"]

    assert why in error["message"]


async def test_a_tool_may_call_another_one(
    write: Write, tmp_path: Path, provider: FakeProvider
) -> None:
    module = written(write, tmp_path, PYDANTIC_AI + CALLS_ANOTHER, provider)
    provider.will(calling(call("forecast", "{}")), answer("Sunny."))

    async with bench(tmp_path, module, provider) as agent:
        await agent.whole()
        result = agent.sent()[-1]

    assert "sun in Rome for main" in result["content"]


async def test_a_tool_may_ask_for_an_approval_when_it_runs(
    write: Write, tmp_path: Path, provider: FakeProvider
) -> None:
    module = written(write, tmp_path, PYDANTIC_AI + ASKS_ITSELF, provider)
    provider.will(calling(call("send", '{"to":"eve"}')), answer("Sent."))

    async with bench(tmp_path, module, provider) as agent:
        asked = (await agent.whole(user="ada"))["choices"][0]["message"]["content"]
        code = re.search(r"approve ([A-Z0-9-]{8,})", asked)
        assert code is not None, asked
        whole = await agent.whole(user="ada", messages=says(code[0]))
        sent = agent.sent()

    assert whole["choices"][0]["message"]["content"].endswith("Sent.")
    assert [m["content"] for m in sent if m["role"] == "tool"] == ["sent to eve"]


async def test_an_approval_beside_calls_of_the_client_is_left_to_the_next_request(
    write: Write, tmp_path: Path, provider: FakeProvider
) -> None:
    module = written(write, tmp_path, PYDANTIC_AI, provider)
    both = [call("look", "{}", "c0", 0), call("pay", '{"euros":5}', "c1", 1)]
    provider.will(calling(*both, text="I look."))

    async with bench(tmp_path, module, provider) as agent:
        asked: dict[str, Any] = (await agent.whole(user="ada", tools=[LOOK]))["choices"][0]
        (handed,) = asked["message"]["tool_calls"]
        result = {"role": "tool", "tool_call_id": handed["id"], "content": "blue"}
        await agent.whole(user="ada", messages=[result], tools=[LOOK])
        results = {m["tool_call_id"]: m["content"] for m in agent.sent() if m["role"] == "tool"}

        assert agent.ran == []
    assert handed["function"]["name"] == "look"
    assert results[handed["id"]] == "blue"
    assert results["c1"].startswith("not run")


async def test_an_answer_that_was_cut_off_says_so(
    write: Write, tmp_path: Path, provider: FakeProvider
) -> None:
    module = written(write, tmp_path, PYDANTIC_AI, provider)
    provider.will(answer("Once", finish_reason="length"))

    async with bench(tmp_path, module, provider) as agent:
        choice = (await agent.whole())["choices"][0]

    assert (choice["message"]["content"], choice["finish_reason"]) == ("Once", "length")

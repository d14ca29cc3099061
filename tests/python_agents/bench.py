"""The same agent in each framework, behind a Gateway and in front of a provider."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.app.serving import Served, serving
from tests.fakes.behaviours import Behaviour, answer
from tests.fakes.provider import FakeProvider
from tests.python_agents.conftest import Write, configured

PYDANTIC_AI = """
    from openai import AsyncOpenAI
    from opensoul.api import AgentRun
    from pydantic_ai import Agent, RunContext
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    client = AsyncOpenAI(base_url="URL", api_key="k", max_retries=0)
    model = OpenAIChatModel("m", provider=OpenAIProvider(openai_client=client))
    agent = Agent(model, system_prompt="Be brief.", deps_type=AgentRun)

    @agent.tool
    def weather(ctx: RunContext[AgentRun], city: str) -> str:
        return f"sun in {city} for {ctx.deps.agent_id}"

    @agent.tool_plain(requires_approval=True)
    def pay(euros: int) -> str:
        with open("PAID", "a") as file:
            file.write(f"{euros}\\n")
        return f"paid {euros}"

    @agent.tool_plain
    def fail() -> str:
        raise ValueError("sk-secret")
"""
OPENAI_AGENTS = """
    from agents import Agent, OpenAIChatCompletionsModel, RunContextWrapper, function_tool
    from openai import AsyncOpenAI
    from opensoul.api import AgentRun

    client = AsyncOpenAI(base_url="URL", api_key="k", max_retries=0)
    model = OpenAIChatCompletionsModel("m", client)

    @function_tool
    def weather(ctx: RunContextWrapper[AgentRun], city: str) -> str:
        return f"sun in {city} for {ctx.context.agent_id}"

    @function_tool(needs_approval=True)
    def pay(euros: int) -> str:
        with open("PAID", "a") as file:
            file.write(f"{euros}\\n")
        return f"paid {euros}"

    @function_tool(failure_error_function=None)
    def fail() -> str:
        raise ValueError("sk-secret")

    agent = Agent("helper", instructions="Be brief.", model=model, tools=[weather, pay, fail])
"""

_kept: list[object] = []


def call(name: str, arguments: str, call_id: str = "c1", index: int = 0) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": call_id, "type": "function", "function": function}


def calling(*calls: dict[str, Any], text: str = "", **more: Any) -> Behaviour:
    texts = (text,) if text else ()
    return answer(*texts, tool_calls=calls, finish_reason="tool_calls", **more)


def says(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


@dataclass
class Bench:
    """A Gateway whose agent `main` is the one of a module, and the provider of its model."""

    served: Served
    provider: FakeProvider
    paid_path: Path

    @property
    def paid(self) -> list[str]:
        """What the tool `pay` has paid."""
        return self.paid_path.read_text().split() if self.paid_path.exists() else []

    async def whole(self, status: int = 200, **body: Any) -> dict[str, Any]:
        async with self.served.ask(**body) as response:
            found: dict[str, Any] = await response.json()
            assert response.status == status, found
            return found

    async def streamed(self, **body: Any) -> list[dict[str, Any]]:
        options = {"include_usage": True}
        async with self.served.ask(stream=True, stream_options=options, **body) as response:
            assert response.status == 200, await response.text()
            lines = (await response.text()).splitlines()
        return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]

    def sent(self, number: int = -1) -> list[dict[str, Any]]:
        """The messages of a request that the provider got."""
        messages: list[dict[str, Any]] = self.provider.requests[number].json["messages"]
        return messages


@asynccontextmanager
async def bench(
    home: Path, module: str, provider: FakeProvider, **runner: Any
) -> AsyncIterator[Bench]:
    content = configured({"target": f"{module}:agent", "path": str(home), **runner})
    async with serving(home, content) as served:
        # A client of OpenAI in this process fails while an agent imports httpx.
        await served.container.python_agents().loaded("main")
        yield Bench(served, provider, home / "paid")
    # The client of its model belongs to an event loop that is closed: the next Gateway needs
    # another one, and it would fail to close itself when it is collected.
    _kept.append(sys.modules.pop(module, None))


def written(write: Write, home: Path, text: str, provider: FakeProvider) -> str:
    """The name of the module with the provider's address."""
    return write(text.replace("URL", provider.base_url).replace("PAID", str(home / "paid")))

"""The examples of `opensoul agents new`."""

from __future__ import annotations

from dataclasses import dataclass

_PLAIN = '''"""The agent NAME: a function, called for each request."""


async def agent(run):
    """What it yields is streamed to the client."""
    yield f"You said: {run.text}\\n"
    earlier = [message for message in run.history if message.role == "user"]
    if earlier:
        yield f"Before that you said: {earlier[-1].text}\\n"
'''

_PYDANTIC_AI = '''"""The agent NAME: an Agent of pydantic-ai with one tool."""

from datetime import datetime, timezone

from opensoul.api import model
from pydantic_ai import Agent

agent = Agent(
    model().pydantic_ai(),  # The Gateway's; any other model of pydantic-ai fits as well.
    name="NAME",
    instructions="Answer in one or two sentences.",
)


@agent.tool_plain
def current_time() -> str:
    """The date and the time now, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
'''

_OPENAI_AGENTS = '''"""The agent NAME: an Agent of the OpenAI Agents SDK with one tool."""

from datetime import datetime, timezone

from agents import Agent, function_tool
from opensoul.api import model


@function_tool
def current_time() -> str:
    """The date and the time now, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


agent = Agent(
    name="NAME",
    instructions="Answer in one or two sentences.",
    model=model().openai_agents(),  # The Gateway's; any other model of the SDK fits as well.
    tools=[current_time],
)
'''

_LANGGRAPH = '''"""The agent NAME: a graph of LangGraph, made by LangChain, with one tool."""

from datetime import datetime, timezone

from langchain.agents import create_agent
from opensoul.api import model


def current_time() -> str:
    """The date and the time now, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


agent = create_agent(
    model().langchain(),  # The Gateway's; any other model of LangChain fits as well.
    tools=[current_time],
    system_prompt="Answer in one or two sentences.",
)
'''


@dataclass(frozen=True, slots=True)
class Example:
    """`modules`: what it imports; `packages`: what to install for them."""

    text: str
    modules: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    @property
    def needs_model(self) -> bool:
        """It calls a model of the Gateway."""
        return bool(self.modules)

    def module(self, name: str) -> str:
        """The text of the module of the agent `name`."""
        return self.text.replace("NAME", name)


EXAMPLES = {
    "plain": Example(_PLAIN),
    "pydantic-ai": Example(
        _PYDANTIC_AI,
        ("pydantic_ai", "openai"),
        ("opensoul[pydantic-ai]", "pydantic-ai-slim[openai]"),
    ),
    "langgraph": Example(
        _LANGGRAPH,
        ("langgraph", "langchain", "langchain_openai"),
        ("opensoul[langgraph]", "langchain-openai"),
    ),
    "openai-agents": Example(_OPENAI_AGENTS, ("agents",), ("opensoul[openai-agents]",)),
}
"""By the name of the framework."""

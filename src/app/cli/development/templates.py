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

from pydantic_ai import Agent

agent = Agent(
    "openai:gpt-5.2",  # Any model of pydantic-ai; this one reads OPENAI_API_KEY.
    name="NAME",
    instructions="Answer in one or two sentences.",
    defer_model_check=True,  # So that the module can be imported without the key.
)


@agent.tool_plain
def current_time() -> str:
    """The date and the time now, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
'''

_OPENAI_AGENTS = '''"""The agent NAME: an Agent of the OpenAI Agents SDK with one tool."""

from datetime import datetime, timezone

from agents import Agent, function_tool


@function_tool
def current_time() -> str:
    """The date and the time now, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


agent = Agent(
    name="NAME",
    instructions="Answer in one or two sentences.",
    model="gpt-5.2",  # It reads OPENAI_API_KEY.
    tools=[current_time],
)
'''

_LANGGRAPH = '''"""The agent NAME: a graph of LangGraph, made by LangChain, with one tool."""

from datetime import datetime, timezone
from functools import cache

from langchain.agents import create_agent


def current_time() -> str:
    """The date and the time now, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@cache
def graph():
    return create_agent(
        "openai:gpt-5.2",  # It reads OPENAI_API_KEY.
        tools=[current_time],
        system_prompt="Answer in one or two sentences.",
    )


def agent(run):
    """Makes the graph for the first request, so that the module can be imported without the key."""
    return graph()
'''


@dataclass(frozen=True, slots=True)
class Example:
    """`modules`: what it imports; `packages`: what to install for them; `variables`: what it reads
    from the environment."""

    text: str
    modules: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()

    def module(self, name: str) -> str:
        """The text of the module of the agent `name`."""
        return self.text.replace("NAME", name)


EXAMPLES = {
    "plain": Example(_PLAIN),
    "pydantic-ai": Example(
        _PYDANTIC_AI,
        ("pydantic_ai", "openai"),
        ("opensoul[pydantic-ai]", "openai"),
        ("OPENAI_API_KEY",),
    ),
    "langgraph": Example(
        _LANGGRAPH,
        ("langgraph", "langchain", "langchain_openai"),
        ("opensoul[langgraph]", "langchain", "langchain-openai"),
        ("OPENAI_API_KEY",),
    ),
    "openai-agents": Example(
        _OPENAI_AGENTS, ("agents",), ("opensoul[openai-agents]",), ("OPENAI_API_KEY",)
    ),
}
"""By the name of the framework."""

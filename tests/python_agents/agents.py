"""The same agent in each framework: what its module is, and where frameworks differ.

`URL` stands for the model's, `RAN` for a file to which the tools add their names, and whether the
Gateway has stored that their calls have begun, and `STORE` for that store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

import pytest

from tests.fakes.behaviours import fail
from tests.test_architecture import ROOT

NOTE = """
    import json
    import sqlite3

    def note(name):
        with sqlite3.connect("file:STORE?mode=ro", uri=True) as store:
            steps = [json.loads(body) for (body,) in store.execute("SELECT body FROM steps")]
        open_calls = [
            call
            for step in steps
            for call in step["begun"]
            if not any(f'"{call}"' in result for result in step["results"])
        ]
        with open("RAN", "a") as file:
            file.write(f"{name} {'stored' if open_calls else 'not stored'}\\n")
"""
PYDANTIC_AI = (
    NOTE
    + """
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
        note("weather")
        return f"sun in {city} for {ctx.deps.agent_id}"

    @agent.tool_plain(requires_approval=True)
    def pay(euros: int) -> str:
        note("pay")
        return f"paid {euros}"

    @agent.tool_plain
    def fail() -> str:
        raise ValueError("sk-secret")
"""
)
OPENAI_AGENTS = (
    NOTE
    + """
    from agents import Agent, OpenAIChatCompletionsModel, RunContextWrapper, function_tool
    from openai import AsyncOpenAI
    from opensoul.api import AgentRun

    client = AsyncOpenAI(base_url="URL", api_key="k", max_retries=0)
    model = OpenAIChatCompletionsModel("m", client)

    @function_tool
    def weather(ctx: RunContextWrapper[AgentRun], city: str) -> str:
        note("weather")
        return f"sun in {city} for {ctx.context.agent_id}"

    @function_tool(needs_approval=True)
    def pay(euros: int) -> str:
        note("pay")
        return f"paid {euros}"

    @function_tool(failure_error_function=None)
    def fail() -> str:
        raise ValueError("sk-secret")

    agent = Agent("helper", instructions="Be brief.", model=model, tools=[weather, pay, fail])
"""
)
LANGGRAPH = (
    NOTE
    + """
    from langchain.agents import create_agent
    from langchain.agents.middleware import HumanInTheLoopMiddleware
    from langchain.tools import ToolRuntime
    from langchain_openai import ChatOpenAI
    from openai import DefaultAsyncHttpxClient
    from opensoul.api import AgentRun

    model = ChatOpenAI(
        model="m",
        base_url="URL",
        api_key="k",
        stream_usage=True,
        max_retries=0,
        # The usual one is shared by all models of a process, and belongs to one event loop.
        http_async_client=DefaultAsyncHttpxClient(),
    )

    def weather(city: str, runtime: ToolRuntime[AgentRun]) -> str:
        "The weather in a city."
        note("weather")
        return f"sun in {city} for {runtime.context.agent_id}"

    async def pay(euros: int) -> str:
        "Pay."
        note("pay")
        return f"paid {euros}"

    def fail() -> str:
        "Fail."
        raise ValueError("sk-secret")

    agent = create_agent(
        model,
        [weather, pay, fail],
        system_prompt="Be brief.",
        context_schema=AgentRun,
        middleware=[HumanInTheLoopMiddleware({"pay": True})],
    )
"""
)
GOOGLE_ADK = (
    NOTE
    + """
    from google.adk.agents import LlmAgent
    from google.adk.models.lite_llm import LiteLlm
    from google.adk.tools import FunctionTool, ToolContext

    def weather(city: str, tool_context: ToolContext) -> str:
        "The weather in a city."
        note("weather")
        return f"sun in {city} for {tool_context.state['opensoul_agent_id']}"

    def pay(euros: int) -> str:
        "Pay."
        note("pay")
        return f"paid {euros}"

    def fail() -> str:
        "Fail."
        raise ValueError("sk-secret")

    agent = LlmAgent(
        name="guide",
        model=LiteLlm(model="openai/m", api_base="URL", api_key="k"),
        tools=[weather, FunctionTool(pay, require_confirmation=True), fail],
        instruction="Be brief.",
    )
"""
)
AGNO = (
    NOTE
    + """
    from agno.agent import Agent
    from agno.models.openai.like import OpenAILike
    from agno.run import RunContext
    from agno.tools import tool

    model = OpenAILike(id="m", base_url="URL", api_key="k", max_retries=0)

    def weather(city: str, run_context: RunContext) -> str:
        "The weather in a city."
        note("weather")
        return f"sun in {city} for {run_context.dependencies['opensoul'].agent_id}"

    @tool(requires_confirmation=True)
    def pay(euros: int) -> str:
        "Pay."
        note("pay")
        return f"paid {euros}"

    def fail() -> str:
        "Fail."
        raise ValueError("sk-secret")

    agent = Agent(model=model, tools=[weather, pay, fail], instructions="Be brief.")
"""
)
AGENT_FRAMEWORK = (
    NOTE
    + """
    from agent_framework import Agent, FunctionInvocationContext, tool
    from agent_framework.openai import OpenAIChatCompletionClient

    model = OpenAIChatCompletionClient(model="m", base_url="URL", api_key="k")

    @tool(approval_mode="never_require")
    def weather(city: str, context: FunctionInvocationContext) -> str:
        "The weather in a city."
        note("weather")
        return f"sun in {city} for {context.kwargs['opensoul'].agent_id}"

    @tool(approval_mode="always_require")
    def pay(euros: int) -> str:
        "Pay."
        note("pay")
        return f"paid {euros}"

    @tool(approval_mode="never_require")
    def fail() -> str:
        "Fail."
        raise ValueError("sk-secret")

    agent = Agent(client=model, tools=[weather, pay, fail], instructions="Be brief.")
"""
)
_QUICK = ("pydantic-ai", "openai-agents")
"""`make test` tests these."""


STRANDS = (
    NOTE
    + """
    from strands import Agent, ToolContext, tool
    from strands.models.openai import OpenAIModel

    @tool(context=True)
    def weather(city: str, tool_context: ToolContext) -> str:
        "The weather in a city."
        note("weather")
        return f"sun in {city} for {tool_context.invocation_state['opensoul'].agent_id}"

    @tool(context=True)
    def pay(euros: int, tool_context: ToolContext) -> str:
        "Pay."
        if not tool_context.interrupt("pay", reason="May I?"):
            return "denied"
        note("pay")
        return f"paid {euros}"

    @tool
    def fail() -> str:
        "Fail."
        raise ValueError("sk-secret")

    def agent(run):
        carried = {"temperature", "stop", "max_tokens"} & run.params.keys()
        params = {name: run.params[name] for name in carried}
        arguments = {"base_url": "URL", "api_key": "k", "max_retries": 0}
        return Agent(
            model=OpenAIModel(client_args=arguments, model_id="m", params=params),
            tools=[weather, pay, fail],
            system_prompt="Be brief.",
            retry_strategy=None,
        )
"""
)


@dataclass(frozen=True, slots=True)
class Kind:
    """An agent of a framework, and what the framework does otherwise than the others."""

    text: str
    package: str
    """The tests are skipped where it is not installed."""
    what: str
    """A part of its description."""
    isolation: str = "thread"
    python: str = ""
    """The interpreter of an environment of its own."""
    reasoning: bool = True
    """The client of its model passes on reasoning."""
    params: tuple[str, ...] = ("temperature", "stop", "seed")
    """Parameters of a request that reach the model."""
    tool_choice: bool = False
    client_tools: bool = True
    wraps: bool = False
    """A result is an object for the model."""
    raises: bool = True
    """The exception of a tool ends the run; otherwise, it is an error text for the model."""
    faults: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    """The answers to failures of the model that are not those of `FAULTS`."""

    @property
    def runner(self) -> dict[str, str]:
        """Its settings."""
        python = {"python": self.python} if self.python else {}
        return {"isolation": self.isolation, **python}

    def result(self, text: str) -> str:
        """What the model gets of a result."""
        return json.dumps({"result": text}) if self.wraps else text


_STRANDS_PYTHON = ROOT / ".opensoul/strands/bin/python"
FAULTS = {
    "the rate limit of the model": (fail(429), (429, "rate_limit_exceeded")),
    "the key of the model": (fail(401), (502, "provider_auth")),
    "a server of the model": (fail(500), (502, "provider_overloaded")),
}
KINDS = {
    "pydantic-ai": Kind(
        PYDANTIC_AI, "pydantic_ai", " with m and the tools weather, pay, fail", tool_choice=True
    ),
    "openai-agents": Kind(
        OPENAI_AGENTS, "agents", " with m and the tools weather, pay, fail", tool_choice=True
    ),
    "langgraph": Kind(
        LANGGRAPH,
        "langgraph",
        "a graph with the nodes model, tools",
        reasoning=False,
        params=(),
        client_tools=False,
    ),
    "google-adk": Kind(GOOGLE_ADK, "google.adk", "LlmAgent guide", wraps=True),
    "agno": Kind(
        AGNO,
        "agno",
        "an agent",
        # All agents of Agno in a process share a client of models, which belongs to one loop.
        isolation="process",
        raises=False,
        faults=dict.fromkeys(FAULTS, (502, "agent_failed")),
    ),
    "agent-framework": Kind(
        AGENT_FRAMEWORK, "agent_framework", "an agent", reasoning=False, raises=False
    ),
}


KINDS["strands"] = Kind(
    STRANDS,
    "",
    "a function",
    isolation="process",
    python=str(_STRANDS_PYTHON),
    params=("temperature", "stop"),
    client_tools=False,
    raises=False,
)


def every_framework(*without: str) -> pytest.MarkDecorator:
    """Parametrizes a test with the names of the frameworks."""
    return pytest.mark.parametrize(
        "framework",
        [
            pytest.param(name, marks=_marks(name, kind.package))
            for name, kind in KINDS.items()
            if name not in without
        ],
    )


def _marks(name: str, package: str) -> list[pytest.MarkDecorator]:
    why = f"{package} is not installed; `make test-frameworks` installs it"
    installed = is_installed(package) if package else _STRANDS_PYTHON.exists()
    marks = [pytest.mark.skipif(not installed, reason=why)]
    return [*marks, *([] if name in _QUICK else [pytest.mark.e2e])]


def is_installed(package: str) -> bool:
    """Without importing it, which takes long."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False

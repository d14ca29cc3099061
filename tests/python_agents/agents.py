"""The same agent in each framework: what its module is, and where frameworks differ.

`URL` stands for the model's, `RAN` for a file to which the tools add their names, and whether the
Gateway has stored that their calls have begun, and `STORE` for that store.
"""

from __future__ import annotations

from dataclasses import dataclass

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
_PYDANTIC_AI = """
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
_OPENAI_AGENTS = """
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
_LANGGRAPH = """
    from langchain.agents import create_agent
    from langchain.agents.middleware import HumanInTheLoopMiddleware
    from langchain.tools import ToolRuntime
    from langchain_openai import ChatOpenAI
    from opensoul.api import AgentRun

    model = ChatOpenAI(model="m", base_url="URL", api_key="k", stream_usage=True, max_retries=0)

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
_GOOGLE_ADK = """
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
_AGNO = """
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
_AGENT_FRAMEWORK = """
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


@dataclass(frozen=True, slots=True)
class Kind:
    """An agent of a framework. `needs`: the package without which its tests are skipped."""

    text: str
    needs: str
    isolation: str = "thread"

    @property
    def module(self) -> str:
        return NOTE + self.text


KINDS = {
    "pydantic-ai": Kind(_PYDANTIC_AI, "pydantic_ai"),
    "openai-agents": Kind(_OPENAI_AGENTS, "agents"),
    "langgraph": Kind(_LANGGRAPH, "langgraph"),
    "google-adk": Kind(_GOOGLE_ADK, "google.adk"),
    # All agents of Agno in a process share a client of models, which belongs to one event loop.
    "agno": Kind(_AGNO, "agno", "process"),
    # A client of a model that is collected behind its test is closed on the loop of another one.
    "agent-framework": Kind(_AGENT_FRAMEWORK, "agent_framework", "process"),
}

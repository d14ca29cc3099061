"""Agents of LangGraph and LangChain, through the chat endpoint of a real Gateway."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from opensoul.adapters.python_agents import Status
from tests.app.serving import serving
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider
from tests.python_agents.agents import is_installed
from tests.python_agents.conftest import Write, configured
from tests.python_agents.frameworks import calls, events_of, says, usage_of
from tests.python_agents.test_functions import streamed, text_of

pytestmark = [
    pytest.mark.skipif(not is_installed("langgraph"), reason="`make test-frameworks` installs it"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    # LangChain's tools, of contexts that are no models of pydantic.
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
]

HEAD = """
    from langchain.agents import create_agent
    from langchain_core.runnables import ConfigurableField
    from langchain_openai import ChatOpenAI
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.config import get_config, get_stream_writer
    from langgraph.func import entrypoint
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition
    from langgraph.types import interrupt
    from opensoul.api import AgentRun
    ran = []
    model = ChatOpenAI(
        model="m", base_url="{url}", api_key="none", stream_usage=True, max_retries=0
    )
    def weather(city: str) -> str:
        "The weather in a city."
        ran.append(city)
        if city == "Atlantis":
            raise LookupError("sk-secret")
        return f"sunny in {{city}}"
"""
CREATED = """
    agent = create_agent(model, [weather], system_prompt="Be brief.")
"""
GRAPH = """
    async def chatbot(state: MessagesState):
        return {{"messages": [await model.bind_tools([weather]).ainvoke(state["messages"])]}}
    builder = StateGraph(MessagesState)
    builder.add_node(chatbot)
    builder.add_node("look", ToolNode([weather]))
    builder.add_edge(START, "chatbot")
    builder.add_conditional_edges("chatbot", tools_condition, {{"tools": "look", END: END}})
    builder.add_edge("look", "chatbot")
    agent = builder.compile()
"""
FACTORY = """
    def agent(run):
        return create_agent(model, [weather])
"""
KINDS = {
    "create_agent": (CREATED, "thread"),
    "process": (CREATED, "process"),
    "graph": (GRAPH, "thread"),
    "factory": (FACTORY, "inline"),
}


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest.fixture
def agent(write: Write, provider: FakeProvider) -> Any:
    """Writes a module with an agent on the fake provider; its target."""

    def module(text: str) -> str:
        return f"{write((HEAD + text).format(url=provider.base_url))}:agent"

    return module


@pytest.mark.parametrize(("text", "isolation"), KINDS.values(), ids=KINDS)
async def test_an_agent_answers_with_its_tool(
    text: str, isolation: str, agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    content = configured({"target": agent(text), "isolation": isolation})
    provider.will(
        calls(("weather", {"city": "Paris"}), text="I look. "),
        answer("It is", " sunny."),
        calls(("weather", {"city": "Rome"})),
        answer("Also", " sunny."),
    )

    async with serving(tmp_path, content) as served:
        async with served.ask(messages=says("Paris?")) as response:
            whole = await response.json()
            assert response.status == 200, whole
            events = await events_of(served, response.headers["x-opensoul-run-id"])
        chunks = await streamed(
            served, messages=says("Rome?"), stream_options={"include_usage": True}
        )

    assert whole["choices"][0]["message"]["content"] == "I look. It is sunny."
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert {name: whole["usage"][name] for name in usage_of(2)} == usage_of(2)
    assert text_of(chunks) == "Also sunny."
    assert {name: chunks[-1]["usage"][name] for name in usage_of(2)} == usage_of(2)
    tools = [event for event in events if event["type"].startswith("tool_")]
    started, finished = tools
    assert (started["type"], started["name"]) == ("tool_started", "weather")
    assert json.loads(started["arguments"]) == {"city": "Paris"}
    assert (finished["type"], finished["text"]) == ("tool_finished", "sunny in Paris")


SILENT = """
    from pydantic import BaseModel
    class State(MessagesState):
        route: str
    async def classify(state):
        return {{"route": (await model.ainvoke("Which?")).text}}
    async def reply(state):
        return {{"messages": [await model.ainvoke(state["messages"])]}}
    def ask(question: str) -> str:
        "Ask an expert."
        return model.invoke(question).text
    expert = create_agent(model, [ask])
    builder = StateGraph(State)
    builder.add_node(classify)
    builder.add_node("expert", expert)
    builder.add_node(reply)
    builder.add_edge(START, "classify")
    builder.add_edge("classify", "expert")
    builder.add_edge("expert", "reply")
    agent = builder.compile()
"""


async def test_only_what_is_added_to_messages_is_streamed(
    agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    answers = [
        answer("a route"),
        calls(("ask", {"question": "Why?"})),
        answer("an inner answer"),
        answer("An expert", " says. "),
        answer("The", " end."),
    ]
    provider.will(*answers, *answers)

    async with serving(tmp_path, configured({"target": agent(SILENT)})) as served:
        first = await streamed(served, stream_options={"include_usage": True})
        second = await streamed(served)

    assert text_of(first) == "An expert says. The end."
    assert text_of(second) == "An expert says. The end."
    assert {name: first[-1]["usage"][name] for name in usage_of(5)} == usage_of(5)


THINKING = """
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessageChunk
    from langchain_core.outputs import ChatGenerationChunk, ChatResult
    class Thinking(BaseChatModel):
        _llm_type = "thinking"
        def _generate(self, messages, **more):
            raise NotImplementedError
        async def _astream(self, messages, **more):
            for content in ([{{"type": "reasoning", "reasoning": "Hm."}}], "It is", " so."):
                yield ChatGenerationChunk(message=AIMessageChunk(content=content))
    agent = create_agent(Thinking())
"""


async def test_reasoning_is_streamed_and_usage_that_nobody_reports_is_estimated(
    agent: Any, tmp_path: Path
) -> None:
    async with (
        serving(tmp_path, configured({"target": agent(THINKING)})) as served,
        served.ask() as response,
    ):
        whole = await response.json()
        events = await events_of(served, response.headers["x-opensoul-run-id"])

    assert whole["choices"][0]["message"]["content"] == "It is so."
    assert whole["usage"]["prompt_tokens"] > 0
    assert whole["usage"]["completion_tokens"] > 0
    deltas = [(e["type"], e["delta"]) for e in events if e["type"].endswith("_delta")]
    assert deltas[0] == ("reasoning_delta", "Hm.")
    assert "".join(text for kind, text in deltas if kind == "text_delta") == "It is so."


WRITING = """
    def dig(depth: int) -> str:
        "Dig."
        get_stream_writer()("halfway")
        return "done"
    agent = create_agent(model, [dig])
"""


async def test_a_tool_writes_its_progress(
    agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    provider.will(calls(("dig", {"depth": 2})), answer("Dug."))

    async with (
        serving(tmp_path, configured({"target": agent(WRITING)})) as served,
        served.ask() as response,
    ):
        await response.json()
        events = await events_of(served, response.headers["x-opensoul-run-id"])

    tools = [event["type"] for event in events if event["type"].startswith("tool_")]
    assert tools == ["tool_started", "tool_progress", "tool_finished"]


REVIEWED = """
    from langchain.agents.middleware import HumanInTheLoopMiddleware
    agent = create_agent(
        model, [weather], middleware=[HumanInTheLoopMiddleware({{"weather": True}})]
    )
"""
ASKING = """
    def travel(city: str) -> str:
        "Travel."
        if not interrupt({{"travel": city}}):
            return "we stay"
        return weather(city)
    agent = create_agent(model, [travel], checkpointer=InMemorySaver())
"""
APPROVED = {
    "reviewed": (REVIEWED, "weather"),
    "asking": (ASKING, "travel"),
}


@pytest.mark.parametrize("verb", ["approve", "deny"])
@pytest.mark.parametrize(("text", "tool"), APPROVED.values(), ids=APPROVED)
async def test_an_interrupt_waits_for_an_approval_and_goes_on(
    text: str,
    tool: str,
    verb: str,
    agent: Any,
    provider: FakeProvider,
    tmp_path: Path,
) -> None:
    provider.will(calls((tool, {"city": "Paris"}), text="I look. "), answer("Done."))
    content = configured({"target": agent(text)})

    async with serving(tmp_path, content) as served:
        asked = await served.text(messages=says("Paris?"), user="ada")
        (code,) = re.findall(r"^approve ([A-Z0-9-]{8,})$", asked, re.MULTILINE)
        assert len(provider.requests) == 1
        async with served.ask(messages=says(f"{verb} {code}"), user="ada") as response:
            decided = await response.json()
            assert response.status == 200, decided
            events = await events_of(served, response.headers["x-opensoul-run-id"])
        provider.will(answer("Later."))
        await served.text(messages=says("And then?"), user="ada")

    assert asked.startswith("I look. ")
    assert decided["choices"][0]["message"]["content"] == "Done."
    assert decided["usage"]["total_tokens"] == usage_of(2)["total_tokens"]
    result = provider.requests[1].json["messages"][-1]
    assert result["role"] == "tool"
    assert ("sunny" in result["content"]) == (verb == "approve")
    started = [event["name"] for event in events if event["type"] == "tool_started"]
    assert started.count(tool) == (2 if tool == "travel" else 1)  # Its code begins anew.
    results = [event["text"] for event in events if event["type"] == "tool_finished"]
    assert ("sunny in Paris" in results) == (verb == "approve")
    later = [message["role"] for message in provider.requests[2].json["messages"]]
    assert later == ["user", "assistant", "tool", "assistant", "user"]


async def test_an_interrupt_outlives_the_gateway(
    agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    provider.will(calls(("weather", {"city": "Paris"})), answer("Done."))
    content = configured({"target": agent(REVIEWED), "isolation": "process"})

    async with serving(tmp_path, content) as served:
        asked = await served.text(messages=says("Paris?"), user="ada")
    (code,) = re.findall(r"^approve ([A-Z0-9-]{8,})$", asked, re.MULTILINE)
    async with serving(tmp_path, content) as served:
        text = await served.text(messages=says(f"approve {code}"), user="ada")

    assert text == "Done."


REMEMBERING = """
    agent = create_agent(model, [weather], checkpointer=InMemorySaver())
"""


@pytest.mark.parametrize("memory", ["gateway", "framework"])
async def test_each_message_of_a_session_is_there_once(
    memory: str, agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    provider.will(answer("One."), answer("Two."), answer("Three."))
    content = configured({"target": agent(REMEMBERING), "memory": memory})

    async with serving(tmp_path, content) as served:
        for question in ("first", "second"):
            await served.text(messages=says(question), user="ada")
        await served.text(messages=says("third"), user="bob")

    texts = [[m["content"] for m in request.json["messages"]] for request in provider.requests]
    assert texts == [["first"], ["first", "One.", "second"], ["third"]]


CONTEXT = """
    from dataclasses import dataclass
    from langchain.tools import ToolRuntime
    def whoami(runtime: ToolRuntime) -> str:
        "Who asks."
        configured = runtime.config["configurable"]["opensoul"]
        return configured.session_key + " " + {expression}
    {schema}
    agent = create_agent(model, [whoami], context_schema={name})
"""
CONTEXTS = {
    "none": ("configured.agent_id", "pass", "None"),
    "run": ("runtime.context.agent_id", "pass", "AgentRun"),
    "own": (
        "runtime.context.agent_id",
        "@dataclass\n    class Mine:\n        agent_id: str",
        "Mine",
    ),
}


@pytest.mark.parametrize(("expression", "schema", "name"), CONTEXTS.values(), ids=CONTEXTS)
async def test_the_run_reaches_tools(
    expression: str,
    schema: str,
    name: str,
    agent: Any,
    provider: FakeProvider,
    tmp_path: Path,
) -> None:
    provider.will(calls(("whoami", {})), answer("Done."))
    text = CONTEXT.format(expression=expression, schema=schema, name=name)

    async with (
        serving(tmp_path, configured({"target": agent(text)})) as served,
        served.ask() as response,
    ):
        key = response.headers["x-opensoul-session-key"]

    assert provider.requests[1].json["messages"][-1]["content"] == f"{key} main"


TUNED = """
    model = ChatOpenAI(
        model="m", base_url="{url}", api_key="none", streaming=True, temperature=1.0
    ).configurable_fields(temperature=ConfigurableField(id="temperature"))
    async def chatbot(state: MessagesState):
        return {{"messages": [await model.ainvoke(state["messages"])]}}
    agent = StateGraph(MessagesState).add_node(chatbot).add_edge(START, "chatbot").compile()
"""


async def test_parameters_and_instructions_of_the_request_reach_the_model(
    agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    messages = [{"role": "system", "content": "Be kind."}, *says("hello")]

    async with serving(tmp_path, configured({"target": agent(TUNED)})) as served:
        await served.text(messages=messages, temperature=0.25)

    (request,) = provider.requests
    assert request.json["temperature"] == 0.25
    assert [m["content"] for m in request.json["messages"]] == ["Be kind.", "hello"]


STRUCTURED = """
    from langchain.agents.structured_output import ToolStrategy
    from pydantic import BaseModel
    class Weather(BaseModel):
        city: str
        degrees: int
    agent = create_agent(model, [weather], response_format=ToolStrategy(Weather))
"""


async def test_structured_output_is_the_answer(
    agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    output = {"city": "Paris", "degrees": 20}
    provider.will(calls(("weather", {"city": "Paris"})), calls(("Weather", output), prefix="o"))

    async with serving(tmp_path, configured({"target": agent(STRUCTURED)})) as served:
        async with served.ask(messages=says("Paris?"), user="ada") as response:
            whole = await response.json()
            events = await events_of(served, response.headers["x-opensoul-run-id"])
        provider.will(calls(("Weather", output), prefix="p"))
        await served.text(messages=says("Again?"), user="ada")

    choice = whole["choices"][0]
    assert json.loads(choice["message"]["content"]) == output
    assert choice["finish_reason"] == "stop"
    assert [event["name"] for event in events if event["type"] == "tool_started"] == ["weather"]
    roles = [message["role"] for message in provider.requests[-1].json["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


BOUND = """
    async def chatbot(state: MessagesState):
        tools = [
            {{"type": "function", "function": {{"name": tool.name, "parameters": {{}}}}}}
            for tool in get_config()["configurable"]["opensoul"].tools
        ]
        return {{"messages": [await model.bind_tools(tools).ainvoke(state["messages"])]}}
    agent = StateGraph(MessagesState).add_node(chatbot).add_edge(START, "chatbot").compile()
"""


async def test_a_graph_hands_out_calls_of_the_clients_tools(
    agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    provider.will(calls(("look", {"at": "sky"})), answer("It is blue."))
    tools = [{"type": "function", "function": {"name": "look"}}]

    async with serving(tmp_path, configured({"target": agent(BOUND)})) as served:
        async with served.ask(messages=says("What is up?"), tools=tools) as response:
            choice = (await response.json())["choices"][0]
        (call,) = choice["message"]["tool_calls"]
        result = {"role": "tool", "tool_call_id": call["id"], "content": "blue"}
        messages = [*says("What is up?"), choice["message"], result]
        text = await served.text(messages=messages, tools=tools)

    assert choice["finish_reason"] == "tool_calls"
    assert call["function"] == {"name": "look", "arguments": '{"at": "sky"}'}
    assert text == "It is blue."


ENTRYPOINTS = {
    "list": """
        @entrypoint()
        async def agent(messages: list):
            return await model.ainvoke(messages)
    """,
    "dict": """
        @entrypoint()
        async def agent(given: dict):
            return {{"messages": [*given["messages"], await model.ainvoke(given["messages"])]}}
    """,
    "text": """
        @entrypoint()
        async def agent(question: str):
            return (await model.ainvoke(question)).text
    """,
    "final": """
        @entrypoint(checkpointer=InMemorySaver())
        async def agent(messages: list, *, previous=None):
            return entrypoint.final(value=await model.ainvoke(messages), save=messages)
    """,
}


@pytest.mark.parametrize("text", ENTRYPOINTS.values(), ids=ENTRYPOINTS)
async def test_an_entrypoint_answers(
    text: str, agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    indented = text.replace("\n    ", "\n")

    async with serving(tmp_path, configured({"target": agent(indented)})) as served:
        whole = await served.text()
        chunks = await streamed(served)

    assert whole == "Hello there"
    assert text_of(chunks) == "Hello there"
    assert provider.requests[0].json["messages"][-1]["content"] == "hello"


UNUSABLE = {
    "uncompiled": (GRAPH.replace(".compile()", ""), "Name the result of its .compile()"),
    "no-messages": (
        """
    from typing_extensions import TypedDict
    class State(TypedDict):
        topic: str
    agent = StateGraph(State).add_node("a", lambda state: state).add_edge(START, "a").compile()
""",
        "The state of the graph has no `messages` (it has: topic)",
    ),
    "breakpoints": (
        GRAPH.replace(".compile()", '.compile(interrupt_before=["look"])'),
        "Call langgraph.types.interrupt()",
    ),
}


@pytest.mark.parametrize(("text", "why"), UNUSABLE.values(), ids=UNUSABLE)
async def test_a_graph_that_cannot_be_served_is_refused_when_it_is_loaded(
    text: str, why: str, agent: Any, tmp_path: Path
) -> None:
    async with serving(tmp_path, configured({"target": agent(text)})) as served:
        state = await served.container.python_agents().loaded("main")

    assert state.status is Status.FAILED
    assert why in state.what


async def test_memory_of_the_framework_needs_a_checkpointer(agent: Any, tmp_path: Path) -> None:
    content = configured({"target": agent(CREATED), "memory": "framework"})

    async with serving(tmp_path, content) as served, served.ask() as response:
        body = await response.json()

    assert response.status == 502
    assert "compile(checkpointer=...)" in body["error"]["message"]


async def test_an_endless_graph_is_stopped(
    agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    provider.default = calls(("weather", {"city": "Paris"}))

    async with (
        serving(tmp_path, configured({"target": agent(CREATED)})) as served,
        served.ask() as response,
    ):
        body = await response.json()

    assert response.status == 502
    assert "GraphRecursionError" in body["error"]["message"]
    assert len(provider.requests) < 100

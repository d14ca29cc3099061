"""Libraries that use the Responses API: a stream, and a conversation with a tool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.app.serving import SECRET, Served
from tests.clients.installed import ADDRESS, NODE_MODULES, PYTHON, gateway, require, run
from tests.clients.scripted import GREETING
from tests.fakes.provider import FakeProvider

HELLO = "".join(GREETING)
WEATHER = "The weather in Lisbon: 21 degrees."
GATEWAY: Mapping[str, Any] = {
    "auth": {"token": SECRET},
    "http": {"endpoints": {"responses": {"enabled": True}}},
}

PYTHON_PROGRAMS: Mapping[str, str] = {
    "openai": """
import os
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:18789/v1", api_key=os.environ["OPENSOUL_GATEWAY_TOKEN"])
with client.responses.stream(model="opensoul", input="Hello") as stream:
    for event in stream:
        if event.type == "response.output_text.delta":
            print(event.delta, end="")
    assert stream.get_final_response().status == "completed"
print()

weather = {
    "type": "function",
    "name": "weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
items = [{"role": "user", "content": "How is the weather in Lisbon?"}]
answer = client.responses.create(model="opensoul", input=items, tools=[weather])
items += answer.output
for item in answer.output:
    if item.type == "function_call":
        items.append(
            {"type": "function_call_output", "call_id": item.call_id, "output": "21 degrees"}
        )
print(client.responses.create(model="opensoul", input=items, tools=[weather]).output_text)
""",
    "OpenAI Agents SDK": """
import asyncio
import os
from agents import Agent, Runner, function_tool, set_default_openai_client, set_tracing_disabled
from openai import AsyncOpenAI

set_tracing_disabled(True)
key = os.environ["OPENSOUL_GATEWAY_TOKEN"]
set_default_openai_client(AsyncOpenAI(base_url="http://127.0.0.1:18789/v1", api_key=key))

@function_tool
def weather(city: str) -> str:
    "The weather in a city."
    return "21 degrees"

async def main() -> None:
    plain = Agent(name="plain", model="opensoul")
    streamed = Runner.run_streamed(plain, "Hello")
    async for event in streamed.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            print(event.data.delta, end="")
    print()
    agent = Agent(name="weather", model="opensoul", tools=[weather])
    print((await Runner.run(agent, "How is the weather in Lisbon?")).final_output)

asyncio.run(main())
""",
    "LangChain": """
import os
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

model = ChatOpenAI(
    model="opensoul",
    base_url="http://127.0.0.1:18789/v1",
    api_key=os.environ["OPENSOUL_GATEWAY_TOKEN"],
    use_responses_api=True,
)
print("".join(chunk.text for chunk in model.stream("Hello")))

@tool
def weather(city: str) -> str:
    "The weather in a city."
    return "21 degrees"

asking = model.bind_tools([weather])
messages = [HumanMessage("How is the weather in Lisbon?")]
messages.append(asking.invoke(messages))
for call in messages[-1].tool_calls:
    messages.append(ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"]))
print(asking.invoke(messages).text)
""",
    "pydantic-ai": """
import os
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

key = os.environ["OPENSOUL_GATEWAY_TOKEN"]
provider = OpenAIProvider(base_url="http://127.0.0.1:18789/v1", api_key=key)
model = OpenAIResponsesModel("opensoul", provider=provider)
print(Agent(model).run_stream_sync("Hello").get_output())
agent = Agent(model)

@agent.tool_plain
def weather(city: str) -> str:
    "The weather in a city."
    return "21 degrees"

print(agent.run_sync("How is the weather in Lisbon?").output)
""",
}
NODE_PROGRAMS: Mapping[str, str] = {
    "openai": """
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: "http://127.0.0.1:18789/v1",
  apiKey: process.env.OPENSOUL_GATEWAY_TOKEN,
});
const stream = client.responses.stream({ model: "opensoul", input: "Hello" });
stream.on("response.output_text.delta", (event) => process.stdout.write(event.delta));
await stream.finalResponse();
console.log();

const parameters = { type: "object", properties: { city: { type: "string" } } };
const tools = [{ type: "function", name: "weather", parameters }];
const input = [{ role: "user", content: "How is the weather in Lisbon?" }];
const answer = await client.responses.create({ model: "opensoul", input, tools });
input.push(...answer.output);
for (const item of answer.output) {
  if (item.type !== "function_call") continue;
  input.push({ type: "function_call_output", call_id: item.call_id, output: "21 degrees" });
}
console.log((await client.responses.create({ model: "opensoul", input, tools })).output_text);
""",
    "Vercel AI SDK": """
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const opensoul = createOpenAI({
  baseURL: "http://127.0.0.1:18789/v1",
  apiKey: process.env.OPENSOUL_GATEWAY_TOKEN,
});
const model = opensoul("opensoul");
for await (const text of streamText({ model, prompt: "Hello" }).textStream) {
  process.stdout.write(text);
}
console.log();

const answer = await generateText({
  model,
  prompt: "How is the weather in Lisbon?",
  tools: {
    weather: tool({
      description: "The weather in a city.",
      inputSchema: z.object({ city: z.string() }),
      execute: async () => "21 degrees",
    }),
  },
  stopWhen: stepCountIs(5),
});
console.log(answer.text);
""",
}


@asynccontextmanager
async def responses_gateway(home: Path) -> AsyncIterator[tuple[Served, FakeProvider]]:
    async with gateway(home, gateway=GATEWAY) as (served, provider):
        yield served, provider


@pytest.mark.e2e
@pytest.mark.parametrize("library", PYTHON_PROGRAMS)
async def test_a_library_in_python(tmp_path: Path, library: str) -> None:
    require(PYTHON)
    async with responses_gateway(tmp_path) as (served, provider):
        program = tmp_path / "program.py"
        program.write_text(PYTHON_PROGRAMS[library].replace(ADDRESS, served.url))
        status, printed = await run(tmp_path, [PYTHON / "python", program])

    assert (status, printed.splitlines()) == (0, [HELLO, WEATHER])
    assert len(provider.requests) == 3


@pytest.mark.e2e
@pytest.mark.parametrize("library", NODE_PROGRAMS)
async def test_a_library_in_javascript(tmp_path: Path, library: str) -> None:
    require(NODE_MODULES / "@ai-sdk" / "openai")
    async with responses_gateway(tmp_path) as (served, provider):
        (tmp_path / "node_modules").symlink_to(NODE_MODULES)
        program = tmp_path / "program.mjs"
        program.write_text(NODE_PROGRAMS[library].replace(ADDRESS, served.url))
        status, printed = await run(tmp_path, ["node", program])

    assert (status, printed.splitlines()) == (0, [HELLO, WEATHER])
    assert len(provider.requests) == 3

"""Answers in the form of a schema, as each library asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.clients.installed import ADDRESS, NODE_MODULES, PYTHON, gateway, require, run
from tests.clients.test_recipes import blocks

_WEATHER = """
import os
from pydantic import BaseModel

class Weather(BaseModel):
    city: str
    degrees: int

url, key, question = "http://127.0.0.1:18789/v1", os.environ["OPENSOUL_GATEWAY_TOKEN"], "Lisbon?"
"""
PYTHON_PROGRAMS: Mapping[str, str] = {
    "openai: parse": """
from openai import OpenAI

answer = OpenAI(base_url=url, api_key=key).chat.completions.parse(
    model="opensoul", messages=[{"role": "user", "content": question}], response_format=Weather
)
weather = answer.choices[0].message.parsed
""",
    "openai: a stream": """
from openai import OpenAI

with OpenAI(base_url=url, api_key=key).chat.completions.stream(
    model="opensoul", messages=[{"role": "user", "content": question}], response_format=Weather
) as stream:
    weather = stream.get_final_completion().choices[0].message.parsed
""",
    "LangChain": """
from langchain_openai import ChatOpenAI

model = ChatOpenAI(model="opensoul", base_url=url, api_key=key, use_responses_api=False)
weather = model.with_structured_output(Weather, method="json_schema").invoke(question)
""",
    "LangChain: by a tool": """
from langchain_openai import ChatOpenAI

model = ChatOpenAI(model="opensoul", base_url=url, api_key=key, use_responses_api=False)
weather = model.with_structured_output(Weather, method="function_calling").invoke(question)
""",
    "pydantic-ai": """
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

model = OpenAIChatModel("opensoul", provider=OpenAIProvider(base_url=url, api_key=key))
weather = Agent(model, output_type=NativeOutput(Weather)).run_sync(question).output
""",
    "pydantic-ai: by a tool": """
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

model = OpenAIChatModel("opensoul", provider=OpenAIProvider(base_url=url, api_key=key))
weather = Agent(model, output_type=Weather).run_sync(question).output
""",
    "OpenAI Agents SDK": """
from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from openai import AsyncOpenAI

set_tracing_disabled(True)
model = OpenAIChatCompletionsModel("opensoul", AsyncOpenAI(base_url=url, api_key=key))
agent = Agent(name="weather", model=model, output_type=Weather)
weather = Runner.run_sync(agent, question).final_output
""",
    "instructor": """
import instructor
from openai import OpenAI

client = instructor.from_openai(
    OpenAI(base_url=url, api_key=key), mode=instructor.Mode.JSON_SCHEMA
)
messages = [{"role": "user", "content": question}]
weather = client.create(model="opensoul", messages=messages, response_model=Weather)
""",
}
NODE_PROGRAMS: Mapping[str, str] = {
    "openai": """
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({
  baseURL: "http://127.0.0.1:18789/v1",
  apiKey: process.env.OPENSOUL_GATEWAY_TOKEN,
});
const weather = z.object({ city: z.string(), degrees: z.number() });
const answer = await client.chat.completions.parse({
  model: "opensoul",
  messages: [{ role: "user", content: "Lisbon?" }],
  response_format: zodResponseFormat(weather, "weather"),
});
const { city, degrees } = answer.choices[0].message.parsed;
console.log(city, Math.floor(degrees));
""",
    "Vercel AI SDK": """
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output } from "ai";
import { z } from "zod";

const opensoul = createOpenAICompatible({
  name: "opensoul",
  baseURL: "http://127.0.0.1:18789/v1",
  apiKey: process.env.OPENSOUL_GATEWAY_TOKEN,
  supportsStructuredOutputs: true,
});
const { output } = await generateText({
  model: opensoul("opensoul"),
  prompt: "Lisbon?",
  output: Output.object({ schema: z.object({ city: z.string(), degrees: z.number() }) }),
});
console.log(output.city, Math.floor(output.degrees));
""",
}


@pytest.mark.e2e
@pytest.mark.parametrize("library", PYTHON_PROGRAMS)
async def test_an_answer_has_the_form_that_python_asks_for(tmp_path: Path, library: str) -> None:
    require(PYTHON)
    async with gateway(tmp_path) as (served, _):
        program = tmp_path / "program.py"
        source = f"{_WEATHER}{PYTHON_PROGRAMS[library]}\nprint(weather.city, weather.degrees)\n"
        program.write_text(source.replace(ADDRESS, served.url))
        assert await run(tmp_path, [PYTHON / "python", program]) == (0, "Lisbon 21\n")


@pytest.mark.e2e
@pytest.mark.parametrize("library", NODE_PROGRAMS)
async def test_an_answer_has_the_form_that_javascript_asks_for(
    tmp_path: Path, library: str
) -> None:
    require(NODE_MODULES)
    async with gateway(tmp_path) as (served, _):
        (tmp_path / "node_modules").symlink_to(NODE_MODULES)
        program = tmp_path / "program.mjs"
        program.write_text(NODE_PROGRAMS[library].replace(ADDRESS, served.url))
        assert await run(tmp_path, ["node", program]) == (0, "Lisbon 21\n")


@pytest.mark.e2e
async def test_an_answer_has_the_form_that_llm_asks_for(tmp_path: Path) -> None:
    require(PYTHON)
    async with gateway(tmp_path) as (served, _):
        models = tmp_path / "extra-openai-models.yaml"
        models.write_text(blocks("llm")["yaml"].replace(ADDRESS, served.url))
        command = 'llm -m opensoul --key "$OPENSOUL_GATEWAY_TOKEN" --schema "city, degrees int"'
        environment = {"LLM_USER_PATH": str(tmp_path), "PATH": f"{PYTHON}:/usr/bin:/bin"}
        status, printed = await run(tmp_path, ["sh", "-ec", f"{command} 'Lisbon?'"], environment)

    assert (status, printed.replace(" ", "")) == (0, '{"city":"Lisbon","degrees":21}\n')

"""Pictures, as each library sends them, reach the model."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.clients.installed import ADDRESS, NODE_MODULES, PYTHON, gateway, require, run
from tests.clients.scripted import GREETING
from tests.clients.test_recipes import blocks

_KEY = 'os.environ["OPENSOUL_GATEWAY_TOKEN"]'
_URL = f'"{ADDRESS}/v1"'
PROGRAMS: Mapping[str, str] = {
    "openai": f"""
import base64, os
from openai import OpenAI

picture = "data:image/png;base64," + base64.b64encode(open("red.png", "rb").read()).decode()
parts = [
    {{"type": "text", "text": "What is it?"}},
    {{"type": "image_url", "image_url": {{"url": picture}}}},
]
answer = OpenAI(base_url={_URL}, api_key={_KEY}).chat.completions.create(
    model="opensoul", messages=[{{"role": "user", "content": parts}}]
)
print(answer.choices[0].message.content)
""",
    "LangChain": f"""
import base64, os
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

picture = base64.b64encode(open("red.png", "rb").read()).decode()
model = ChatOpenAI(model="opensoul", base_url={_URL}, api_key={_KEY}, use_responses_api=False)
parts = [
    {{"type": "text", "text": "What is it?"}},
    {{"type": "image", "base64": picture, "mime_type": "image/png"}},
]
print(model.invoke([HumanMessage(parts)]).text)
""",
    "pydantic-ai": f"""
import os
from pydantic_ai import Agent, BinaryContent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url={_URL}, api_key={_KEY})
picture = BinaryContent(open("red.png", "rb").read(), media_type="image/png")
agent = Agent(OpenAIChatModel("opensoul", provider=provider))
print(agent.run_sync(["What is it?", picture]).output)
""",
    "OpenAI Agents SDK": f"""
import base64, os
from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from openai import AsyncOpenAI

set_tracing_disabled(True)
client = AsyncOpenAI(base_url={_URL}, api_key={_KEY})
model = OpenAIChatCompletionsModel(model="opensoul", openai_client=client)
picture = "data:image/png;base64," + base64.b64encode(open("red.png", "rb").read()).decode()
parts = [
    {{"type": "input_text", "text": "What is it?"}},
    {{"type": "input_image", "image_url": picture, "detail": "auto"}},
]
agent = Agent(name="seer", model=model)
print(Runner.run_sync(agent, [{{"role": "user", "content": parts}}]).final_output)
""",
    "instructor": f"""
import os
import instructor
from openai import OpenAI
from pydantic import BaseModel

class Sight(BaseModel):
    city: str

client = instructor.from_openai(OpenAI(base_url={_URL}, api_key={_KEY}))
content = ["What is it?", instructor.Image.from_path("red.png")]
messages = [{{"role": "user", "content": content}}]
print(client.create(model="opensoul", messages=messages, response_model=Sight).city)
""",
    "llm": f"""
import os
import llm

for model in llm.get_models():
    if model.model_id == "opensoul":
        picture = llm.Attachment(path="red.png")
        answer = model.prompt("What is it?", attachments=[picture], key={_KEY})
        print(answer.text())
""",
    "openai-node": f"""
import OpenAI from "openai";
import {{ readFileSync }} from "node:fs";

const client = new OpenAI({{ baseURL: {_URL}, apiKey: process.env.OPENSOUL_GATEWAY_TOKEN }});
const picture = `data:image/png;base64,${{readFileSync("red.png", "base64")}}`;
const content = [
  {{ type: "text", text: "What is it?" }},
  {{ type: "image_url", image_url: {{ url: picture }} }},
];
const messages = [{{ role: "user", content }}];
const answer = await client.chat.completions.create({{ model: "opensoul", messages }});
console.log(answer.choices[0].message.content);
""",
    "Vercel AI SDK": f"""
import {{ createOpenAICompatible }} from "@ai-sdk/openai-compatible";
import {{ generateText }} from "ai";
import {{ readFileSync }} from "node:fs";

const opensoul = createOpenAICompatible({{
  name: "opensoul",
  baseURL: {_URL},
  apiKey: process.env.OPENSOUL_GATEWAY_TOKEN,
}});
const content = [
  {{ type: "text", text: "What is it?" }},
  {{ type: "image", image: readFileSync("red.png"), mediaType: "image/png" }},
];
const messages = [{{ role: "user", content }}];
console.log((await generateText({{ model: opensoul("opensoul"), messages }})).text);
""",
}


def png() -> bytes:
    """A red picture of 8 by 8 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    head = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\xff\0\0" * 8) * 8)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.e2e
@pytest.mark.parametrize("library", PROGRAMS)
async def test_a_picture_reaches_the_model(tmp_path: Path, library: str) -> None:
    in_node = library in ("openai-node", "Vercel AI SDK")
    require(NODE_MODULES if in_node else PYTHON)
    (tmp_path / "red.png").write_bytes(png())
    async with gateway(tmp_path, model_settings={"input": ["text", "image"]}) as (served, model):
        (tmp_path / "node_modules").symlink_to(NODE_MODULES)
        program = tmp_path / ("program.mjs" if in_node else "program.py")
        program.write_text(PROGRAMS[library].replace(ADDRESS, served.url))
        models = tmp_path / "extra-openai-models.yaml"
        models.write_text(blocks("llm")["yaml"].replace(ADDRESS, served.url))
        command = ["node" if in_node else PYTHON / "python", program]
        status, printed = await run(tmp_path, command, {"LLM_USER_PATH": str(tmp_path)})

    expected = "Lisbon" if library == "instructor" else "".join(GREETING)
    assert (status, printed.strip()) == (0, expected)
    parts = model.requests[-1].json["messages"][-1]["content"]
    url = next(part for part in parts if part["type"] == "image_url")["image_url"]["url"]
    assert url.startswith("data:image/png;base64,")
    assert base64.b64decode(url.partition(",")[2]) == png()

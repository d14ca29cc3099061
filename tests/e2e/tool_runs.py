"""Runs with tool calls over several lives of a Gateway: the tools, the model that calls them, the
clients, and what must hold of them."""

from __future__ import annotations

import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from opensoul.client import Client, ClientError
from opensoul.domain.runs.journal import INTERRUPTED, NOT_RUN
from tests.app.serving import SECRET, config
from tests.app.serving import provider as configured
from tests.fakes import anthropic, openai
from tests.fakes.behaviours import Exchange, Received, answer, fail

TOOLS = '''
import asyncio
import json
import os
import random

from opensoul.api import Effect, Repeat, ToolResult, ToolSpec

NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
READS = frozenset({Effect.READ})


class Marker:
    """Each call writes a line, at a random moment."""

    async def tools(self, context):
        return (
            ToolSpec("mark", "Must not be repeated.", NAME),
            ToolSpec("keep", "Is repeated with the same key.", NAME, repeat=Repeat.KEYED),
            ToolSpec("look", "May be repeated.", NAME, effects=READS, repeat=Repeat.SAFE),
        )

    async def run(self, context, call, *, key):
        name = json.loads(call.arguments)["name"]
        await asyncio.sleep(random.uniform(0, 0.02))
        marks = os.open(os.environ["MARKS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(marks, f"{call.name} {name} {key}\\n".encode())
        os.close(marks)
        await asyncio.sleep(random.uniform(0, 0.02))
        yield ToolResult(f"{call.name} {name}")

    async def close(self):
        pass
'''
_STEPS: Sequence[Sequence[str]] = (
    ["mark"],
    ["mark", "mark"],
    ["look", "look", "look"],
    ["keep"],
    ["exec"],
    ["look", "mark", "vanish"],
)
"""What the model may call in a step; there is no tool `vanish`."""
_ONCE = ("mark", "exec")
"""Tools that must not be repeated."""
_TASK = re.compile(r"task (\S+) (\d+)")
_LOST_TOO_OFTEN = re.compile(r"What executed the run died \d+ times\.")


def check_calls(
    model: Model, sessions: Sequence[Session], marks: Path, *, kills: int, seed: int
) -> None:
    """Assert that no call was made that may not be made, no history is wrong, and more runs have
    ended well than processes were killed."""
    lines = marks.read_text().splitlines()
    wrong = [*model.wrong, *wrong_marks(lines)]
    for session in sessions:
        wrong += session.wrong
        last = f"task {session.agent}-{session.name}-last 0"
        wrong += wrong_history(model.conversations[last], lines)
    ended = sum((session.ended for session in sessions), Counter())
    interrupted = sum(
        "interrupted: " in item.text for turn in model.turns.values() for item in turn
    )
    print(
        f"{kills} kills (seed {seed}): {model.requests} model calls, {len(lines)} tool calls, "
        f"{interrupted} interrupted calls, runs {dict(ended)}, {len(wrong)} violations"
    )
    assert not wrong, f"seed {seed}"
    assert ended["ok"] > kills


def install(folder: Path, marks: Path) -> dict[str, str]:
    """A package with the tools, as an installer would put it there. The variables of a Gateway that
    has it, and whose tools write to `marks`."""
    facts = folder / "marker-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: marker\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[opensoul.tools]\nmarker = marker:Marker\n")
    (folder / "marker.py").write_text(TOOLS)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return {"PYTHONPATH": path.rstrip(os.pathsep), "MARKS": str(marks)}


def gateway_config(base_url: str) -> dict[str, Any]:
    """Agents on both formats of the provider, each with the tools."""
    model = {"models": [{"id": "m", "contextWindow": 4_000_000, "maxTokens": 1_000}]}
    claude = configured(base_url, api="anthropic-messages", apiKey="sk-ant") | model
    return config(
        base_url,
        agents={
            "list": [
                {"id": "openai", "model": {"primary": "fake/m"}},
                {"id": "anthropic", "model": {"primary": "claude/m"}},
            ]
        },
        models={"providers": {"fake": configured(base_url) | model, "claude": claude}},
        tools={"allow": ["mark", "keep", "look", "exec"]},
    )


@dataclass(frozen=True, slots=True)
class Item:
    """A part of a conversation: of the kind `user`, `said`, `call` or `result`."""

    kind: str
    call_id: str
    text: str


def items_of(request: Received) -> list[Item]:
    """The conversation of a request, whichever its format."""
    messages = request.json["messages"]
    read = _anthropic_items if request.path.endswith("/messages") else _openai_items
    return [item for message in messages for item in read(message)]


def _openai_items(message: dict[str, Any]) -> Iterator[Item]:
    if message["role"] == "tool":
        yield Item("result", message["tool_call_id"], message["content"])
        return
    if message["content"]:
        yield Item("user" if message["role"] == "user" else "said", "", message["content"])
    for call in message.get("tool_calls", ()):
        yield Item("call", call["id"], call["function"]["arguments"])


def _anthropic_items(message: dict[str, Any]) -> Iterator[Item]:
    for block in message["content"]:
        match block["type"]:
            case "text":
                yield Item("user" if message["role"] == "user" else "said", "", block["text"])
            case "tool_use":
                yield Item("call", block["id"], json.dumps(block["input"]))
            case "tool_result":
                texts = [part["text"] for part in block["content"]]
                yield Item("result", block["tool_use_id"], "".join(texts))


def calls_of(question: str, step: int, marks: Path) -> list[tuple[str, str, dict[str, str]]]:
    """The tool, the name of the marker and the arguments of each call; none after the last step."""
    match = _TASK.fullmatch(question)
    assert match is not None, question
    name, steps = match[1], int(match[2])
    if step == steps:
        return []
    chosen = random.Random(f"{name}/{step}").choice(_STEPS)  # noqa: S311 - the same every time
    calls = []
    for number, tool in enumerate(chosen):
        marker = f"{name}/{step}/{number}"
        command = f"echo exec {marker} - >> '{marks}'; echo exec {marker}"
        arguments = {"command": command} if tool == "exec" else {"name": marker}
        calls.append((tool, marker, arguments))
    return calls


@dataclass
class Model:
    """The provider. It refuses what strict providers refuse, and notes what it has been sent."""

    marks: Path
    wrong: list[str] = field(default_factory=list)
    requests: int = 0
    turns: dict[str, list[Item]] = field(default_factory=dict)
    """By its question, all that a turn had so far."""
    conversations: dict[str, list[Item]] = field(default_factory=dict)
    """By their last question."""

    async def behave(self, exchange: Exchange) -> None:
        request = exchange.request
        self.requests += 1
        if (why := _refusal(request)) is not None:
            self.wrong.append(f"request {self.requests} was refused: {why}: {request.body!r}")
            await fail(400)(exchange)
            return
        items = items_of(request)
        asked = max(at for at, item in enumerate(items) if item.kind == "user")
        question, turn = items[asked].text, items[asked + 1 :]
        before = self.turns.get(question, [])
        if turn[: len(before)] != before:
            self.wrong.append(f"{question!r} has lost a step: {before} became {turn}")
        self.turns[question] = turn
        self.conversations[question] = items
        step = sum(item.kind == "said" for item in turn)
        calls = calls_of(question, step, self.marks)
        # FakeProvider keeps each request: without its large parts.
        request.body, request.json = b"", {"stream_options": True}
        texts = f"step {step} of {question}", f"done {question}"
        if request.path.endswith("/messages"):
            blocks = [
                anthropic.call(f"c{number}", tool, arguments)
                for number, (tool, _, arguments) in enumerate(calls)
            ]
            text = anthropic.text(texts[0] if calls else texts[1])
            await anthropic.message(text, *blocks)(exchange)
            return
        deltas = [
            {
                "index": number,
                "id": f"c{number}",
                "type": "function",
                "function": {"name": tool, "arguments": json.dumps(arguments)},
            }
            for number, (tool, _, arguments) in enumerate(calls)
        ]
        if calls:
            await answer(texts[0], tool_calls=deltas, finish_reason="tool_calls")(exchange)
        else:
            await answer(texts[1])(exchange)


def _refusal(request: Received) -> str | None:
    if not request.path.endswith("/messages"):
        return openai.fault(request.json["messages"])
    try:
        anthropic.check(request)
    except anthropic.Refusal as refusal:
        return str(refusal)
    return None


@dataclass
class Session:
    """A client that asks one question after the other in a session of its own. `submits`: it sends
    each question with an idempotency key, again until its run has ended; otherwise it sends chat
    completions, and a lost one is lost."""

    agent: str
    name: str
    submits: bool
    chance: random.Random
    asked: int = 0
    open: str = ""
    """The question whose run may be going on."""
    ended: Counter[str] = field(default_factory=Counter)
    """How runs have ended."""
    wrong: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        return f"agent:{self.agent}:{self.name}"

    async def live(self, url: str) -> None:
        """Ask until the Gateway is gone."""
        with suppress(ClientError, aiohttp.ClientError, ConnectionError):
            while True:
                await self.ask(url, steps=self.chance.randint(1, 5))

    async def ask(self, url: str, *, steps: int) -> str:
        """Ask one question, or the open one again; the question."""
        if not self.open:
            self.asked += 1
            self.open = f"task {self.agent}-{self.name}-{self.asked} {steps}"
        question = self.open
        if self.submits:
            status, text = await self._submit(url)
        else:
            self.open = ""
            status, text = await self._complete(url, question)
        self.open = ""
        self.ended[status] += 1
        if status == "ok" and not text.endswith(f"done {question}"):
            self.wrong.append(f"{question!r} was answered by {text!r}")
        if status != "ok" and not _LOST_TOO_OFTEN.search(text):
            self.wrong.append(f"{question!r} ended with {status}: {text!r}")
        return question

    async def _submit(self, url: str) -> tuple[str, str]:
        address = url.replace("http", "ws", 1)
        async with Client.connect(address, token=SECRET, reconnect=False) as client:
            run = await client.run_agent(self.open, session_key=self.key, idempotency_key=self.open)
            result = await run.result()
        return result.status, result.text if result.status == "ok" else result.error

    async def _complete(self, url: str, question: str) -> tuple[str, str]:
        headers = {"Authorization": f"Bearer {SECRET}", "x-opensoul-session-key": self.key}
        body = {
            "model": f"opensoul:{self.agent}",
            "messages": [{"role": "user", "content": question}],
        }
        url = f"{url}/v1/chat/completions"
        async with aiohttp.request("POST", url, json=body, headers=headers) as response:
            said = await response.json()
        if response.status != 200:
            return str(response.status), str(said)
        return "ok", said["choices"][0]["message"]["content"]


def new_sessions(name: str, chance: random.Random) -> list[Session]:
    """Two of each agent: one that submits, and one with chat completions."""
    return [
        Session(agent, f"{name}-{'run' if submits else 'chat'}", submits, chance)
        for agent in ("openai", "anthropic")
        for submits in (True, False)
    ]


def wrong_marks(lines: Sequence[str]) -> Iterator[str]:
    """Markers that were written twice by a tool that must not be repeated, or under two keys."""
    written: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        tool, marker, key = line.split(" ", 2)
        written.setdefault((tool, marker), []).append(key)
    for (tool, marker), keys in written.items():
        if tool in _ONCE and len(keys) > 1:
            yield f"{tool} {marker} was written {len(keys)} times"
        if len(set(keys)) > 1:
            yield f"{tool} {marker} was written under the keys {sorted(set(keys))}"


def wrong_history(conversation: Sequence[Item], lines: Sequence[str]) -> Iterator[str]:
    """Contradictions between a whole conversation and the markers that its calls have written."""
    results = {item.call_id: item.text for item in conversation if item.kind == "result"}
    ended = {}
    for item in conversation:
        if item.kind == "call" and (found := re.search(r"[\w-]+/\d+/\d+", item.text)):
            ended[found[0]] = results.get(item.call_id, "")
    sessions = {marker.rpartition("-")[0] for marker in ended}
    written = {(tool, marker) for tool, marker, _ in (line.split(" ", 2) for line in lines)}
    for tool, marker in written:
        if marker.rpartition("-")[0] in sessions and marker not in ended:
            yield f"{tool} {marker} was written, and no call of the conversation did it"
    for marker, result in ended.items():
        tools = [tool for tool in ("mark", "keep", "look", "exec") if (tool, marker) in written]
        if any(f"{tool} {marker}" in result for tool in tools):
            continue
        if "There is no tool" in result or result == NOT_RUN:
            if tools:
                yield f"{marker} was written by {tools}, and its result is {result!r}"
        elif result != INTERRUPTED:
            yield f"{marker} was written by {tools}, and its result is {result!r}"

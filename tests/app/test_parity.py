"""One agent answers the same question through every entry point with the same text, tool calls,
usage and stop reason, in the same session, and stores the same turn.

An entry point is one line of `ENTRY_POINTS`; one that takes tools of its clients is one of
`WITH_CLIENT_TOOLS`, too. What a format has no field for is in its line.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from a2a.types import CancelTaskRequest, StreamResponse
from google.protobuf.json_format import MessageToDict

from opensoul.client import Client, Options
from opensoul.domain.messages import Text, ToolCall
from opensoul.domain.runs import RunQuery, RunRecord
from tests.a2a import agents
from tests.app import mcp_clients
from tests.app.serving import SECRET, Served, config, serving
from tests.fakes.behaviours import USAGE, Behaviour, Exchange, answer, cut, fail, hang_after
from tests.fakes.provider import FakeProvider
from tests.test_extending import FIND

MESSAGE = "When was Ada born?"
SESSION = "agent:main:parity"
PATIENCE = 60.0
ONCE, TWICE = ((USAGE["prompt_tokens"] * n, USAGE["completion_tokens"] * n) for n in (1, 2))
"""The usage of one call of the model, and of two."""


@dataclass(frozen=True)
class Answered:
    """What an entry point's client gets. `usage`: tokens of the input and of the output; `error`: a
    part of the answer to a run that failed; `calls`: name and arguments of the client's tools."""

    text: str = ""
    stop: str = ""
    usage: tuple[int, int] = (0, 0)
    session: str = ""
    error: str = ""
    calls: tuple[tuple[str, str], ...] = ()


Ask = Callable[[Served], Coroutine[Any, Any, Answered]]
"""Asks MESSAGE in SESSION; cancelling it aborts the run, as a client of the entry point would."""


@asynccontextmanager
async def posted(served: Served, path: str, **body: Any) -> AsyncIterator[tuple[Any, Any]]:
    """The response to a POST, and its document, or those of its events."""
    headers = served.authorization | {"x-opensoul-session-key": SESSION}
    if body["stream"] and "completions" in path:
        body["stream_options"] = {"include_usage": True}
    async with served.client.post(path, json=body, headers=headers) as response:
        text = await response.text()
        events = [line[6:] for line in text.split("\n") if line.startswith("data: {")]
        yield response, [json.loads(event) for event in events] or json.loads(text)


def error_in(found: Any) -> str:
    """The message of the error that is the response, or ends its events; empty without one."""
    last = found[-1] if isinstance(found, list) else found
    return last["error"]["message"] if "error" in last else ""


def usage_of(usage: Any) -> tuple[int, int]:
    return usage["prompt_tokens"], usage["completion_tokens"]


async def by_chat(served: Served, *, stream: bool, messages: Any = None, **body: Any) -> Answered:
    said = messages or [{"role": "user", "content": MESSAGE}]
    body |= {"model": "opensoul", "messages": said, "stream": stream}
    async with posted(served, "/v1/chat/completions", **body) as (response, found):
        if error := error_in(found):
            return Answered(error=error)
        session = response.headers["x-opensoul-session-key"]
    chunks: list[Any] = found if stream else [found]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    said = [choice["delta" if stream else "message"] for choice in choices]
    functions = [call["function"] for part in said for call in part.get("tool_calls", ())]
    names = [function["name"] for function in functions if "name" in function]
    arguments = [function["arguments"] for function in functions if function["arguments"]]
    return Answered(
        "".join(part.get("content") or "" for part in said),
        choices[-1]["finish_reason"],
        usage_of(chunks[-1]["usage"]),
        session,
        calls=tuple(zip(names, arguments, strict=True)),
    )


async def by_completions(served: Served, *, stream: bool) -> Answered:
    body = {"model": "opensoul", "prompt": MESSAGE, "stream": stream}
    async with posted(served, "/v1/completions", **body) as (response, found):
        if error := error_in(found):
            return Answered(error=error)
        session = response.headers["x-opensoul-session-key"]
    chunks: list[Any] = found if stream else [found]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    text = "".join(choice["text"] for choice in choices)
    return Answered(text, choices[-1]["finish_reason"], usage_of(chunks[-1]["usage"]), session)


INCOMPLETE = {"max_output_tokens": "length", "content_filter": "content_filter"}


async def by_responses(
    served: Served, *, stream: bool, given: Any = MESSAGE, **body: Any
) -> Answered:
    body |= {"model": "opensoul", "input": given, "stream": stream}
    async with posted(served, "/v1/responses", **body) as (http_response, found):
        headers = http_response.headers
    response = found[-1]["response"] if isinstance(found, list) else found
    if error := response.get("error"):
        return Answered(error=error["message"])
    output = response["output"]
    calls = tuple((i["name"], i["arguments"]) for i in output if i["type"] == "function_call")
    contents = [part for item in output for part in item.get("content", ())]
    stop = "tool_calls" if calls else "stop"
    if response["status"] == "incomplete":
        stop = INCOMPLETE[response["incomplete_details"]["reason"]]
    usage = response["usage"]
    return Answered(
        "".join(part["text"] for part in contents),
        stop,
        (usage["input_tokens"], usage["output_tokens"]),
        headers["x-opensoul-session-key"],
        calls=calls,
    )


STOPS = {
    "end_turn": "stop",
    "max_tokens": "length",
    "refusal": "content_filter",
    "tool_use": "tool_calls",
}
"""Anthropic's reasons for the end of an answer."""


def joined(events: Sequence[Any]) -> Any:
    """The message of which the events of a stream are the pieces."""
    message: Any = {}
    for event in events:
        match event:
            case {"type": "message_start"}:
                message = event["message"]
            case {"type": "content_block_start"}:
                message["content"].append(event["content_block"] | {"json": ""})
            case {"type": "content_block_delta", "delta": {"text": text}}:
                message["content"][event["index"]]["text"] += text
            case {"type": "content_block_delta", "delta": {"partial_json": text}}:
                message["content"][event["index"]]["json"] += text
            case {"type": "message_delta"}:
                message["usage"] |= event["usage"]
                message |= event["delta"]
    for block in message["content"]:
        if block["type"] == "tool_use":
            block["input"] = json.loads(block["json"])
    return message


async def by_messages(
    served: Served, *, stream: bool, messages: Any = None, **body: Any
) -> Answered:
    said = messages or [{"role": "user", "content": MESSAGE}]
    body |= {"model": "opensoul", "max_tokens": 1_000, "messages": said, "stream": stream}
    async with posted(served, "/v1/messages", **body) as (response, found):
        if error := error_in(found):
            return Answered(error=error)
        session = response.headers["x-opensoul-session-key"]
    message = joined(found) if stream else found
    blocks = message["content"]
    return Answered(
        "".join(block["text"] for block in blocks if block["type"] == "text"),
        STOPS[message["stop_reason"]],
        (message["usage"]["input_tokens"], message["usage"]["output_tokens"]),
        session,
        calls=tuple(
            (block["name"], json.dumps(block["input"], separators=(",", ":")))
            for block in blocks
            if block["type"] == "tool_use"
        ),
    )


def address(served: Served) -> str:
    return served.url.replace("http", "ws", 1)


async def by_websocket(served: Served) -> Answered:
    async with Client(Options(url=address(served), token=SECRET)) as client:
        run = await client.run_agent(MESSAGE, session_key=SESSION)
        try:
            found = await run.result()
        except asyncio.CancelledError:
            assert await run.abort()
            raise
    if found.error:
        return Answered(error=found.error)
    usage = found.usage["input"], found.usage["output"]
    return Answered(found.text, found.stop, usage, found.session_key)


async def by_command_line(served: Served) -> Answered:
    """`opensoul agent`, a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "opensoul.app", "--json", "agent", "-m", MESSAGE),
        *("--session-key", SESSION, "--url", address(served), "--token", SECRET),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"HOME": str(served.config_path.parent)},
    )
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
        raise
    if process.returncode:
        return Answered(error=json.loads(err)["error"]["message"])
    payload = json.loads(out)
    meta = payload["result"]["meta"]
    text = "\n".join(part["text"] for part in payload["result"]["payloads"])
    usage = meta["agentMeta"]["usage"]
    session = str((await the_run(served)).session_key)
    return Answered(text, meta["stopReason"], (usage["input"], usage["output"]), session)


async def by_mcp(served: Served) -> Answered:
    arguments = {"message": MESSAGE, "session_key": SESSION}
    async with mcp_clients.connected(served) as client:
        result = await client.call_tool("ask_main", arguments)
    if result.is_error:
        return Answered(error=mcp_clients.text_of(result))
    found = result.structured_content or {}
    return Answered(found["text"], found["stop_reason"], session=found["session_key"])


async def by_a2a(served: Served, *, stream: bool) -> Answered:
    request = agents.sent(MESSAGE, context_id=SESSION)
    async with agents.calling(served) as caller:
        client = await caller.client(streaming=stream)
        events: list[StreamResponse] = []
        try:
            async for event in client.send_message(request):
                events.append(event)
        except asyncio.CancelledError:
            (run,) = (await served.container.run_events().list(RunQuery())).runs
            await client.cancel_task(CancelTaskRequest(id=run.id))
            raise
    last = events[-1].task if events[-1].HasField("task") else events[-1].status_update
    state, session = agents.name(last.status.state), last.context_id
    if state != "completed":
        return Answered(error="".join(part.text for part in last.status.message.parts))
    text = agents.streamed_text(events) if stream else agents.text_of(events[-1].task)
    metadata = MessageToDict(last.metadata)
    usage = metadata["usage"]
    tokens = int(usage["inputTokens"]), int(usage["outputTokens"])
    return Answered(text, metadata["finishReason"], tokens, session)


@dataclass(frozen=True)
class EntryPoint:
    """`lacks`: fields of Answered that its format does not have."""

    ask: Ask
    lacks: frozenset[str] = frozenset()

    def gets(self, answered: Answered) -> Answered:
        """What the format has of it."""
        empty = Answered()
        return replace(answered, **{name: getattr(empty, name) for name in self.lacks})


ENTRY_POINTS = {
    "chat": EntryPoint(partial(by_chat, stream=False)),
    "chat, streamed": EntryPoint(partial(by_chat, stream=True)),
    "completions": EntryPoint(partial(by_completions, stream=False)),
    "completions, streamed": EntryPoint(partial(by_completions, stream=True)),
    "responses": EntryPoint(partial(by_responses, stream=False)),
    "responses, streamed": EntryPoint(partial(by_responses, stream=True)),
    "messages": EntryPoint(partial(by_messages, stream=False)),
    "messages, streamed": EntryPoint(partial(by_messages, stream=True)),
    "WebSocket": EntryPoint(by_websocket),
    "command line": EntryPoint(by_command_line),
    "MCP": EntryPoint(by_mcp, lacks=frozenset({"usage"})),
    "A2A": EntryPoint(partial(by_a2a, stream=False)),
    "A2A, streamed": EntryPoint(partial(by_a2a, stream=True)),
}


async def the_run(served: Served) -> RunRecord:
    """The one run that there was, once it has ended."""
    log = served.container.run_events()
    (run,) = (await log.list(RunQuery())).runs
    async with asyncio.timeout(PATIENCE):
        await log.ended(run.id)
    found = await log.find(run.id)
    assert found is not None
    return found


Stored = list[tuple[str, str, tuple[tuple[str, str], ...]]]


async def stored(served: Served, run: RunRecord) -> Stored:
    """The messages of the session: role, text, and calls of tools."""
    kept = await served.container.catalog().messages(run.session_key, limit=20)
    found: Stored = []
    for one in kept:
        parts = one.message.parts
        calls = tuple((p.name, p.arguments) for p in parts if isinstance(p, ToolCall))
        text = "".join(part.text for part in parts if isinstance(part, Text))
        found.append((str(one.message.role), text, calls))
    return found


@asynccontextmanager
async def gateway(home: Path, *behaviours: Behaviour) -> AsyncIterator[Served]:
    async with FakeProvider() as provider:
        provider.will(*behaviours)
        content = config(provider.base_url, tools={"alsoAllow": ["group:plugins"]})
        endpoints = content["gateway"]["http"]["endpoints"]
        endpoints |= {
            name: {"enabled": True}
            for name in ("completions", "responses", "messages", "mcp", "a2a")
        }
        async with serving(home, content, find_plugins=FIND) as served:
            yield served


each_entry_point = pytest.mark.parametrize(
    "entry_point", ENTRY_POINTS.values(), ids=list(ENTRY_POINTS)
)
QUESTION = ("user", MESSAGE, ())


@each_entry_point
@pytest.mark.parametrize("stop", ["stop", "length", "content_filter"])
async def test_an_answer(tmp_path: Path, entry_point: EntryPoint, stop: str) -> None:
    async with gateway(tmp_path, answer("In ", "1815.", finish_reason=stop)) as served:
        answered = await entry_point.ask(served)
        run = await the_run(served)

        assert answered == entry_point.gets(Answered("In 1815.", stop, ONCE, SESSION))
        assert (str(run.status), str(run.session_key)) == ("finished", SESSION)
        assert await stored(served, run) == [QUESTION, ("assistant", "In 1815.", ())]
        turn = await served.container.catalog().turn(run.id)
        assert turn is not None
        assert turn.usage is not None
        assert (turn.model, (turn.usage.input, turn.usage.output)) == ("fake/m", ONCE)


LOOK_UP = ("look_up_extension", '{"name":"ada"}')


def calling(name: str, arguments: str, *texts: str) -> Behaviour:
    function = {"name": name, "arguments": arguments}
    call = {"index": 0, "id": "c1", "type": "function", "function": function}
    return answer(*texts, tool_calls=[call], finish_reason="tool_calls")


@each_entry_point
async def test_an_answer_after_a_tool_of_the_agent(tmp_path: Path, entry_point: EntryPoint) -> None:
    behaviours = calling(*LOOK_UP, "I look. "), answer("It is ", "1815.")
    async with gateway(tmp_path, *behaviours) as served:
        answered = await entry_point.ask(served)
        run = await the_run(served)

        expected = Answered("I look. \n\nIt is 1815.", "stop", TWICE, SESSION)
        assert answered == entry_point.gets(expected)
        assert await stored(served, run) == [
            QUESTION,
            ("assistant", "I look. ", (LOOK_UP,)),
            ("tool", "ada: 1815", ()),
            ("assistant", "It is 1815.", ()),
        ]


FAILURES = [
    (
        fail(400, {"error": {"message": "no such thing as Ada"}}),
        "The provider of fake/m refused the request: no such thing as Ada",
    ),
    (
        cut("In "),
        "The provider of fake/m gave an unusable answer: its connection broke within the answer.",
    ),
]
"""At once, and within the answer."""


@each_entry_point
@pytest.mark.parametrize(("failing", "error"), FAILURES, ids=["refused", "cut"])
async def test_a_failure_of_the_provider(
    tmp_path: Path, entry_point: EntryPoint, failing: Behaviour, error: str
) -> None:
    async with gateway(tmp_path, failing) as served:
        answered = await entry_point.ask(served)
        run = await the_run(served)

        assert answered == Answered(error=error)
        assert (str(run.status), str(run.session_key)) == ("failed", SESSION)
        assert await served.container.catalog().turn(run.id) is None


@each_entry_point
async def test_an_abort(tmp_path: Path, entry_point: EntryPoint) -> None:
    called = asyncio.Event()
    closed = asyncio.Event()

    async def hanging(exchange: Exchange) -> None:
        called.set()
        try:
            await hang_after("In ")(exchange)
        finally:
            closed.set()

    async with gateway(tmp_path, hanging) as served:
        asking = asyncio.create_task(entry_point.ask(served))
        async with asyncio.timeout(PATIENCE):
            await called.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        run = await the_run(served)

        assert (str(run.status), str(run.session_key)) == ("aborted", SESSION)
        async with asyncio.timeout(PATIENCE):
            await closed.wait()
        assert (served.container.lanes().working, served.container.lanes().waiting) == (0, 0)
        assert await stored(served, run) == []


WEATHER = ("get_weather", '{"city":"Lisbon"}')


async def tools_by_chat(served: Served, *, stream: bool) -> Sequence[Answered]:
    """The answer with a call of the client's tool, and the one to the tool's result."""
    tool = {"type": "function", "function": {"name": WEATHER[0]}}
    question = {"role": "user", "content": MESSAGE}
    first = await by_chat(served, stream=stream, messages=[question], tools=[tool])
    (name, arguments) = first.calls[0]
    function = {"name": name, "arguments": arguments}
    call = {"id": "c1", "type": "function", "function": function}
    messages = [
        question,
        {"role": "assistant", "content": first.text, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    return first, await by_chat(served, stream=stream, messages=messages, tools=[tool])


async def tools_by_responses(served: Served, *, stream: bool) -> Sequence[Answered]:
    tool = {"type": "function", "name": WEATHER[0], "parameters": {"type": "object"}}
    question = {"role": "user", "content": MESSAGE}
    first = await by_responses(served, stream=stream, given=[question], tools=[tool])
    (name, arguments) = first.calls[0]
    given = [
        question,
        {"role": "assistant", "content": first.text},
        {"type": "function_call", "call_id": "c1", "name": name, "arguments": arguments},
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
    ]
    return first, await by_responses(served, stream=stream, given=given, tools=[tool])


async def tools_by_messages(served: Served, *, stream: bool) -> Sequence[Answered]:
    tool = {"name": WEATHER[0], "input_schema": {"type": "object"}}
    question = {"role": "user", "content": MESSAGE}
    first = await by_messages(served, stream=stream, messages=[question], tools=[tool])
    (name, arguments) = first.calls[0]
    call = {"type": "tool_use", "id": "c1", "name": name, "input": json.loads(arguments)}
    text = {"type": "text", "text": first.text}
    result = {"type": "tool_result", "tool_use_id": "c1", "content": "sunny"}
    messages = [
        question,
        {"role": "assistant", "content": [text, call]},
        {"role": "user", "content": [result]},
    ]
    return first, await by_messages(served, stream=stream, messages=messages, tools=[tool])


AskWithTools = Callable[[Served], Coroutine[Any, Any, Sequence[Answered]]]
WITH_CLIENT_TOOLS: dict[str, AskWithTools] = {
    "chat": partial(tools_by_chat, stream=False),
    "chat, streamed": partial(tools_by_chat, stream=True),
    "responses": partial(tools_by_responses, stream=False),
    "responses, streamed": partial(tools_by_responses, stream=True),
    "messages": partial(tools_by_messages, stream=False),
    "messages, streamed": partial(tools_by_messages, stream=True),
}


@pytest.mark.parametrize("ask", WITH_CLIENT_TOOLS.values(), ids=list(WITH_CLIENT_TOOLS))
async def test_an_answer_after_a_tool_of_the_client(tmp_path: Path, ask: AskWithTools) -> None:
    behaviours = calling(*WEATHER, "I ask. "), answer("It is ", "sunny.")
    async with gateway(tmp_path, *behaviours) as served:
        first, second = await ask(served)
        log = served.container.run_events()
        runs = (await log.list(RunQuery())).runs

        assert first == Answered("I ask. ", "tool_calls", ONCE, SESSION, calls=(WEATHER,))
        assert (second.text, second.stop, second.session) == ("It is sunny.", "stop", SESSION)
        assert await stored(served, runs[0]) == [
            QUESTION,
            ("assistant", "I ask. ", (WEATHER,)),
            ("tool", "sunny", ()),
            ("assistant", "It is sunny.", ()),
        ]

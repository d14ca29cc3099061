"""What a Gateway and a worker process send one another: frames of JSON behind their length.

From the Gateway: `load`, `run`, `accepted`, `cancel`. From a worker: `loaded`, `invalid`, `events`,
`ended`, `failed`, and `blocked` where a run cannot begin because another one blocks the event loop.
A worker runs code that the Gateway does not trust to be harmless: what it sends is read as data,
and a frame has an upper limit.

A worker sends no more of a run behind `events` that have `waits` set, until the Gateway has
processed them and sends `accepted`: those that begin a tool, which are stored before the tool runs,
and those that make up MOST_SENT bytes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from ...domain.access import Principal, Scope
from ...domain.messages import Image, Message, Part, Reasoning, Role, Text, ToolCall
from ...domain.models import StopReason, TextDelta, Usage
from ...domain.runs import Answered, dump_event, load_event
from ...domain.tools import ToolSpec
from .runs import YIELDED, AgentEvent, AgentRun, ApprovalsAsked, Resumption

MOST_BYTES = 256 * 1024 * 1024
"""Of one frame."""
MOST_SENT = 1024 * 1024
"""Bytes of a run that a worker sends before it waits for the Gateway."""
_LENGTH = 4
_MOST_TOKENS = 2**53
"""JSON numbers are exact up to there."""

Frame = dict[str, Any]


class BrokenFrame(Exception):
    """The other side sent something that is no frame."""


async def read_frame(reader: asyncio.StreamReader) -> tuple[Frame, int] | None:
    """The next frame and its bytes; None at the end. Raises BrokenFrame."""
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH))
        if length > MOST_BYTES:
            raise BrokenFrame(f"a frame of {length} bytes")
        body = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    try:
        frame = _loaded(body)
    except (ValueError, RecursionError) as error:
        raise BrokenFrame(str(error)) from None
    if not isinstance(frame, dict):
        raise BrokenFrame("no object")
    return frame, length


def _loaded(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:  # It refuses halves of surrogate pairs.
        return json.loads(body)


def frame_of(**fields: object) -> bytes:
    """The bytes of a frame."""
    try:
        body = orjson.dumps(fields)
    except TypeError:  # Halves of surrogate pairs, and integers of more than 64 bits.
        body = json.dumps(fields).encode()
    return len(body).to_bytes(_LENGTH) + body


def dump_run(run: AgentRun) -> Frame:
    """The run as plain data."""
    principal, resumption = run.principal, run.resumption
    return {
        "text": run.text,
        "question": [_dump_message(message) for message in run.question],
        "history": [_dump_message(message) for message in run.history],
        "session_key": run.session_key,
        "agent_id": run.agent_id,
        "run_id": run.run_id,
        "principal": {
            "id": principal.id,
            "scopes": sorted(scope.value for scope in principal.scopes),
            "agents": None if principal.agents is None else sorted(principal.agents),
        },
        "params": dict(run.params),
        "metadata": dict(run.metadata),
        "tools": [
            [tool.name, tool.description, dict(tool.parameters), tool.source, tool.strict]
            for tool in run.tools
        ],
        "tool_choice": run.tool_choice,
        "instructions": run.instructions,
        "framework_memory": run.framework_memory,
        "resumption": resumption
        and [resumption.state, dict(resumption.decisions), dict(resumption.reasons)],
    }


def load_run(data: Mapping[str, Any]) -> AgentRun:
    """The run that `dump_run` made into data."""
    principal, resumption = data["principal"], data["resumption"]
    agents = principal["agents"]
    return AgentRun(
        text=data["text"],
        question=tuple(map(_load_message, data["question"])),
        history=tuple(map(_load_message, data["history"])),
        session_key=data["session_key"],
        agent_id=data["agent_id"],
        run_id=data["run_id"],
        principal=Principal(
            principal["id"],
            frozenset(map(Scope, principal["scopes"])),
            "run",
            agents=None if agents is None else frozenset(agents),
        ),
        params=data["params"],
        metadata=data["metadata"],
        tools=tuple(
            ToolSpec(name, description, parameters, source=source, strict=strict)
            for name, description, parameters, source, strict in data["tools"]
        ),
        tool_choice=data["tool_choice"],
        instructions=data["instructions"],
        framework_memory=data["framework_memory"],
        resumption=None if resumption is None else Resumption(*resumption),
    )


def dump_events(events: Sequence[AgentEvent]) -> list[list[object]]:
    """The events as plain data."""
    return [_dump(event) for event in events]


def load_events(data: object) -> list[AgentEvent]:
    """The events that `dump_events` made into data. Raises BrokenFrame."""
    if not isinstance(data, list):
        raise BrokenFrame("no list of events")
    try:
        return [_load(item) for item in data]
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise BrokenFrame(f"an event that cannot be read: {error}") from error


def checked(event: AgentEvent) -> AgentEvent:
    """The event. Raises BrokenFrame where a field of it has a wrong type."""
    if type(event) is TextDelta and type(event.text) is str:  # The usual case.
        return event
    try:
        _load(_dump(event))
    except (ValueError, TypeError, AttributeError) as error:
        raise BrokenFrame(f"an event with wrong fields: {error}") from error
    return event


def _dump(event: AgentEvent) -> list[object]:
    match event:
        case Usage():
            return ["usage", *_dump_usage(event)]
        case ApprovalsAsked(calls=calls, state=state):
            return ["asked", [[call.id, call.name, call.arguments] for call in calls], state]
        case Answered(messages=messages):
            said = [_dump_message(message) for message in messages]
            usage = _dump_usage(event.usage)
            return ["answered", said, event.stop.value, usage, event.model, event.stop_sequence]
        case _:
            return ["event", dump_event(event)]


def _load(item: Sequence[Any]) -> AgentEvent:
    match item:
        case ["usage", *numbers]:
            return _load_usage(numbers)
        case ["asked", list() as calls, str() as state]:
            return ApprovalsAsked(tuple(ToolCall(*map(_text, call)) for call in calls), state)
        case ["answered", list() as messages, str() as stop, list() as usage, *names]:
            said = tuple(map(_load_message, messages))
            return Answered(said, StopReason(stop), _load_usage(usage), *map(_text, names))
        case ["event", list() as stored]:
            event = load_event(stored)
            if isinstance(event, YIELDED):
                return event
    raise ValueError("an event of an unknown form")


def _dump_usage(usage: Usage) -> list[object]:
    counts = (usage.input, usage.output, usage.reasoning, usage.cached, usage.cache_writes)
    return [*counts, usage.estimated]


def _load_usage(numbers: Sequence[Any]) -> Usage:
    *counts, estimated = numbers
    for count in counts:
        if not isinstance(count, int) or not 0 <= count <= _MOST_TOKENS:
            raise ValueError(f"{count!r} is no number of tokens")
    said, answered, thought, cached, written = counts
    return Usage(said, answered, thought, cached, bool(estimated), written)


def _dump_message(message: Message) -> list[object]:
    return [
        message.role.value,
        [_dump_part(part) for part in message.parts],
        message.name,
        message.tool_call_id,
        message.is_error,
    ]


def _load_message(data: Sequence[Any]) -> Message:
    role, parts, name, call_id, is_error = data
    return Message(
        Role(role),
        tuple(_load_part(*part) for part in parts),
        name=None if name is None else _text(name),
        tool_call_id=None if call_id is None else _text(call_id),
        is_error=bool(is_error),
    )


def _dump_part(part: Part) -> list[object]:
    match part:
        case Text(text=text):
            return ["text", text]
        case Reasoning(text=text, signature=signature, model=model, redacted=redacted):
            return ["reasoning", text, signature, model, redacted]
        case ToolCall(id=call_id, name=name, arguments=arguments):
            return ["call", call_id, name, arguments]
        case Image(data=data, mime=mime, detail=detail):
            return ["image", data, mime, detail]


def _load_part(kind: str, *fields: Any) -> Part:
    match kind, fields:
        case "text", [text]:
            return Text(_text(text))
        case "reasoning", [text, signature, model, redacted]:
            return Reasoning(_text(text), _text(signature), _text(model), bool(redacted))
        case "call", [call_id, name, arguments]:
            return ToolCall(_text(call_id), _text(name), _text(arguments))
        case "image", [data, mime, detail]:
            return Image(_text(data), _text(mime), _text(detail))
    raise ValueError(f"a part of the kind {kind!r}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text was expected")
    return value

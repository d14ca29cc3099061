"""Strands Agents: functions of the run that return a `strands.Agent`.

Strands is imported by the code of the agent; here only in functions that an agent of it has called
for.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any

from ....domain.errors import AgentFailed
from ....domain.messages import Image, Message, Part, Reasoning, Role, Text, ToolCall
from ....domain.models import ReasoningDelta, StopReason, TextDelta, Usage
from ....domain.runs import Answered, ToolFinished, ToolStarted
from ..errors import TargetInvalid
from ..runs import AgentEvent, AgentEvents, AgentRun, ApprovalsAsked
from ..threads import taken
from .answers import counted

_MOST_TURNS = 100
"""Model calls of a run."""
_STOPS = {
    "max_tokens": StopReason.LENGTH,
    "content_filtered": StopReason.CONTENT_FILTER,
    "guardrail_intervened": StopReason.CONTENT_FILTER,
}


class Strands:
    """Runs agents that a function has made for the run: an agent of Strands has one conversation,
    and works on one request at a time."""

    types = frozenset({"strands.agent.agent.Agent"})

    def describe(self, target: object) -> str:
        raise TargetInvalid(
            "An Agent of Strands has one conversation, and works on one request at a time. Make "
            "the target a function of the run that returns an agent: "
            "`def agent(run): return Agent(model=..., tools=...)`."
        )

    async def run(self, target: object, run: AgentRun) -> AsyncGenerator[AgentEvents]:
        agent: Any = target
        agent.callback_handler = _silent
        if run.instructions:
            own = (agent.system_prompt, run.instructions)
            agent.system_prompt = "\n\n".join(filter(None, own))
        reader = _Reader(agent, run)
        result: Any = None
        async for event in agent.stream_async(
            reader.prompt(), invocation_state={"opensoul": run}, limits={"turns": _MOST_TURNS}
        ):
            match event:
                case {"data": str() as text} if text:
                    yield TextDelta(text)
                case {"reasoning": True, "reasoningText": str() as text} if text:
                    yield ReasoningDelta(text)
                case {"result": found}:
                    result = found
        if result is None:
            raise AgentFailed(f"The agent `{run.agent_id}` ended without an answer.")
        yield reader.ending(result)


def _silent(**event: object) -> None:
    """In place of the handler that prints the answer."""


class _Reader:
    def __init__(self, agent: Any, run: AgentRun) -> None:
        from strands.hooks import AfterToolCallEvent, BeforeToolCallEvent, MessageAddedEvent

        self._agent = agent
        self._run = run
        self._calls: dict[str, ToolCall] = {}
        self._new: list[Message] = []
        agent.hooks.add_callback(BeforeToolCallEvent, self._started)
        agent.hooks.add_callback(AfterToolCallEvent, self._finished)
        agent.hooks.add_callback(MessageAddedEvent, self._added)

    def prompt(self) -> Any:
        """What the agent is called with."""
        run = self._run
        if run.resumption is not None:
            from strands import Snapshot

            stored = json.loads(run.resumption.state)
            self._agent.load_snapshot(Snapshot.from_dict(_with_bytes(stored["snapshot"])))
            self._new = [m for one in _with_bytes(stored["new"]) for m in _from_message(one)]
            return [
                {"interruptResponse": {"interruptId": interrupt, "response": _allows(run, call)}}
                for call, interrupt in stored["interrupts"].items()
            ]
        *before, last = _to_messages(run.question if run.framework_memory else run.messages)
        if not run.framework_memory:
            self._agent.messages = list(before)
        return last["content"]

    async def _started(self, event: Any) -> None:
        call = _call(event.tool_use)
        self._calls[call.id] = call
        await taken(ToolStarted(call.id, call.name, call.arguments))

    async def _finished(self, event: Any) -> None:
        result = event.result
        failed = result["status"] == "error"
        await taken(ToolFinished(result["toolUseId"], failed, _result_text(result)))

    def _added(self, event: Any) -> None:
        message = event.message
        is_result = any("toolResult" in block for block in message["content"])
        if message["role"] == "assistant" or is_result:
            self._new += _from_message(message)

    def ending(self, result: Any) -> list[AgentEvent]:
        """The last events. Raises AgentFailed where there is no answer."""
        usage = _usage(result.metrics.accumulated_usage)
        if result.stop_reason == "interrupt":
            return [usage, self._asked(result.interrupts)]
        if result.stop_reason.startswith("limit_"):
            raise AgentFailed(
                f"The agent `{self._run.agent_id}` has called its model {_MOST_TURNS} times."
            )
        messages = self._new
        if not messages or messages[-1].role is not Role.ASSISTANT:
            raise AgentFailed(f"The agent `{self._run.agent_id}` ended without an answer.")
        stop = _STOPS.get(result.stop_reason, StopReason.STOP)
        model = self._agent.model.get_config().get("model_id", "unknown")
        usage = counted(usage, self._run, messages)
        return [Answered(tuple(messages), stop, usage, f"strands/{model}")]

    def _asked(self, interrupts: Iterable[Any]) -> ApprovalsAsked:
        calls, ids = list[ToolCall](), dict[str, str]()
        for interrupt in interrupts:
            # Of an interrupt before or in a tool, the id has that of the call.
            found = next((c for c in self._calls.values() if c.id in interrupt.id), None)
            reason = json.dumps(interrupt.reason, ensure_ascii=False, default=str)
            call = found or ToolCall(interrupt.id, interrupt.name, reason)
            calls.append(call)
            ids[call.id] = interrupt.id
        state = {
            "snapshot": self._agent.take_snapshot(preset="session").to_dict(),
            "new": [message for one in self._new for message in _to_messages([one])],
            "interrupts": ids,
        }
        return ApprovalsAsked(tuple(calls), json.dumps(state, default=_from_bytes))


def _allows(run: AgentRun, call_id: str) -> bool:
    return run.resumption is not None and bool(run.resumption.decisions.get(call_id))


def _from_bytes(value: object) -> object:
    if isinstance(value, bytes):
        return {"__bytes__": base64.b64encode(value).decode()}
    return str(value)


def _with_bytes(value: Any) -> Any:
    match value:
        case {"__bytes__": str() as text}:
            return base64.b64decode(text)
        case dict():
            return {key: _with_bytes(one) for key, one in value.items()}
        case list():
            return [_with_bytes(one) for one in value]
    return value


def _to_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages of Strands, in which users and assistants take turns."""
    found: list[dict[str, Any]] = []
    for message in messages:
        role = "assistant" if message.role is Role.ASSISTANT else "user"
        content = list(_blocks(message))
        if found and found[-1]["role"] == role:
            found[-1]["content"] += content
        elif content:
            found.append({"role": role, "content": content})
    return found


def _blocks(message: Message) -> Iterable[dict[str, Any]]:
    if message.role is Role.TOOL:
        status = "error" if message.is_error else "success"
        content = [{"text": message.text}]
        yield {
            "toolResult": {
                "toolUseId": message.tool_call_id,
                "status": status,
                "content": content,
            }
        }
        return
    for part in message.parts:
        match part:
            case Text(text=text) if text:
                yield {"text": text}
            case Image(data=data, mime=mime):
                source = {"bytes": base64.b64decode(data)}
                yield {"image": {"format": mime.rpartition("/")[2], "source": source}}
            case ToolCall(id=call_id, name=name, arguments=arguments):
                use = {"toolUseId": call_id, "name": name, "input": _object(arguments)}
                yield {"toolUse": use}


def _object(arguments: str) -> object:
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return {}


def _from_message(message: Mapping[str, Any]) -> list[Message]:
    parts: list[Part] = []
    results: list[Message] = []
    for block in message["content"]:
        match block:
            case {"text": str() as text}:
                parts.append(Text(text))
            case {"reasoningContent": {"reasoningText": {"text": str() as text}}}:
                parts.append(Reasoning(text))
            case {"toolUse": use}:
                parts.append(_call(use))
            case {"toolResult": result}:
                failed = result["status"] == "error"
                said = (Text(_result_text(result)),)
                call_id = result["toolUseId"]
                results.append(Message(Role.TOOL, said, tool_call_id=call_id, is_error=failed))
    said_by = Role.ASSISTANT if message["role"] == "assistant" else Role.USER
    own = [Message(said_by, tuple(parts))] if parts and said_by is Role.ASSISTANT else []
    return [*own, *results]


def _call(use: Mapping[str, Any]) -> ToolCall:
    arguments = json.dumps(use["input"], ensure_ascii=False, default=str)
    return ToolCall(use["toolUseId"], use["name"], arguments)


def _result_text(result: Mapping[str, Any]) -> str:
    texts = []
    for block in result["content"]:
        match block:
            case {"text": str() as text}:
                texts.append(text)
            case {"json": value}:
                texts.append(json.dumps(value, ensure_ascii=False, default=str))
    return "\n".join(texts)


def _usage(found: Mapping[str, int]) -> Usage:
    return Usage(
        found.get("inputTokens", 0),
        found.get("outputTokens", 0),
        cached=found.get("cacheReadInputTokens", 0),
        cache_writes=found.get("cacheWriteInputTokens", 0),
    )

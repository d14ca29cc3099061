"""Agno: agents.

Agno is imported by the code of the agent; here only in functions that an agent of it has called
for.
"""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from ....domain.errors import AgentFailed
from ....domain.messages import Image, Message, Part, Reasoning, Role, Text, ToolCall
from ....domain.models import ReasoningDelta, StopReason, TextDelta, Usage
from ....domain.runs import Answered, ClientCalls, ToolFinished, ToolStarted, answer_format
from ....domain.tools import ToolSpec
from ..runs import AgentEvent, AgentEvents, AgentRun, ApprovalsAsked, Resumption
from .answers import counted, ending_with, handing_out, text_of

_MOST_CALLS = 200
"""Tool calls of a run, where the agent has no limit of its own."""
_PARAMS = (
    *("temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "stop"),
    *("presence_penalty", "frequency_penalty", "reasoning_effort"),
)


class RunError(Exception):
    """Agno reports errors as events, without the exception."""


class Agno:
    """Runs a copy of the agent, so that nothing of a run stays with it."""

    types = frozenset({"agno.agent.agent.Agent"})

    def describe(self, target: object) -> str:
        agent: Any = target
        return f"the agent {agent.name}" if agent.name else "an agent"

    async def run(self, target: object, run: AgentRun) -> AsyncGenerator[AgentEvents]:
        agent = _copied(target, run)
        if run.framework_memory and agent.db is None:
            raise AgentFailed(
                f'The agent `{run.agent_id}` has `runner.memory: "framework"`, which needs a '
                "database of Agno: Agent(db=..., add_history_to_context=True)."
            )
        reader = _Reader(run)
        shared = {
            "stream": True,
            "stream_events": True,
            "yield_run_output": True,
            "user_id": run.principal.id,
            "session_id": run.session_key,
            "dependencies": {**(agent.dependencies or {}), "opensoul": run},
        }
        if run.resumption is None:
            history = None if run.framework_memory else False
            events = agent.arun(_messages(run), add_history_to_context=history, **shared)
        else:
            paused = _decided(run.resumption)
            events = agent.acontinue_run(
                run_response=paused, requirements=paused.requirements, **shared
            )
        output: Any = None
        async with aclosing(events):
            async for event in events:
                if not hasattr(event, "event"):
                    output = event
                elif found := reader.take(event):
                    yield found
        if output is None:
            raise AgentFailed(f"The agent `{run.agent_id}` ended without an answer.")
        yield reader.ending(output)


def _copied(target: Any, run: AgentRun) -> Any:
    """The agent with what the run adds to it."""
    agent = copy.copy(target)
    agent.telemetry = False
    if agent.tool_call_limit is None:
        agent.tool_call_limit = _MOST_CALLS
    if run.instructions:
        context = (agent.additional_context, run.instructions)
        agent.additional_context = "\n\n".join(filter(None, context))
    params = {name: run.params[name] for name in _PARAMS if run.params.get(name) is not None}
    if params and agent.model is not None:
        agent.model = copy.copy(agent.model)
        for name, value in params.items():
            if hasattr(agent.model, name):
                setattr(agent.model, name, value)
    if answer_format(run.params) is not None and agent.output_schema is None:
        agent.output_schema = run.params["response_format"]
    if run.tools:
        if agent.tools is not None and not isinstance(agent.tools, list):
            raise AgentFailed(
                f"The tools of the agent `{run.agent_id}` are a function, to which the tools of a "
                "client cannot be added."
            )
        agent.tools = [*(agent.tools or ()), *map(_client_tool, run.tools)]
    return agent


def _client_tool(tool: ToolSpec) -> Any:
    """A tool whose calls pause the run."""
    from agno.tools.function import Function

    return Function(
        name=tool.name,
        description=tool.description,
        parameters=dict(tool.parameters) or {"type": "object", "properties": {}},
        external_execution=True,
        skip_entrypoint_processing=True,
    )


def _messages(run: AgentRun) -> list[Any]:
    from agno.media import Image as Picture
    from agno.models.message import Message as Theirs

    found = []
    for number, message in enumerate(run.messages):
        fields: dict[str, Any] = {"id": _given_id(run, number), "content": message.text or None}
        if message.role is Role.TOOL:
            fields |= {"tool_call_id": message.tool_call_id, "tool_call_error": message.is_error}
        calls = [part for part in message.parts if isinstance(part, ToolCall)]
        if calls:
            fields["tool_calls"] = [_dumped(call) for call in calls]
        pictures = [part for part in message.parts if isinstance(part, Image)]
        if pictures:
            fields["images"] = [
                Picture(content=base64.b64decode(picture.data), mime_type=picture.mime)
                for picture in pictures
            ]
        found.append(Theirs(role=message.role.value, **fields))
    return found


def _given_id(run: AgentRun, number: int) -> str:
    return f"{run.run_id}:{number}"


def _dumped(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _from(message: Any) -> Message:
    text = message.get_content_string()
    if message.role == "tool":
        failed = bool(message.tool_call_error)
        return Message(Role.TOOL, (Text(text),), tool_call_id=message.tool_call_id, is_error=failed)
    parts: list[Part] = []
    if message.reasoning_content:
        parts.append(Reasoning(message.reasoning_content))
    if text:
        parts.append(Text(text))
    return Message(Role.ASSISTANT, (*parts, *_calls(message)))


def _calls(message: Any) -> Iterator[ToolCall]:
    for call in message.tool_calls or ():
        yield ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])


def _decided(resumption: Resumption) -> Any:
    """The paused run, with the decisions."""
    from agno.run.agent import RunOutput

    paused = RunOutput.from_dict(json.loads(resumption.state))
    tools = {tool.tool_call_id: tool for tool in paused.tools or ()}
    for requirement in paused.requirements or ():
        call_id = requirement.tool_execution.tool_call_id
        requirement.tool_execution = tools[call_id]  # The same one, which was stored twice.
        if resumption.decisions.get(call_id):
            requirement.confirm()
        elif requirement.needs_confirmation:
            requirement.reject(resumption.reasons.get(call_id))
    return paused


class _Reader:
    def __init__(self, run: AgentRun) -> None:
        self._run = run
        denied = {} if run.resumption is None else run.resumption.decisions
        self._done = {call_id for call_id, allowed in denied.items() if not allowed}

    def take(self, event: Any) -> list[AgentEvent]:
        events: list[AgentEvent] = []
        match event.event:
            case "RunContent":
                if event.reasoning_content:
                    events.append(ReasoningDelta(event.reasoning_content))
                if isinstance(event.content, str) and event.content:
                    events.append(TextDelta(event.content))
            case "ToolCallStarted" if event.tool.tool_call_id not in self._done:
                tool = event.tool
                arguments = json.dumps(tool.tool_args or {}, ensure_ascii=False, default=str)
                events.append(ToolStarted(tool.tool_call_id, tool.tool_name, arguments))
            # Behind a failed call, both are sent.
            case "ToolCallCompleted" | "ToolCallError":
                tool = event.tool
                if tool.tool_call_id not in self._done:
                    self._done.add(tool.tool_call_id)
                    failed = bool(tool.tool_call_error)
                    events.append(ToolFinished(tool.tool_call_id, failed, str(tool.result or "")))
            case "RunError":
                raise RunError(event.content)
        return events

    def ending(self, output: Any) -> list[AgentEvent]:
        """The last events. Raises AgentFailed where the run waits for anything but a decision or
        the client."""
        waiting = [r.tool_execution for r in output.requirements or () if not r.is_resolved()]
        theirs = {tool.name for tool in self._run.tools}
        handed, asked = [], []
        for tool in waiting:
            if tool.external_execution_required and tool.tool_name in theirs:
                handed.append(tool.tool_call_id)
            elif tool.requires_confirmation:
                asked.append(tool.tool_call_id)
            else:
                raise AgentFailed(
                    f"The agent `{self._run.agent_id}` waits for an input of its user to the tool "
                    f"{tool.tool_name}, which the Gateway cannot pass on."
                )
        messages = self._new(output.messages or ())
        made = {p.id: p for m in messages for p in m.parts if isinstance(p, ToolCall)}
        if asked and not handed:
            # The usage so far is part of that of the continued run.
            return [ApprovalsAsked(tuple(made[i] for i in asked), json.dumps(output.to_dict()))]
        events, stop = list[AgentEvent](), StopReason.STOP
        if handed:
            calls = tuple(made[call_id] for call_id in handed)
            messages = handing_out(calls, messages, [made[call_id] for call_id in asked])
            events.append(ClientCalls(calls))
            stop = StopReason.TOOL_CALLS
        elif output.content is not None and not isinstance(output.content, str):
            messages = ending_with(text_of(output.content), messages)
        if not messages or messages[-1].role is not Role.ASSISTANT:
            raise AgentFailed(f"The agent `{self._run.agent_id}` ended without an answer.")
        usage = counted(_usage(output.metrics), self._run, messages)
        model = "/".join(filter(None, (output.model_provider, output.model)))
        return [*events, Answered(tuple(messages), stop, usage, model)]

    def _new(self, messages: Sequence[Any]) -> list[Message]:
        """The messages behind those that the run was begun with."""
        given = {_given_id(self._run, number) for number in range(len(self._run.messages))}
        places = [number for number, message in enumerate(messages) if message.id in given]
        new = messages[places[-1] + 1 :] if places else messages
        return [_from(m) for m in new if m.role in ("assistant", "tool") and not m.from_history]


def _usage(metrics: Any) -> Usage:
    if metrics is None:
        return Usage(0, 0)
    return Usage(
        metrics.input_tokens,
        metrics.output_tokens,
        reasoning=metrics.reasoning_tokens or 0,
        cached=metrics.cache_read_tokens or 0,
        cache_writes=metrics.cache_write_tokens or 0,
    )

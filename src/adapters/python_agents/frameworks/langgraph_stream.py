"""The events of a run of LangGraph, from the parts of its stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ....domain.errors import AgentFailed
from ....domain.messages import Role, ToolCall
from ....domain.models import ReasoningDelta, StopReason, TextDelta, Usage
from ....domain.runs import (
    RUNNER_EVENTS,
    Answered,
    ClientCalls,
    ToolFinished,
    ToolProgress,
    ToolStarted,
)
from ..recognition import type_names
from ..runs import AgentEvent, AgentRun
from .answers import counted, ending_with, handing_out, text_of
from .langchain_messages import (
    arguments_of,
    calls_of,
    from_message,
    json_of,
    messages_in,
    text_of_message,
)
from .langchain_usage import meter_class

TOOL_NODE = "langgraph.prebuilt.tool_node.ToolNode"
_STOPS = {
    "length": StopReason.LENGTH,
    "max_tokens": StopReason.LENGTH,
    "MAX_TOKENS": StopReason.LENGTH,
    "content_filter": StopReason.CONTENT_FILTER,
    "refusal": StopReason.CONTENT_FILTER,
    "SAFETY": StopReason.CONTENT_FILTER,
}

Path = tuple[str, ...]
"""The names of a node and of the subgraphs that it is in."""


def is_function(graph: Any) -> bool:
    """Whether it is an `@entrypoint`."""
    return "__end__" in graph.channels


class Reader:
    """The events of one run, from the parts of its stream."""

    def __init__(self, graph: Any, run: AgentRun, speaking: set[Path]) -> None:
        self._run = run
        self._speaking = speaking
        self._returns_value = is_function(graph)
        self._tool_nodes = {
            name for name, node in graph.nodes.items() if TOOL_NODE in type_names(node.bound)
        } | {"tools"}
        self._held: dict[str, tuple[Path, list[AgentEvent]]] = {}
        """What nodes that may not speak to the user have streamed, by the ids of the messages."""
        self._new: dict[str, Any] = {}
        """The messages that nodes have added, by their ids."""
        self._pending: dict[str, ToolCall] = {}
        """The calls of tools that have not begun."""
        self._open: dict[str, ToolCall] = {}
        denied = {} if run.resumption is None else run.resumption.decisions
        self._done = {call_id for call_id, allowed in denied.items() if not allowed}
        """The calls whose results are known."""
        self._state: Any = None
        self._whole: set[str] = set()
        """The ids of the messages that were streamed."""
        self.interrupts: dict[str, Any] = {}
        self.meter = meter_class()()

    def resume(self, state: Any) -> None:
        """Go on from a state in which calls of tools have no results yet."""
        messages = self._newest(messages_in(state))
        known = self._done | {m.tool_call_id for m in messages if m.type == "tool"}
        for message in messages:
            for call in calls_of(message) if message.type == "ai" else ():
                if call.id not in known:
                    self._pending[call.id] = call

    def take(self, kind: str, ns: Sequence[str], data: Any) -> list[AgentEvent]:
        """The events of a part of the stream."""
        within = tuple(segment.partition(":")[0] for segment in ns)
        if within and within[0] in self._tool_nodes:
            return []  # An agent that a tool has called.
        match kind:
            case "messages":
                message, meta = data
                return self._streamed((*within, meta.get("langgraph_node", "")), message)
            case "tasks":
                return self._task(data) if "triggers" in data else []
            case "updates":
                return self._updates(data, is_root=not within)
            case "values" if not within:
                self._state = data
            case "custom":
                return self._custom(data)
        return []

    def _streamed(self, path: Path, message: Any) -> list[AgentEvent]:
        if message.type not in ("ai", "AIMessageChunk") or path[-1] in self._tool_nodes:
            return []
        events: list[AgentEvent] = []
        for block in message.content_blocks:
            match block:
                case {"type": "text", "text": str() as text} if text:
                    events.append(TextDelta(text))
                case {"type": "reasoning", "reasoning": str() as text} if text:
                    events.append(ReasoningDelta(text))
        if path in self._speaking:
            return events
        self._held.setdefault(message.id or "", (path, []))[1].extend(events)
        return []

    def _task(self, task: Mapping[str, Any]) -> list[AgentEvent]:
        """A node begins: where it is one of tools, the calls that it runs."""
        if task["name"] not in self._tool_nodes:
            return []
        match task["input"]:
            case {"tool_call": {"id": str() as call_id}}:
                begun = [call_id]
            case [{"id": str()}, *_] as calls if all(isinstance(call, dict) for call in calls):
                begun = [call["id"] for call in calls]
            case _:
                begun = list(self._pending)
        return [event for call_id in begun for event in self._start(call_id)]

    def _start(self, call_id: str) -> list[AgentEvent]:
        call = self._pending.pop(call_id, None)
        if call is None:
            return []
        self._open[call_id] = call
        return [ToolStarted(call.id, call.name, call.arguments)]

    def _updates(self, data: Mapping[str, Any], *, is_root: bool) -> list[AgentEvent]:
        events: list[AgentEvent] = []
        for node, updates in data.items():
            if node == "__interrupt__":
                self.interrupts.update((interrupt.id, interrupt.value) for interrupt in updates)
                continue
            for update in updates if isinstance(updates, list) else [updates]:
                if not (is_root and self._returns_value):
                    events += self._added(messages_in(update), update, is_root=is_root)
        return events

    def _added(self, messages: Iterable[Any], update: Any, *, is_root: bool) -> list[AgentEvent]:
        """The events of messages that a node has added."""
        messages = [m for m in messages if not self._is_given(m) and m.type in ("ai", "tool")]
        # The calls by which models give structured output are no calls of tools.
        answers = {m.tool_call_id for m in messages if m.type == "tool"}
        is_output = isinstance(update, Mapping) and update.get("structured_response") is not None
        events: list[AgentEvent] = []
        for message in messages:
            if is_root:
                self._new[message.id or str(id(message))] = message
            if message.type == "ai":
                if is_root:
                    events += self._released(message)
                for call in calls_of(message):
                    known = call.id in self._done or call.id in self._open
                    if not (known or (is_output and call.id in answers)):
                        self._pending[call.id] = call
            else:
                events += self._finished(message)
        return events

    def _released(self, message: Any) -> list[AgentEvent]:
        """What was held back of a message that turns out to be one to the user."""
        found = message.id if message.id in self._held else None
        if found is None:
            said = text_of_message(message)
            texts = ((key, _text_of(events)) for key, (_, events) in self._held.items())
            found = next((key for key, text in texts if text and text == said), None)
        if found is None:
            return []
        path, events = self._held.pop(found)
        self._speaking.add(path)
        return events

    def _finished(self, message: Any) -> list[AgentEvent]:
        call_id = message.tool_call_id
        if call_id in self._done or not (call_id in self._open or call_id in self._pending):
            return []
        events = self._start(call_id)
        del self._open[call_id]
        self._done.add(call_id)
        return [*events, ToolFinished(call_id, message.status == "error", text_of_message(message))]

    def _custom(self, data: Any) -> list[AgentEvent]:
        """What a node has written to its stream: events of ours, and the progress of a tool."""
        if isinstance(data, (*RUNNER_EVENTS, Usage)):
            return [data]
        if isinstance(data, str) and len(self._open) == 1:
            return [ToolProgress(next(iter(self._open)), data)]
        return []

    def _is_given(self, message: Any) -> bool:
        return str(message.id).startswith((f"{self._run.run_id}:", "opensoul:"))

    def asked(self) -> tuple[tuple[ToolCall, ...], dict[str, Any]]:
        """The calls that a person decides about, and of each interrupt its kind and its calls."""
        calls: list[ToolCall] = []
        answers: dict[str, Any] = {}
        for interrupt_id, value in self.interrupts.items():
            match value:
                case {"action_requests": [*requests]}:
                    kind, asked = "actions", [self._requested(r, interrupt_id) for r in requests]
                case {"type": "tool_approval", "tool_call_id": call_id, "name": name, "args": args}:
                    kind, asked = "tool", [ToolCall(call_id, name, json_of(args))]
                case _:
                    kind, asked = "other", [ToolCall(interrupt_id, "interrupt", json_of(value))]
            calls += asked
            answers[interrupt_id] = [kind, [call.id for call in asked]]
        return tuple(calls), answers

    def _requested(self, request: Mapping[str, Any], interrupt_id: str) -> ToolCall:
        """The call that is to be reviewed, which LangChain names without its id."""
        for call in self._pending.values():
            if call.name == request["name"] and arguments_of(call.arguments) == request["args"]:
                del self._pending[call.id]
                return call
        call_id = f"{interrupt_id}:{len(self._pending)}"
        return ToolCall(call_id, request["name"], json_of(request["args"]))

    def ending(self) -> list[AgentEvent]:
        """The last events. Raises AgentFailed where there is no answer."""
        events: list[AgentEvent] = []
        state, output = self._state, None
        if isinstance(state, Mapping):
            output = state.get("structured_response")
        if self._returns_value:
            if isinstance(state, str):
                output, state = state, None
            events += self._added(messages_in(state), state, is_root=True)
        found = self._newest(messages_in(state)) or list(self._new.values())
        said = [m for m in found if not (m.type == "ai" and _is_output(m, found, output))]
        hidden = {call.id for m in found if m not in said for call in calls_of(m)}
        said = [m for m in said if m.type == "ai" or m.tool_call_id not in hidden]
        messages = [from_message(message) for message in said]
        if output is not None:
            messages = ending_with(text_of(output), messages)
        theirs = {tool.name for tool in self._run.tools}
        known = {message.tool_call_id for message in messages if message.role is Role.TOOL}
        made = (p for m in messages for p in m.parts if isinstance(p, ToolCall))
        calls = tuple(call for call in made if call.name in theirs and call.id not in known)
        stop = _STOPS.get(self.meter.finish_reason, StopReason.STOP)
        if calls:
            messages = handing_out(calls, messages, ())
            events.append(ClientCalls(calls))
            stop = StopReason.TOOL_CALLS
        elif not messages or messages[-1].role is not Role.ASSISTANT:
            raise AgentFailed(
                f"The graph of the agent `{self._run.agent_id}` ended without a message of its "
                "model in `messages`."
            )
        usage = counted(self.meter.usage, self._run, messages)
        model = self.meter.model or f"python/{self._run.agent_id}"
        return [*events, Answered(tuple(messages), stop, usage, model)]

    def _newest(self, messages: list[Any]) -> list[Any]:
        """The messages of the state that came with this run."""
        given = [number for number, m in enumerate(messages) if self._is_given(m)]
        # Those that the run began with may be gone, replaced by a summary for instance.
        new = messages[given[-1] + 1 :] if given else [m for m in messages if m.id in self._new]
        return [m for m in new if m.type in ("ai", "tool")]


def _is_output(message: Any, all_messages: Sequence[Any], output: object) -> bool:
    """Whether the message is the call by which a model has given structured output."""
    if output is None or isinstance(output, str) or not message.tool_calls:
        return False
    own = {call["id"] for call in message.tool_calls}
    results = [m for m in all_messages if m.type == "tool" and m.tool_call_id in own]
    return bool(results) and results == list(all_messages[-len(results) :])


def _text_of(events: Iterable[AgentEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))

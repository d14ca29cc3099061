"""LangGraph: compiled graphs, those of LangChain's `create_agent` included, and `@entrypoint`.

LangGraph is imported by the code of the agent; here only in functions that an agent of it has
called for.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from ....domain.errors import AgentFailed
from ....domain.messages import Message, Role, Text, ToolCall
from ....domain.models import ReasoningDelta, StopReason, TextDelta, Usage
from ....domain.runs import (
    RUNNER_EVENTS,
    Answered,
    ClientCalls,
    ToolFinished,
    ToolProgress,
    ToolStarted,
)
from ....domain.sessions import estimate, estimate_all
from ..errors import TargetInvalid
from ..recognition import type_names
from ..runs import AgentEvent, AgentEvents, AgentRun, ApprovalsAsked, Resumption
from .answers import counted, ending_with, handing_out, text_of
from .langchain_messages import (
    arguments_of,
    calls_of,
    from_message,
    json_of,
    messages_in,
    text_of_message,
    to_messages,
)

_GRAPH = "langgraph.pregel.main.Pregel"
_BUILDER = "langgraph.graph.state.StateGraph"
_TOOL_NODE = "langgraph.prebuilt.tool_node.ToolNode"

_MOST_STEPS = 150
"""Supersteps of a run; a model call and the tool calls that it leads to are two or more."""
_UNLIMITED = 9_999
"""The limit that `create_agent` gives its graphs, and LangGraph those that have none."""
_PARAMS = (
    *("temperature", "top_p", "max_tokens", "seed", "stop", "reasoning_effort"),
    *("presence_penalty", "frequency_penalty"),
)
"""The model parameters that models with `configurable_fields` take from the run."""
_STOPS = {
    "length": StopReason.LENGTH,
    "max_tokens": StopReason.LENGTH,
    "MAX_TOKENS": StopReason.LENGTH,
    "content_filter": StopReason.CONTENT_FILTER,
    "refusal": StopReason.CONTENT_FILTER,
    "SAFETY": StopReason.CONTENT_FILTER,
}

_Path = tuple[str, ...]
"""The names of a node and of the subgraphs that it is in."""


class LangGraph:
    """Streams graphs whose state has `messages`.

    The Gateway has the history by default: each run then is a thread of its own, whose checkpoints
    are in memory, and in the journal of the run where it waits for approvals.
    """

    types = frozenset({_GRAPH, _BUILDER})

    def __init__(self) -> None:
        self._speaking: WeakKeyDictionary[Any, set[_Path]] = WeakKeyDictionary()
        """Of each graph, the nodes that were seen to add the answers of their models to
        `messages`."""

    def describe(self, target: object) -> str:
        graph: Any = target
        if _GRAPH not in type_names(graph):
            raise TargetInvalid(
                "The target is a StateGraph that is not compiled. Name the result of its "
                ".compile()."
            )
        if not (_is_function(graph) or "messages" in graph.channels):
            has = ", ".join(name for name in graph.channels if ":" not in name and name[0] != "_")
            raise TargetInvalid(
                f"The state of the graph has no `messages` (it has: {has}). Derive it from "
                "langgraph.graph.MessagesState, or write a function that calls the graph."
            )
        if graph.interrupt_before_nodes or graph.interrupt_after_nodes:
            raise TargetInvalid(
                "The graph is compiled with interrupt_before or interrupt_after, which are for "
                "debugging. Call langgraph.types.interrupt() where a person has to decide."
            )
        if _is_function(graph):
            return f"the entrypoint {graph.name}"
        nodes = ", ".join(name for name in graph.nodes if name != "__start__")
        return f"a graph with the nodes {nodes}"

    async def run(self, target: object, run: AgentRun) -> AsyncGenerator[AgentEvents]:
        graph: Any = target
        speaking = self._speaking.setdefault(graph, _known_to_speak(graph))
        reader = _Reader(graph, run, speaking)
        graph, thread, saver = _with_memory(graph, run)
        if run.resumption is not None and saver is not None:
            await _restore(saver, thread, run.resumption)
        config = {
            "callbacks": [reader.meter],
            "configurable": {"thread_id": thread, "opensoul": run, **_params(run)},
            "recursion_limit": _limit(graph),
        }
        if run.resumption is not None and graph.checkpointer:
            reader.resume((await graph.aget_state(config)).values)
        parts = graph.astream(
            _input(graph, run),
            config,
            context=_context(graph.context_schema, run),
            stream_mode=["messages", "updates", "values", "tasks", "custom"],
            subgraphs=True,
            version="v2",
            durability=None if saver is None else "exit",
        )
        async with aclosing(parts):
            async for part in parts:
                if events := reader.take(part["type"], part["ns"], part["data"]):
                    yield events
        if reader.interrupts:
            if graph.checkpointer is None or graph.checkpointer is False:
                raise AgentFailed(
                    f"The agent `{run.agent_id}` asked for an approval, and its graph has no "
                    "checkpointer to go on from."
                )
            calls, answers = reader.asked()
            stored = None if saver is None else await _dump(saver, thread)
            state = json.dumps({"answers": answers, "checkpoints": stored})
            yield [reader.meter.usage, ApprovalsAsked(calls, state)]
        else:
            yield reader.ending()


def _is_function(graph: Any) -> bool:
    """Whether it is an `@entrypoint`."""
    return "__end__" in graph.channels


def _known_to_speak(graph: Any) -> set[_Path]:
    """The nodes whose models answer the user, as far as the graph shows it: the only node beside
    that of the tools, and the node `model` of `create_agent`."""
    others = [
        name
        for name, node in graph.nodes.items()
        if name != "__start__" and _TOOL_NODE not in type_names(node.bound)
    ]
    made_by = (getattr(graph, "config", None) or {}).get("metadata", {}).get("ls_integration")
    if made_by == "langchain_create_agent":
        return {("model",)}
    return {(others[0],)} if len(others) == 1 and not _is_function(graph) else set()


def _limit(graph: Any) -> int:
    own = (graph.config or {}).get("recursion_limit", _UNLIMITED)
    return _MOST_STEPS if own >= _UNLIMITED else int(own)


def _with_memory(graph: Any, run: AgentRun) -> tuple[Any, str, Any]:
    """The graph with the checkpointer for the run, its thread, and the checkpointer where it is
    ours. Raises AgentFailed."""
    own = graph.checkpointer
    if run.framework_memory:
        if own is None or isinstance(own, bool):
            raise AgentFailed(
                f"The graph of the agent `{run.agent_id}` has no checkpointer, which the setting "
                '`runner.memory: "framework"` needs: compile(checkpointer=...).'
            )
        return graph, run.session_key, None
    if own is False:
        return graph, run.run_id, None
    from langgraph.checkpoint.memory import InMemorySaver

    saver = InMemorySaver(serde=getattr(own, "serde", None))
    return graph.copy({"checkpointer": saver}), run.run_id, saver


async def _dump(saver: Any, thread: str) -> list[str]:
    """The checkpoints of a thread as text."""
    found = [
        (t.config["configurable"], t.parent_config, t.checkpoint, t.metadata, t.pending_writes)
        async for t in saver.alist({"configurable": {"thread_id": thread}})
    ]
    kind, data = saver.serde.dumps_typed(found)
    return [kind, base64.b64encode(data).decode()]


async def _restore(saver: Any, thread: str, resumption: Resumption) -> None:
    kind, data = json.loads(resumption.state)["checkpoints"]
    for stored in saver.serde.loads_typed((kind, base64.b64decode(data))):
        here, parent, checkpoint, metadata, writes = stored
        before = {} if parent is None else dict(parent["configurable"])
        config = {"thread_id": thread, "checkpoint_ns": here["checkpoint_ns"]}
        versions = checkpoint["channel_versions"]
        await saver.aput({"configurable": {**before, **config}}, checkpoint, metadata, versions)
        by_task: dict[str, list[tuple[str, Any]]] = {}
        for task, channel, value in writes or ():
            by_task.setdefault(task, []).append((channel, value))
        at = {"configurable": {**config, "checkpoint_id": checkpoint["id"]}}
        for task, values in by_task.items():
            await saver.aput_writes(at, values, task)


def _params(run: AgentRun) -> dict[str, object]:
    params = {"max_tokens": run.params.get("max_completion_tokens"), **run.params}
    return {name: params[name] for name in _PARAMS if params.get(name) is not None}


def _context(schema: Any, run: AgentRun) -> object:
    """The run for a graph that wants it, or those of its fields that the schema names."""
    if schema is None:
        return None
    if isinstance(schema, type) and issubclass(AgentRun, schema):
        return run
    names = [name for base in schema.__mro__ for name in getattr(base, "__annotations__", ())]
    return {name: getattr(run, name) for name in names if hasattr(run, name)}


def _input(graph: Any, run: AgentRun) -> object:
    if run.resumption is not None:
        from langgraph.types import Command

        return Command(resume=_answers(run.resumption))
    messages = to_messages(run)
    if not _is_function(graph):
        return {"messages": messages}
    # Annotations may be text.
    wanted = str(getattr(graph.channels["__start__"], "typ", ""))
    if wanted in ("str", "<class 'str'>"):
        return run.text
    named = wanted.removeprefix("typing.").removeprefix("collections.abc.").removeprefix("<class '")
    return messages if named.startswith(("list", "List", "Sequence")) else {"messages": messages}


class _Reader:
    """The events of one run, from the parts of its stream."""

    def __init__(self, graph: Any, run: AgentRun, speaking: set[_Path]) -> None:
        self._run = run
        self._speaking = speaking
        self._returns_value = _is_function(graph)
        self._tool_nodes = {
            name for name, node in graph.nodes.items() if _TOOL_NODE in type_names(node.bound)
        } | {"tools"}
        self._held: dict[str, tuple[_Path, list[AgentEvent]]] = {}
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
        self.meter = _meter_class()()

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

    def _streamed(self, path: _Path, message: Any) -> list[AgentEvent]:
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


def _answers(resumption: Resumption) -> dict[str, Any]:
    """What each interrupt goes on with."""
    answers: dict[str, Any] = {}
    for interrupt_id, (kind, calls) in json.loads(resumption.state)["answers"].items():
        decisions = [_decision(call, resumption) for call in calls]
        match kind:
            case "actions":
                answers[interrupt_id] = {"decisions": decisions}
            case "tool":
                answers[interrupt_id] = decisions[0]
            case _:
                answers[interrupt_id] = all(resumption.decisions.get(call) for call in calls)
    return answers


def _decision(call_id: str, resumption: Resumption) -> dict[str, str]:
    if resumption.decisions.get(call_id):
        return {"type": "approve"}
    return {"type": "reject", "message": resumption.reasons.get(call_id, "denied")}


@cache
def _meter_class() -> Any:
    from langchain_core.callbacks import BaseCallbackHandler

    class Meter(BaseCallbackHandler):  # type: ignore[misc]
        """Adds up the usage of all models that a graph calls, also in its tools."""

        run_inline = True

        def __init__(self) -> None:
            self.usage = Usage(0, 0)
            self.model = ""
            self.finish_reason = ""
            self._inputs: dict[object, list[Any]] = {}

        def on_chat_model_start(
            self, serialized: Any, messages: Any, *, run_id: object, **more: Any
        ) -> None:
            self._inputs[run_id] = messages[0]

        def on_llm_end(self, response: Any, *, run_id: object, **more: Any) -> None:
            given = self._inputs.pop(run_id, [])
            message = getattr(response.generations[0][0], "message", None)
            if message is None:
                return
            about = message.response_metadata
            provider, model = about.get("model_provider"), about.get("model_name")
            self.model = "/".join(filter(None, (provider, model))) or self.model
            self.finish_reason = str(about.get("finish_reason") or about.get("stop_reason") or "")
            self.usage += _usage(message, given)

        def on_llm_error(self, error: BaseException, *, run_id: object, **more: Any) -> None:
            self._inputs.pop(run_id, None)

    return Meter


def _usage(message: Any, given: Sequence[Any]) -> Usage:
    reported = message.usage_metadata
    if not reported:
        texts = [Message(Role.USER, (Text(str(one.text)),)) for one in given]
        return Usage(estimate_all(texts), estimate(from_message(message)), estimated=True)
    return Usage(
        reported["input_tokens"],
        reported["output_tokens"],
        reasoning=reported.get("output_token_details", {}).get("reasoning") or 0,
        cached=reported.get("input_token_details", {}).get("cache_read") or 0,
        cache_writes=reported.get("input_token_details", {}).get("cache_creation") or 0,
    )

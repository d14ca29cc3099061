"""LangGraph: compiled graphs, those of LangChain's `create_agent` included, and `@entrypoint`.

LangGraph is imported by the code of the agent; here only in functions that an agent of it has
called for.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from weakref import WeakKeyDictionary

from ....domain.errors import AgentFailed
from ..errors import TargetInvalid
from ..recognition import type_names
from ..runs import AgentEvents, AgentRun, ApprovalsAsked, Resumption
from .langchain_messages import to_messages
from .langgraph_stream import TOOL_NODE, Path, Reader, is_function

_GRAPH = "langgraph.pregel.main.Pregel"
_BUILDER = "langgraph.graph.state.StateGraph"
_MOST_STEPS = 150
"""Supersteps of a run; a model call and the tool calls that it leads to are two or more."""
_UNLIMITED = 9_999
"""The limit that `create_agent` gives its graphs, and LangGraph those that have none."""
_PARAMS = (
    *("temperature", "top_p", "max_tokens", "seed", "stop", "reasoning_effort"),
    *("presence_penalty", "frequency_penalty"),
)
"""The model parameters that models with `configurable_fields` take from the run."""


class LangGraph:
    """Streams graphs whose state has `messages`.

    The Gateway has the history by default: each run then is a thread of its own, whose checkpoints
    are in memory, and in the journal of the run where it waits for approvals.
    """

    types = frozenset({_GRAPH, _BUILDER})

    def __init__(self) -> None:
        self._speaking: WeakKeyDictionary[Any, set[Path]] = WeakKeyDictionary()
        """Of each graph, the nodes that were seen to add the answers of their models to
        `messages`."""

    def describe(self, target: object) -> str:
        graph: Any = target
        if _GRAPH not in type_names(graph):
            raise TargetInvalid(
                "The target is a StateGraph that is not compiled. Name the result of its "
                ".compile()."
            )
        if not (is_function(graph) or "messages" in graph.channels):
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
        if is_function(graph):
            return f"the entrypoint {graph.name}"
        nodes = ", ".join(name for name in graph.nodes if name != "__start__")
        return f"a graph with the nodes {nodes}"

    async def run(self, target: object, run: AgentRun) -> AsyncGenerator[AgentEvents]:
        graph: Any = target
        speaking = self._speaking.setdefault(graph, _known_to_speak(graph))
        reader = Reader(graph, run, speaking)
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


def _known_to_speak(graph: Any) -> set[Path]:
    """The nodes whose models answer the user, as far as the graph shows it: the only node beside
    that of the tools, and the node `model` of `create_agent`."""
    others = [
        name
        for name, node in graph.nodes.items()
        if name != "__start__" and TOOL_NODE not in type_names(node.bound)
    ]
    made_by = (getattr(graph, "config", None) or {}).get("metadata", {}).get("ls_integration")
    if made_by == "langchain_create_agent":
        return {("model",)}
    return {(others[0],)} if len(others) == 1 and not is_function(graph) else set()


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
    if not is_function(graph):
        return {"messages": messages}
    # Annotations may be text.
    wanted = str(getattr(graph.channels["__start__"], "typ", ""))
    if wanted in ("str", "<class 'str'>"):
        return run.text
    named = wanted.removeprefix("typing.").removeprefix("collections.abc.").removeprefix("<class '")
    return messages if named.startswith(("list", "List", "Sequence")) else {"messages": messages}


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

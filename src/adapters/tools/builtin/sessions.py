"""The tools for sessions and sub-agents, as a Toolbox."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from ....domain.errors import GatewayError
from ....domain.messages import Message, Role, ToolCall
from ....domain.ports import Clock, ToolContext
from ....domain.services import (
    AgentSessions,
    Begun,
    Outcome,
    OutcomeStatus,
    SessionState,
    SubagentTask,
)
from ....domain.sessions import MAIN, KeptMessage, SessionKey
from ....domain.tools import Effect, Repeat, ToolOutput, ToolResult, ToolSpec
from .tool import Outputs, Parameters, Tool, ToolFailed

_MOST_ROWS = 200
_MOST_MESSAGES = 200
_MOST_IN_ROW = 20
_TEXT = 4_000
"""Characters of a message in a history."""
_RESULT = 500
"""The same of a tool's result."""
_PREVIEW = 300
"""The same of a message in a row of a list."""
_WHOLE = 60_000
"""Characters of all messages of a history."""
_MOST_SECONDS = 3_600
_READS = frozenset({Effect.READ})
_WRITES = frozenset({Effect.READ, Effect.WRITE})

Seconds = Annotated[float, Field(ge=0, le=_MOST_SECONDS)]
Kind = Literal["main", "group", "cron", "hook", "node", "subagent", "other"]


class ListParameters(Parameters):
    kinds: list[Kind] | None = Field(None, description="Only sessions of these kinds.")
    limit: Annotated[int, Field(ge=1, le=_MOST_ROWS)] = Field(50, description="The most sessions.")
    active_minutes: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Only sessions that were used in the last minutes."
    )
    message_limit: Annotated[int, Field(ge=0, le=_MOST_IN_ROW)] = Field(
        0, description="How many of the newest messages to show of each session."
    )


class HistoryParameters(Parameters):
    session_key: Annotated[str, Field(min_length=1)] = Field(
        description="A key from sessions_list, or `main`."
    )
    limit: Annotated[int, Field(ge=1, le=_MOST_MESSAGES)] = Field(
        20, description="How many of the newest messages."
    )
    include_tools: bool = Field(False, description="With tool calls and shortened results.")


class SendParameters(Parameters):
    session_key: str | None = Field(None, description="The session; or use label.")
    label: str | None = Field(None, description="The label of the session.")
    message: Annotated[str, Field(min_length=1)]
    timeout_seconds: Seconds = Field(
        30, description="How long to wait for the answer; 0: not at all."
    )


class SpawnParameters(Parameters):
    task: Annotated[str, Field(min_length=1)] = Field(
        description="What to do, with everything that has to be known for it."
    )
    label: str = Field("", max_length=64, description="A name for the session of the sub-agent.")
    agent_id: str = Field("", description="Another agent, where that is allowed.")
    model: str = Field("", description="A model, as provider/model or alias.")
    thinking: str = Field("", description="off, minimal, low, medium, high or xhigh.")
    run_timeout_seconds: Annotated[float, Field(ge=0)] = Field(
        0, description="How long the sub-agent may take; 0: as long as its agent may."
    )
    timeout_seconds: Seconds | None = Field(
        None,
        description="How long to wait for the answer. Left out: until it is there. 0: not at all.",
    )
    cleanup: Literal["keep", "delete"] = Field(
        "keep", description="delete: archive the session once the answer is there."
    )


class StatusParameters(Parameters):
    session_key: str | None = Field(None, description="Left out: the session of this run.")
    model: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="Select a model for the session; `default`: that of the agent."
    )


class SessionTools:
    """`sessions_list`, `sessions_history`, `sessions_send`, `sessions_spawn`, `session_status`."""

    def __init__(self, sessions: AgentSessions, *, clock: Clock) -> None:
        self._sessions = sessions
        self._clock = clock
        self._specs: tuple[ToolSpec, ...] = ()

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        if not self._specs:
            tools = self._of(context, "").values()
            # Answers of other runs may be waited for at the same time.
            self._specs = tuple(
                replace(tool.spec(), parallel=tool.repeat is Repeat.KEYED) for tool in tools
            )
        return self._specs

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        tool = self._of(context, key).get(call.name)
        if tool is None:
            yield ToolResult(f"There is no tool {call.name!r}.", is_error=True)
            return
        try:
            async with aclosing(tool.call(call.arguments, context.agent)) as outputs:
                async for output in outputs:
                    yield output
        except ToolFailed as error:
            yield ToolResult(str(error), is_error=True)
        except GatewayError as error:
            yield ToolResult(error.message, is_error=True)

    async def close(self) -> None:
        """There is nothing to release: what a call has begun belongs to the Gateway."""

    def _of(self, context: ToolContext, key: str) -> dict[str, Tool[Any]]:
        caller = _Caller(self._sessions, self._clock, context, key)
        tools: list[Tool[Any]] = [
            Tool(
                "sessions_list",
                "Lists the sessions that this agent may see, the newest first.",
                ListParameters,
                caller.list,
                _READS,
                Repeat.SAFE,
                in_workspace=False,
            ),
            Tool(
                "sessions_history",
                "Reads the newest messages of a session.",
                HistoryParameters,
                caller.history,
                _READS,
                Repeat.SAFE,
                in_workspace=False,
            ),
            Tool(
                "sessions_send",
                "Sends a message to another session and waits for the answer of its agent.",
                SendParameters,
                caller.send,
                _WRITES,
                Repeat.KEYED,
                in_workspace=False,
            ),
            Tool(
                "sessions_spawn",
                "Starts a sub-agent for a task of its own and gives its answer. Several calls in "
                "one step run at the same time. A sub-agent does not see this conversation, and "
                "ends at the latest when this run ends.",
                SpawnParameters,
                caller.spawn,
                _WRITES,
                Repeat.KEYED,
                in_workspace=False,
            ),
            Tool(
                "session_status",
                "Shows the state, model and tokens of a session, and the time. Can select its "
                "model.",
                StatusParameters,
                caller.status,
                _WRITES,
                in_workspace=False,
            ),
        ]
        return {tool.name: tool for tool in tools}


@dataclass(frozen=True, slots=True)
class _Caller:
    """The functions of the tools, for one call."""

    sessions: AgentSessions
    clock: Clock
    context: ToolContext
    key: str

    async def list(self, arguments: ListParameters, _: object) -> Outputs:
        minutes = arguments.active_minutes
        since = None if minutes is None else self.clock() - minutes * 60.0
        found = await self.sessions.list(self.context, updated_after=since)
        kinds = arguments.kinds
        chosen = [one for one in found if kinds is None or _kind(one.key) in kinds]
        rows = []
        for one in chosen[: arguments.limit]:
            row = _row(one)
            if arguments.message_limit and one.info is not None:
                kept = await self.sessions.newest(self.context, one.info, arguments.message_limit)
                row["messages"] = [_message(message, _PREVIEW) for message in _spoken(kept)]
            rows.append(row)
        yield _result({"count": len(chosen), "sessions": rows})

    async def history(self, arguments: HistoryParameters, _: object) -> Outputs:
        found = await self.sessions.history(self.context, arguments.session_key, arguments.limit)
        kept = found if arguments.include_tools else _spoken(found)
        messages: list[dict[str, object]] = []
        left, left_out = _WHOLE, 0
        for one in reversed(kept):
            shown = _message(one, _TEXT, with_tools=arguments.include_tools)
            left -= len(json.dumps(shown, ensure_ascii=False))
            if left < 0:
                left_out = len(kept) - len(messages)
                break
            messages.insert(0, shown)
        body: dict[str, object] = {"sessionKey": arguments.session_key, "messages": messages}
        if left_out:
            body["leftOut"] = left_out
        yield _result(body)

    async def send(self, arguments: SendParameters, _: object) -> Outputs:
        progress = self.sessions.send(
            self.context,
            arguments.message,
            call_key=self.key,
            key=arguments.session_key,
            label=arguments.label,
            seconds=arguments.timeout_seconds,
        )
        async with aclosing(progress) as steps:
            async for output in _reported(steps, "sessionKey"):
                yield output

    async def spawn(self, arguments: SpawnParameters, _: object) -> Outputs:
        task = SubagentTask(
            arguments.task,
            label=arguments.label.strip(),
            agent_id=arguments.agent_id,
            model=arguments.model,
            thinking=arguments.thinking,
            timeout=arguments.run_timeout_seconds or None,
            seconds=arguments.timeout_seconds,
            archive=arguments.cleanup == "delete",
        )
        progress = self.sessions.spawn(self.context, task, call_key=self.key)
        async with aclosing(progress) as steps:
            async for output in _reported(steps, "childSessionKey"):
                yield output

    async def status(self, arguments: StatusParameters, _: object) -> Outputs:
        state = await self.sessions.status(
            self.context, arguments.session_key, model=arguments.model
        )
        now = datetime.fromtimestamp(self.clock(), UTC).isoformat(timespec="seconds")
        yield _result({**_row(state), "time": now})


async def _reported(steps: AsyncGenerator[Begun | Outcome], name: str) -> Outputs:
    """The begun run as progress, and what has come of it as the result."""
    body: dict[str, object] = {}
    failed = False
    async for step in steps:
        if isinstance(step, Begun):
            body = {name: str(step.key), "runId": step.run_id, "status": "accepted"}
            yield ToolOutput(json.dumps(body))
            continue
        body["status"] = step.status.value
        failed = step.status is OutcomeStatus.ERROR
        if step.text or step.status is OutcomeStatus.OK:
            body["error" if failed else "reply"] = step.text
    yield ToolResult(json.dumps(body, ensure_ascii=False), is_error=failed)


def _result(body: dict[str, object]) -> ToolResult:
    return ToolResult(json.dumps(body, ensure_ascii=False))


def _row(state: SessionState) -> dict[str, object]:
    info = state.info
    row: dict[str, object] = {
        "sessionKey": str(state.key),
        "kind": _kind(state.key),
        "agentId": state.key.agent_id,
        "status": "running" if state.active else "done",
        "activeRunIds": list(state.active),
    }
    if info is None:
        return row
    chosen = ("label", "spawnedBy", "thinkingLevel")
    return {
        **row,
        **{name: info.settings[name] for name in chosen if name in info.settings},
        "sessionId": info.session_id,
        "updatedAt": int(info.updated_at * 1_000),
        "messageCount": info.message_count,
        "inputTokens": info.input_tokens,
        "outputTokens": info.output_tokens,
        "model": info.settings.get("model", info.model),
    }


def _kind(key: SessionKey) -> Kind:
    first, _, rest = key.rest.lower().partition(":")
    if key.rest == MAIN:
        return "main"
    if key.is_subagent:
        return "subagent"
    if first == "cron":
        return "cron"
    if first == "hook":
        return "hook"
    if first.startswith("node"):
        return "node"
    return "group" if {"group", "channel"} & set(rest.split(":")[:-1]) else "other"


def _spoken(kept: Sequence[KeptMessage]) -> list[KeptMessage]:
    """The messages with text, without the results of tools."""
    return [one for one in kept if one.message.role is not Role.TOOL and one.message.text.strip()]


def _message(kept: KeptMessage, most: int, *, with_tools: bool = False) -> dict[str, object]:
    """A message with at most so many characters; reasoning and pictures are left out."""
    message = kept.message
    shown: dict[str, object] = {
        "role": message.role.value,
        "text": _cut(message.text, _RESULT if message.role is Role.TOOL else most),
        "at": int(kept.at * 1_000),
    }
    if message.role is Role.TOOL and message.name:
        shown["tool"] = message.name
    if with_tools and (calls := _calls(message)):
        shown["calls"] = calls
    return shown


def _calls(message: Message) -> list[dict[str, str]]:
    calls = (part for part in message.parts if isinstance(part, ToolCall))
    return [{"tool": call.name, "arguments": _cut(call.arguments, _RESULT)} for call in calls]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}\u2026"

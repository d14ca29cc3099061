"""Microsoft Agent Framework: agents.

The framework is imported by the code of the agent; here only in functions that an agent of it has
called for.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

from ....domain.errors import AgentFailed
from ....domain.messages import Image, Message, Part, Reasoning, Role, Text, ToolCall
from ....domain.models import ReasoningDelta, StopReason, TextDelta, Usage
from ....domain.runs import Answered, ClientCalls, ToolFinished, ToolStarted
from ....domain.tools import ToolSpec
from ..runs import AgentEvent, AgentEvents, AgentRun, ApprovalsAsked, Resumption
from ..threads import taken
from .answers import counted, handing_out

_REQUEST = "function_approval_request"
_PARAMS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "seed": "seed",
    "stop": "stop",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "response_format": "response_format",
}
"""The model parameters by the names that the framework has for them."""
_STOPS = {"length": StopReason.LENGTH, "content_filter": StopReason.CONTENT_FILTER}


class AgentFramework:
    """Runs agents with a session of each run, which has the calls that wait for approvals."""

    types = frozenset({"agent_framework._agents.BaseAgent"})

    def describe(self, target: object) -> str:
        agent: Any = target
        return f"the agent {agent.name}" if agent.name else "an agent"

    async def run(self, target: object, run: AgentRun) -> AsyncGenerator[AgentEvents]:
        from agent_framework import AgentSession, function_middleware

        agent: Any = target
        if run.framework_memory:
            raise AgentFailed(
                f'The agent `{run.agent_id}` has `runner.memory: "framework"`, which agents of '
                "Agent Framework cannot have: their sessions are objects of the caller."
            )
        if run.resumption is None:
            session, messages = AgentSession(), [_to_message(m) for m in run.messages]
        else:
            session = AgentSession.from_dict(json.loads(run.resumption.state)["session"])
            messages = [_decided(run.resumption)]
        reader = _Reader(agent, run)

        async def storing(context: Any, call_next: Callable[[], Awaitable[None]]) -> None:
            # Calls that were approved are not in the stream, and those of models that report no
            # usage too late.
            if started := reader.start(context.metadata.get("call_id", "")):
                await taken(*started)
            await call_next()

        stream = agent.run(
            messages,
            stream=True,
            session=session,
            middleware=[function_middleware(storing)],
            tools=[_client_tool(tool) for tool in run.tools] or None,
            options=_options(run),
            function_invocation_kwargs={"opensoul": run},
        )
        try:
            async for update in stream:
                if found := reader.take(update):
                    yield found
        finally:
            await stream.close()
        yield reader.ending(await stream.get_final_response(), session)


def _options(run: AgentRun) -> dict[str, object] | None:
    options = {
        theirs: run.params[ours]
        for ours, theirs in _PARAMS.items()
        if run.params.get(ours) is not None
    }
    if run.instructions:
        options["instructions"] = run.instructions
    if run.tool_choice:
        named = {} if run.tool_choice == "required" else {"required_function_name": run.tool_choice}
        options["tool_choice"] = {"mode": "required", **named}
    return options or None


def _client_tool(tool: ToolSpec) -> Any:
    """A tool without a function: its call ends the run."""
    from agent_framework import FunctionTool

    return FunctionTool(
        name=tool.name,
        description=tool.description,
        func=None,
        input_model=dict(tool.parameters) or {"type": "object", "properties": {}},
    )


def _decided(resumption: Resumption) -> Any:
    from agent_framework import Content
    from agent_framework import Message as Theirs

    contents = []
    for stored in json.loads(resumption.state)["requests"]:
        request = Content.from_dict(stored)
        allowed = bool(resumption.decisions.get(request.function_call.call_id))
        contents.append(request.to_function_approval_response(allowed))
    return Theirs("user", contents)


def _to_message(message: Message) -> Any:
    from agent_framework import Content
    from agent_framework import Message as Theirs

    if message.role is Role.TOOL:
        result = Content(
            "function_result",
            call_id=message.tool_call_id,
            result=message.text,
            exception=message.text if message.is_error else None,
        )
        return Theirs("tool", [result])
    contents = []
    for part in message.parts:
        match part:
            case Text(text=text):
                contents.append(Content("text", text=text))
            case Image(data=data, mime=mime):
                uri = f"data:{mime};base64,{data}"
                contents.append(Content("data", uri=uri, media_type=mime))
            case ToolCall(id=call_id, name=name, arguments=arguments):
                contents.append(
                    Content("function_call", call_id=call_id, name=name, arguments=arguments)
                )
    return Theirs(message.role.value, contents)


def _from_messages(messages: Iterable[Any]) -> list[Message]:
    found: list[Message] = []
    for message in messages:
        parts = list(_parts(message.contents))
        if parts:
            found.append(Message(Role.ASSISTANT, tuple(parts)))
        for content in message.contents:
            if content.type == "function_result":
                failed = content.exception is not None
                said = (Text(_result(content)),)
                call_id = content.call_id
                found.append(Message(Role.TOOL, said, tool_call_id=call_id, is_error=failed))
    return found


def _parts(contents: Sequence[Any]) -> Iterator[Part]:
    for content in contents:
        match content.type:
            case "text" if content.text:
                yield Text(content.text)
            case "text_reasoning" if content.text:
                yield Reasoning(content.text)
            case "function_call":
                yield _call(content)


def _call(content: Any) -> ToolCall:
    arguments = content.arguments
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments or {}, ensure_ascii=False, default=str)
    return ToolCall(content.call_id, content.name, arguments)


def _result(content: Any) -> str:
    if isinstance(content.result, str) and content.result:
        return content.result
    if content.exception is not None:
        return str(content.exception)
    return json.dumps(content.result, ensure_ascii=False, default=str)


class _Reader:
    def __init__(self, agent: Any, run: AgentRun) -> None:
        self._run = run
        tools = (getattr(agent, "default_options", None) or {}).get("tools") or ()
        self._asking = {
            tool.name for tool in tools if getattr(tool, "approval_mode", "") == "always_require"
        }
        self._client = {tool.name for tool in run.tools}
        self._made: dict[str, ToolCall] = {}
        """The calls of the model that were not begun, as far as they were streamed."""
        self._open: set[str] = set()
        denied = {} if run.resumption is None else run.resumption.decisions
        self._done = {call_id for call_id, allowed in denied.items() if not allowed}
        self._earlier: list[Message] = []
        if run.resumption is not None:
            self._resume(json.loads(run.resumption.state))

    def _resume(self, state: dict[str, Any]) -> None:
        from agent_framework import Content
        from agent_framework import Message as Theirs

        self._earlier = _from_messages(map(Theirs.from_dict, state["messages"]))
        for stored in state["requests"]:
            call = _call(Content.from_dict(stored).function_call)
            self._made[call.id] = call

    def take(self, update: Any) -> list[AgentEvent]:
        events: list[AgentEvent] = []
        last = ""
        for content in update.contents:
            match content.type:
                case "text" if content.text:
                    events.append(TextDelta(content.text))
                case "text_reasoning" if content.text:
                    events.append(ReasoningDelta(content.text))
                case "function_call" if not content.user_input_request:
                    last = self._add(content, last)
                case "usage":  # The model has answered: calls that need no approval begin.
                    events += self._begun()
                case "function_result":
                    events += self._finished(content)
        return events

    def _add(self, content: Any, last: str) -> str:
        """Add a piece of a call; later pieces have no id. Returns the id."""
        call_id = content.call_id or last or next(reversed(self._made), "")
        piece = content.arguments
        if not isinstance(piece, str):
            piece = json.dumps(piece, ensure_ascii=False, default=str) if piece else ""
        known = self._made.get(call_id)
        if known is None:
            self._made[call_id] = ToolCall(call_id, content.name or "", piece)
        else:
            name = known.name or content.name or ""
            self._made[call_id] = ToolCall(call_id, name, known.arguments + piece)
        return str(call_id)

    def _begun(self) -> list[AgentEvent]:
        events: list[AgentEvent] = []
        held = self._asking | self._client
        for call in [call for call in self._made.values() if call.name not in held]:
            events += self.start(call.id)
        return events

    def start(self, call_id: str) -> list[AgentEvent]:
        """The events of a call that begins, unless it has begun already."""
        call = self._made.pop(call_id, None)
        if call is None:
            return []
        self._open.add(call_id)
        return [ToolStarted(call.id, call.name, call.arguments)]

    def _finished(self, content: Any) -> list[AgentEvent]:
        call_id = content.call_id
        if call_id in self._done:
            return []
        events = self.start(call_id)
        self._done.add(call_id)
        return [*events, ToolFinished(call_id, content.exception is not None, _result(content))]

    def ending(self, response: Any, session: Any) -> list[AgentEvent]:
        """The last events. Raises AgentFailed where there is no answer."""
        new = _from_messages(response.messages)
        messages = [*self._earlier, *new]
        contents = [c for message in response.messages for c in message.contents]
        requests = [content for content in contents if content.type == _REQUEST]
        asked = [_call(request.function_call) for request in requests]
        known = {message.tool_call_id for message in messages if message.role is Role.TOOL}
        made = (p for m in messages for p in m.parts if isinstance(p, ToolCall))
        handed = tuple(c for c in made if c.name in self._client and c.id not in known)
        usage = _usage(response.usage_details)
        if asked and not handed:
            state = {
                "session": session.to_dict(),
                "requests": [request.to_dict() for request in requests],
                "messages": [message.to_dict() for message in response.messages],
            }
            return [usage, ApprovalsAsked(tuple(asked), json.dumps(state))]
        events = list[AgentEvent]()
        stop = _STOPS.get(str(response.finish_reason), StopReason.STOP)
        if handed:
            messages = handing_out(handed, messages, asked)
            events.append(ClientCalls(handed))
            stop = StopReason.TOOL_CALLS
        elif not messages or messages[-1].role is not Role.ASSISTANT:
            raise AgentFailed(f"The agent `{self._run.agent_id}` ended without an answer.")
        usage = counted(usage, self._run, messages)
        model = getattr(response, "model", None) or f"python/{self._run.agent_id}"
        return [*events, Answered(tuple(messages), stop, usage, str(model))]


def _usage(details: Any) -> Usage:
    details = details or {}
    return Usage(
        details.get("input_token_count") or 0,
        details.get("output_token_count") or 0,
        reasoning=details.get("reasoning_output_token_count") or 0,
        cached=details.get("cache_read_input_token_count") or 0,
        cache_writes=details.get("cache_creation_input_token_count") or 0,
    )

"""Google's Agent Development Kit: agents, workflows, apps and runners.

The kit is imported by the code of the agent; here only in functions that an agent of it has called
for.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import cache
from typing import Any

from ....domain.errors import AgentFailed
from ....domain.messages import Message, Role, ToolCall
from ....domain.models import ReasoningDelta, StopReason, TextDelta, Usage
from ....domain.runs import Answered, ClientCalls, ToolFinished, ToolStarted, answer_format
from ....domain.tools import ToolSpec
from ..recognition import type_names
from ..runs import AgentEvent, AgentEvents, AgentRun, ApprovalsAsked, Resumption
from ..threads import taken
from .answers import counted, ending_with, handing_out, text_of
from .google_contents import (
    CONFIRMATION,
    call_of,
    content_of,
    decided,
    json_of,
    messages_of,
    names_of,
    result_of,
    turns_of,
)

_APP = "google.adk.apps.app.App"
_RUNNER = "google.adk.runners.Runner"
_INTERNAL = "adk_"
"""The names of the calls that the kit makes for its own purposes begin so."""
_NAME = "opensoul"
_MOST_CALLS = 100
"""Model calls of a run."""
_PARAMS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
_STOPS = {"MAX_TOKENS": StopReason.LENGTH, "SAFETY": StopReason.CONTENT_FILTER}


class GoogleAdk:
    """Runs agents in sessions of their own, which begin with the Gateway's history. A `Runner` is a
    target as well: its services are used, and with `runner.memory: "framework"` its sessions."""

    types = frozenset(
        {
            *(_APP, _RUNNER, "google.adk.agents.base_agent.BaseAgent"),
            "google.adk.workflow._base_node.BaseNode",
        }
    )

    def describe(self, target: object) -> str:
        app = _app(target, ())
        return f"{type(app.root_agent).__name__} {app.root_agent.name}"

    async def run(self, target: object, run: AgentRun) -> AsyncGenerator[AgentEvents]:
        from google.adk.agents.run_config import RunConfig, StreamingMode
        from google.adk.runners import Runner

        plugin = _plugin_class()(run)
        app = _app(target, [plugin])
        given = type_names(target)
        services = {}
        if _RUNNER in given:
            runner: Any = target
            for name in ("artifact_service", "memory_service", "credential_service"):
                services[name] = getattr(runner, name)
        sessions, asked = await _session(target, app, run)
        reader = _Reader(run, plugin)
        if run.resumption is not None and asked is not None:
            reader.resume(asked, run.resumption)
            message = decided(run.resumption)
        else:
            message = content_of(turns_of(run.messages)[-1], names_of(run.messages))
        events = Runner(app=app, session_service=sessions, **services).run_async(
            user_id=run.principal.id,
            session_id=run.session_key,
            new_message=message,
            state_delta=_state(run),
            run_config=RunConfig(streaming_mode=StreamingMode.SSE, max_llm_calls=_MOST_CALLS),
        )
        async with aclosing(events):
            async for event in events:
                if found := reader.take(event):
                    yield found
                if reader.is_handing_out:
                    break
        if reader.confirmations and not reader.is_handing_out:
            session = await sessions.get_session(
                app_name=app.name, user_id=run.principal.id, session_id=run.session_key
            )
            yield [plugin.usage, reader.asked(session, is_ours=not run.framework_memory)]
        else:
            yield reader.ending()


def _app(target: Any, plugins: Sequence[Any]) -> Any:
    """The target as an app with our plugins added."""
    from google.adk.apps.app import App

    names = type_names(target)
    if _RUNNER in names:
        target, names = target.app, frozenset({_APP})
    if _APP in names:
        return target.model_copy(update={"plugins": [*target.plugins, *plugins]})
    # Without validation, as the kit's own Runner does: workflows are allowed.
    return App.model_construct(name=_NAME, root_agent=target, plugins=list(plugins))


async def _session(target: Any, app: Any, run: AgentRun) -> tuple[Any, dict[str, Any] | None]:
    """The sessions with that of the run, and the state of a run that goes on.

    Raises AgentFailed."""
    from google.adk.events.event import Event
    from google.adk.sessions import InMemorySessionService

    asked = None if run.resumption is None else json.loads(run.resumption.state)
    key = {"app_name": app.name, "user_id": run.principal.id, "session_id": run.session_key}
    if run.framework_memory:
        if _RUNNER not in type_names(target):
            raise AgentFailed(
                f'The agent `{run.agent_id}` has `runner.memory: "framework"`, for which its '
                "target has to be a google.adk.runners.Runner with a session service."
            )
        sessions = target.session_service
        if await sessions.get_session(**key) is None:
            await sessions.create_session(**key)
        return sessions, asked
    sessions = InMemorySessionService()
    state = {} if asked is None else asked["state"]
    session = await sessions.create_session(**key, state=state)
    if asked is None:
        *before, _ = turns_of(run.messages)
        names = names_of(run.messages)
        events = [
            Event(
                author="user" if turn[0].role in (Role.USER, Role.SYSTEM) else app.root_agent.name,
                invocation_id=run.run_id,
                content=content_of(turn, names),
            )
            for turn in before
        ]
    else:
        events = [Event.model_validate(event) for event in asked["events"]]
    for event in events:
        await sessions.append_event(session, event)
    return sessions, asked


def _state(run: AgentRun) -> dict[str, object]:
    """What tools find in the state of the session."""
    return {
        "opensoul_session_key": run.session_key,
        "opensoul_agent_id": run.agent_id,
        "opensoul_run_id": run.run_id,
        "opensoul_principal": run.principal.id,
        "opensoul_metadata": dict(run.metadata),
    }


class _Reader:
    def __init__(self, run: AgentRun, plugin: Any) -> None:
        self._run = run
        self._plugin = plugin
        self._streamed: set[str] = set()
        """The authors whose answer was streamed."""
        self._started: set[str] = set()
        self._done: set[str] = set()
        self._messages: list[Message] = []
        self._output: object = None
        self._problem = ""
        self._stop = StopReason.STOP
        self._handed: tuple[ToolCall, ...] = ()
        """The calls of the client's tools."""
        self._awaited: set[str] = set()
        """The calls that were made beside them."""
        self.confirmations: dict[str, tuple[str, ToolCall]] = {}
        """By the ids of calls, those of the questions about them."""

    @property
    def is_handing_out(self) -> bool:
        """The run ends with calls of the client's tools."""
        return bool(self._handed) and not self._awaited

    def resume(self, asked: Mapping[str, Any], resumption: Resumption) -> None:
        """Go on behind the events of an earlier attempt."""
        for call_id, allowed in resumption.decisions.items():
            if not allowed:
                self._done.add(call_id)
        for call in asked["calls"]:
            self._plugin.waiting[call[0]] = ToolCall(*call)
        from google.genai import types

        contents = [types.Content.model_validate(content) for content in asked["new"]]
        self._messages = [message for content in contents for message in messages_of(content)]

    def take(self, event: Any) -> list[AgentEvent]:
        content = event.content
        parts = [] if content is None else content.parts or []
        if event.partial:
            events = list(_deltas(parts))
            if events:
                self._streamed.add(event.author)
            return events
        events = []
        if event.error_code and event.error_code not in _STOPS:
            self._problem = f"{event.error_code}: {event.error_message or ''}"
        if event.finish_reason is not None:
            self._stop = _STOPS.get(event.finish_reason.name, StopReason.STOP)
        if event.output is not None:
            self._output = event.output
        if event.author == "user" or not parts:
            return events
        if event.author not in self._streamed:
            events += _deltas(parts)
        self._streamed.discard(event.author)
        made = [call for call in event.get_function_calls() if not _is_internal(call)]
        theirs = tuple(call_of(call) for call in made if call.name in self._plugin.client_names)
        if theirs:
            self._handed = theirs
            self._awaited = {call.id for call in made} - {call.id for call in theirs}
        for call in event.get_function_calls():
            events += self._called(call, event)
        awaited = set(event.actions.requested_tool_confirmations)
        for response in event.get_function_responses():
            self._awaited.discard(response.id)
            if response.id not in awaited and not _is_internal(response):
                events += self._responded(response)
        kept = [part for part in parts if not self._is_hidden(part, awaited)]
        self._messages += messages_of(content.model_copy(update={"parts": kept}))
        return events

    def _is_hidden(self, part: Any, awaited: set[str]) -> bool:
        """Whether the part is of the kit's own calls, or stands for a result to come."""
        of = part.function_call or part.function_response
        return of is not None and (
            _is_internal(of) or (part.function_response is not None and of.id in awaited)
        )

    def _called(self, call: Any, event: Any) -> list[AgentEvent]:
        if call.name == CONFIRMATION:
            about = call.args["originalFunctionCall"]
            asked = ToolCall(about["id"], about["name"], json_of(about.get("args") or {}))
            self.confirmations[asked.id] = (call.id, asked)
            return []
        if _is_internal(call):
            raise AgentFailed(
                f"The agent `{self._run.agent_id}` asks its user for {call.name}, which the "
                "Gateway cannot pass on."
            )
        found = call_of(call)
        if call.name in self._plugin.client_names:
            return []
        if self._plugin.may_ask(event.author, call.name):
            self._plugin.waiting[call.id] = found
            return []
        self._started.add(call.id)
        return [ToolStarted(found.id, found.name, found.arguments)]

    def _responded(self, response: Any) -> list[AgentEvent]:
        if response.id in self._done:
            return []
        self._done.add(response.id)
        events: list[AgentEvent] = []
        call = self._plugin.waiting.pop(response.id, None)
        if call is not None:
            events.append(ToolStarted(call.id, call.name, call.arguments))
        text, failed = result_of(response.response)
        return [*events, ToolFinished(response.id, failed, text)]

    def asked(self, session: Any, *, is_ours: bool) -> ApprovalsAsked:
        """The approvals that the run waits for, with its session where that is not stored."""
        events = [event for event in session.events if not event.partial]
        calls = tuple(call for _, call in self.confirmations.values())
        state = {
            "confirmations": {call_id: asked for call_id, (asked, _) in self.confirmations.items()},
            "calls": [[call.id, call.name, call.arguments] for call in calls],
            "new": [
                content_of([message], names_of(self._messages)).model_dump(mode="json")
                for message in self._messages
            ],
            "events": [e.model_dump(mode="json", exclude_none=True) for e in events]
            if is_ours
            else [],
            "state": session.state if is_ours else {},
        }
        return ApprovalsAsked(calls, json.dumps(state))

    def ending(self) -> list[AgentEvent]:
        """The last events. Raises AgentFailed where there is no answer."""
        messages = list(self._messages)
        if not messages and self._output is not None:
            messages = ending_with(text_of(self._output), messages)
        if not messages:
            why = self._problem or "no agent has said anything"
            raise AgentFailed(f"The agent `{self._run.agent_id}` ended without an answer: {why}.")
        events, stop = list[AgentEvent](), self._stop
        if self._handed:
            waiting = [call for _, call in self.confirmations.values()]
            messages = handing_out(self._handed, messages, waiting)
            events.append(ClientCalls(self._handed))
            stop = StopReason.TOOL_CALLS
        elif messages[-1].role is Role.TOOL:  # Its agent does not summarise it.
            messages.append(Message(Role.ASSISTANT, messages[-1].parts))
        usage = counted(self._plugin.usage, self._run, messages)
        model = self._plugin.model or f"python/{self._run.agent_id}"
        return [*events, Answered(tuple(messages), stop, usage, model)]


def _required(choice: str) -> Any:
    from google.genai import types

    calling = types.FunctionCallingConfig(
        mode=types.FunctionCallingConfigMode.ANY,
        allowed_function_names=None if choice == "required" else [choice],
    )
    return types.ToolConfig(function_calling_config=calling)


def _is_internal(of: Any) -> bool:
    return bool(of.name and of.name.startswith(_INTERNAL))


def _deltas(parts: Sequence[Any]) -> Iterator[AgentEvent]:
    for part in parts:
        if part.text:
            yield ReasoningDelta(part.text) if part.thought else TextDelta(part.text)


@cache
def _plugin_class() -> Any:
    from google.adk.plugins.base_plugin import BasePlugin
    from google.adk.tools.base_tool import BaseTool
    from google.genai import types

    class ClientTool(BaseTool):  # type: ignore[misc]
        """A tool of the client, whose call ends the run."""

        def __init__(self, spec: ToolSpec) -> None:
            super().__init__(name=spec.name, description=spec.description, is_long_running=True)
            self._parameters = dict(spec.parameters)

        def _get_declaration(self) -> Any:
            return types.FunctionDeclaration(
                name=self.name,
                description=self.description,
                parameters_json_schema=self._parameters or {"type": "object", "properties": {}},
            )

        async def run_async(self, *, args: dict[str, Any], tool_context: Any) -> None:
            """The client runs it."""

    class Plugin(BasePlugin):  # type: ignore[misc]
        """Adds to model requests what the run brings, and adds up the usage of all answers."""

        def __init__(self, run: AgentRun) -> None:
            super().__init__(name=_NAME)
            self._run = run
            self._tools: dict[str, Mapping[str, Any]] = {}
            self.client_names: set[str] = set()
            self.waiting: dict[str, ToolCall] = {}
            """The calls that may need a confirmation and have not begun."""
            self.usage = Usage(0, 0)
            self.model = ""

        def may_ask(self, author: str, name: str) -> bool:
            """Whether calls of the tool may need a confirmation."""
            tool = self._tools.get(author, {}).get(name)
            return bool(getattr(tool, "_require_confirmation", False))

        async def before_tool_callback(
            self, *, tool: Any, tool_args: dict[str, Any], tool_context: Any
        ) -> None:
            decided = tool_context.tool_confirmation
            will_ask = getattr(tool, "_require_confirmation", False) is True and decided is None
            if will_ask or (decided is not None and not decided.confirmed):
                return
            call = self.waiting.pop(tool_context.function_call_id, None)
            if call is not None:
                await taken(ToolStarted(call.id, call.name, call.arguments))

        async def before_model_callback(self, *, callback_context: Any, llm_request: Any) -> None:
            # Agents that a tool calls have sessions of their own.
            if callback_context.session.id != self._run.session_key:
                return
            run, config = self._run, llm_request.config
            for name, field in _PARAMS.items():
                if run.params.get(name) is not None:
                    setattr(config, field, run.params[name])
            if (form := answer_format(run.params)) and config.response_schema is None:
                config.response_mime_type = "application/json"
                config.response_schema = None if form.schema is None else dict(form.schema)
            if run.tool_choice and not self.model:  # Of the first call.
                config.tool_config = _required(run.tool_choice)
            stop = run.params.get("stop")
            if stop:
                config.stop_sequences = [stop] if isinstance(stop, str) else stop
            if run.instructions:
                llm_request.append_instructions([run.instructions])
            added = [
                ClientTool(spec) for spec in run.tools if spec.name not in llm_request.tools_dict
            ]
            llm_request.append_tools(added)
            self.client_names |= {tool.name for tool in added}
            self._tools[callback_context.agent_name] = llm_request.tools_dict

        async def after_model_callback(self, *, callback_context: Any, llm_response: Any) -> None:
            if llm_response.partial:
                return
            self.model = llm_response.model_version or self.model
            found = llm_response.usage_metadata
            if found is None:
                return
            prompt = (found.prompt_token_count or 0) + (found.tool_use_prompt_token_count or 0)
            answered = (found.candidates_token_count or 0) + (found.thoughts_token_count or 0)
            total = found.total_token_count
            self.usage += Usage(
                prompt,
                answered if total is None else max(0, total - prompt),
                reasoning=found.thoughts_token_count or 0,
                cached=found.cached_content_token_count or 0,
            )

    return Plugin

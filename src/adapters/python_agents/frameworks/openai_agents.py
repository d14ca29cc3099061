"""Agents of the OpenAI Agents SDK."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Iterable, Mapping, Set
from contextlib import aclosing
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ....domain.errors import AgentFailed, FailureKind, InvalidRequest, ModelFailed
from ....domain.messages import Image, Message, Reasoning, Role, Text, ToolCall
from ....domain.models import ReasoningDelta, StopReason, TextDelta, Usage
from ....domain.runs import (
    Answered,
    AnswerFormat,
    ClientCalls,
    ToolFinished,
    ToolStarted,
    answer_format,
)
from ..errors import TargetInvalid, failure_kind
from ..runs import AgentEvent, AgentRun, ApprovalsAsked, Resumption
from .answers import BegunCalls, counted, described, ending_with, handing_out, text_of

if TYPE_CHECKING:
    from agents import (
        Agent,
        AgentOutputSchemaBase,
        ModelProvider,
        ModelSettings,
        RunContextWrapper,
        RunState,
        Session,
    )
    from agents.run import CallModelData, CallModelInputFilter, ModelInputData
    from openai import AsyncOpenAI

_MOST_TURNS = 50
"""Model calls of one run."""
_SETTINGS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "parallel_tool_calls": "parallel_tool_calls",
    "verbosity": "verbosity",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
}
"""The fields of ModelSettings by the names of OpenAI's parameters."""
_OF_CHAT = ("stop", "seed", "logit_bias", "service_tier")
"""Parameters that only models behind chat completions accept."""
_REASONING = ("response.reasoning_text.delta", "response.reasoning_summary_text.delta")

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncOpenAI] = WeakKeyDictionary()


class OpenAiAgents:
    """Calls `agents.Agent`."""

    types = frozenset({"agents.agent.AgentBase"})

    def describe(self, target: object) -> str:
        agent = _checked(target)
        model = agent.model
        name = model if isinstance(model, str) else getattr(model, "model", None)
        return described(agent.name, name, [tool.name for tool in agent.tools])

    async def run(self, target: object, run: AgentRun) -> AsyncGenerator[list[AgentEvent]]:
        from agents import exceptions as sdk

        agent = _checked(target)
        whose = f"The agent `{run.agent_id}`"
        try:
            async with aclosing(_events(agent, run)) as batches:
                async for batch in batches:
                    yield batch
        except sdk.ModelRefusalError as error:
            yield [TextDelta(error.refusal, refusal=True)]
            said = Message(Role.ASSISTANT, (Text(error.refusal),))
            usage = (
                Usage(0, 0) if error.run_data is None else _usage(error.run_data.context_wrapper)
            )
            yield [Answered((said,), StopReason.STOP, usage, _model_name(agent))]
        except sdk.MaxTurnsExceeded as error:
            raise AgentFailed(f"{whose} has called its model {_MOST_TURNS} times.") from error
        except sdk.ModelBehaviorError as error:
            kind = failure_kind(error) or FailureKind.BAD_RESPONSE
            raise ModelFailed(
                kind, f"The model of the agent `{run.agent_id}` answered what it should not."
            ) from error
        except sdk.ModelTimeoutError as error:
            raise ModelFailed(FailureKind.TIMEOUT, f"The model of {whose} timed out.") from error
        except (sdk.InputGuardrailTripwireTriggered, sdk.OutputGuardrailTripwireTriggered) as error:
            name = error.guardrail_result.guardrail.get_name()
            raise AgentFailed(f"{whose} was stopped by its guardrail `{name}`.") from error


def _checked(target: object) -> Agent[Any]:
    """Raises TargetInvalid."""
    from agents import Agent

    if not isinstance(target, Agent):
        raise TargetInvalid(
            f"A {type(target).__name__} answers no text requests. Make the target an "
            "`agents.Agent`."
        )
    return target


async def _events(agent: Agent[Any], run: AgentRun) -> AsyncGenerator[list[AgentEvent]]:
    from agents import RunConfig, Runner

    asked = run.resumption
    served = _with_request(agent, run)
    spent = Usage(0, 0)
    begun = BegunCalls()
    given: Any = _items(run.question if run.framework_memory else run.messages)
    if asked is not None:
        stored = json.loads(asked.state)
        spent = Usage(*stored["usage"])
        given = await _resumed(served, stored["state"], asked, run)
        yield _approved(given, asked.decisions)
        for call_id, allowed in asked.decisions.items():
            if allowed:
                begun.add(call_id)
    result = Runner.run_streamed(
        served,
        given,
        context=None if asked else run,
        max_turns=_MOST_TURNS,
        session=_session(agent, run),
        hooks=_hooks_class()(begun),
        run_config=RunConfig(
            tracing_disabled=True,
            model_provider=_models(),
            model_settings=_settings(agent, run),
            call_model_input_filter=_prepared(run),
        ),
    )
    client_tools = {tool.name for tool in run.tools}
    stop = StopReason.STOP
    try:
        async for event in result.stream_events():
            stop = _stop(event) or stop
            if events := _translated(event, result.current_agent, client_tools):
                yield events
                for one in events:
                    if isinstance(one, ToolStarted):
                        begun.add(one.call_id)
    finally:
        if not result.is_complete:
            result.cancel()
    if result.run_loop_exception is not None:
        raise result.run_loop_exception
    said = _messages(result.new_items)
    whole = _usage(result.context_wrapper)
    model = _model_name(result.current_agent)
    if result.interruptions:
        calls = [_call(item.raw_item) for item in result.interruptions]
        ours = tuple(call for call in calls if call.name in client_tools)
        asking = tuple(call for call in calls if call.name not in client_tools)
        if ours:
            said = handing_out(ours, said, asking)
            usage = counted(_beyond(whole, spent), run, said)
            end = Answered(tuple(said), StopReason.TOOL_CALLS, usage, model)
            yield [ClientCalls(ours), end]
            return
        state = result.to_state().to_string(context_serializer=lambda _: {})
        numbers = [whole.input, whole.output, whole.reasoning, whole.cached]
        stored_state = json.dumps({"state": state, "usage": numbers})
        yield [_beyond(whole, spent), ApprovalsAsked(asking, stored_state)]
        return
    text = text_of(result.final_output)
    withheld: list[AgentEvent] = [] if _writes_text(result.current_agent) else [TextDelta(text)]
    said = ending_with(text, said)
    usage = counted(_beyond(whole, spent), run, said)
    yield [*withheld, Answered(tuple(said), stop, usage, model)]


@cache
def _hooks_class() -> Any:
    from agents import FunctionTool, RunHooks
    from agents.tool_context import ToolContext

    class Storing(RunHooks[Any]):
        """Has each tool wait until the start of its call is stored."""

        def __init__(self, begun: BegunCalls) -> None:
            self._begun = begun

        async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
            if isinstance(tool, FunctionTool) and isinstance(context, ToolContext):
                await self._begun.wait(context.tool_call_id)

    return Storing


def _stop(event: Any) -> StopReason | None:
    """Why the model of a response stopped. For chat completions, the SDK does not report it."""
    if event.type != "raw_response_event" or event.data.type != "response.incomplete":
        return None
    details = event.data.response.incomplete_details
    filtered = details is not None and details.reason == "content_filter"
    return StopReason.CONTENT_FILTER if filtered else StopReason.LENGTH


def _translated(event: Any, agent: Agent[Any], client_tools: Set[str]) -> list[AgentEvent]:
    """The events of one event of the SDK. The text of a structured output is none: it is the JSON
    that the output is read from."""
    if event.type == "raw_response_event":
        if event.data.type == "response.output_text.delta":
            return [TextDelta(event.data.delta)] if _writes_text(agent) else []
        return [ReasoningDelta(event.data.delta)] if event.data.type in _REASONING else []
    if event.type != "run_item_stream_event":
        return []
    raw = event.item.raw_item
    if event.name == "tool_called" and _field(raw, "type") == "function_call":
        call = _call(raw)
        if call.name not in client_tools and not _asks(event.item.agent, call.name):
            return [ToolStarted(call.id, call.name, call.arguments)]
    elif event.name == "tool_output" and _field(raw, "type") == "function_call_output":
        return [ToolFinished(_field(raw, "call_id"), False, text_of(event.item.output))]
    return []


def _asks(agent: Agent[Any], name: str) -> bool:
    """Whether each call of that tool needs an approval."""
    return any(
        tool.name == name and getattr(tool, "needs_approval", None) is True for tool in agent.tools
    )


def _writes_text(agent: Agent[Any]) -> bool:
    return agent.output_type in (None, str)


async def _resumed(
    agent: Agent[Any], state: str, asked: Resumption, run: AgentRun
) -> RunState[Any]:
    """The state of the run with what was decided."""
    from agents import RunState

    resumed = await RunState.from_string(agent, state, context_deserializer=lambda _: run)
    for item in resumed.get_interruptions():
        call = _call(item.raw_item)
        if asked.decisions.get(call.id):
            resumed.approve(item)
        else:
            resumed.reject(item, rejection_message=asked.reasons.get(call.id, "denied"))
    return resumed


def _approved(state: RunState[Any], decisions: Mapping[str, bool]) -> list[AgentEvent]:
    """The SDK reports no start of calls that were approved."""
    calls = (_call(item.raw_item) for item in state.get_interruptions())
    return [
        ToolStarted(call.id, call.name, call.arguments) for call in calls if decisions.get(call.id)
    ]


def _with_request(agent: Agent[Any], run: AgentRun) -> Agent[Any]:
    """The agent with the client's tools, and with the format that the request wants where its own
    output is text. A call of such a tool needs an approval that is never given."""
    from agents import FunctionTool

    async def never(_: object, __: str) -> str:
        raise AgentFailed("A tool of the client cannot be run here.")

    own = {tool.name for tool in agent.tools}
    if taken := [tool.name for tool in run.tools if tool.name in own]:
        raise InvalidRequest(
            f"The agent has a tool `{taken[0]}` of its own. Rename the one of the request.",
            param="tools",
        )
    changes: dict[str, Any] = {}
    if run.tools:
        changes["tools"] = [
            *agent.tools,
            *(
                FunctionTool(
                    name=tool.name,
                    description=tool.description,
                    params_json_schema=dict(tool.parameters)
                    or {"type": "object", "properties": {}},
                    on_invoke_tool=never,
                    strict_json_schema=tool.strict is True,
                    needs_approval=True,
                )
                for tool in run.tools
            ),
        ]
    wanted = answer_format(run.params)
    if wanted is not None and wanted.schema is not None and _writes_text(agent):
        changes["output_type"] = _output_schema(wanted)
    return agent.clone(**changes) if changes else agent


def _output_schema(wanted: AnswerFormat) -> AgentOutputSchemaBase:
    from agents import AgentOutputSchemaBase

    class Requested(AgentOutputSchemaBase):
        """The Gateway checks the answer: the output is the text as the model wrote it."""

        def is_plain_text(self) -> bool:
            return False

        def name(self) -> str:
            return "answer"

        def json_schema(self) -> dict[str, Any]:
            return dict(wanted.schema or {})

        def is_strict_json_schema(self) -> bool:
            return wanted.strict

        def validate_json(self, json_str: str) -> str:
            return json_str

    return Requested()


def _session(agent: Agent[Any], run: AgentRun) -> Session | None:
    """The session of the framework's own memory. Raises AgentFailed."""
    if not run.framework_memory:
        return None
    make = getattr(agent, "session", None)
    if not callable(make):
        raise AgentFailed(
            f'The agent `{run.agent_id}` is configured with `memory: "framework"`, and the SDK '
            "keeps a history only in a session. Set the attribute `session` of the agent to a "
            "function from a session key to a session, such as "
            "`lambda key: SQLiteSession(key, 'sessions.db')`."
        )
    session: Session = make(run.session_key)
    return session


def _models() -> ModelProvider:
    """The models that agents name. The SDK calls them with one HTTP client for the process, which
    works on one event loop only: here, each loop has its own."""
    from agents import MultiProvider
    from agents.models import _openai_shared
    from openai import AsyncOpenAI

    key = _openai_shared.get_default_openai_key() or os.environ.get("OPENAI_API_KEY")
    if key is None or _openai_shared.get_default_openai_client() is not None:
        return MultiProvider()
    loop = asyncio.get_running_loop()
    client = _clients.get(loop)
    if client is None or client.api_key != key:
        client = _clients[loop] = AsyncOpenAI(api_key=key)
    return MultiProvider(openai_client=client)


def _prepared(run: AgentRun) -> CallModelInputFilter:
    """Adds to the instructions of whichever agent calls its model, and separates calls of one id:
    the SDK sends the last one of them alone."""
    from agents.run import ModelInputData

    def prepare(data: CallModelData[Any]) -> ModelInputData:
        given = data.model_data
        whole = "\n\n".join(text for text in (given.instructions, run.instructions) if text)
        items: Any = given.input if run.framework_memory else _distinct(given.input)
        return ModelInputData(input=items, instructions=whole or None)

    return prepare


def _distinct(items: Iterable[Any]) -> list[Any]:
    """The items, in which each call has an id of its own: some servers number the calls of each
    answer from the beginning. The newest call keeps its id."""
    found: list[Any] = []
    places: dict[str, list[int]] = {}
    for item in items:
        kind = item.get("type")
        if kind in ("function_call", "function_call_output"):
            call_id = item["call_id"]
            used = places.setdefault(call_id, [])
            if kind == "function_call" and any(found[at]["type"] != kind for at in used):
                for at in used:
                    found[at] = {**found[at], "call_id": f"{call_id}_{used[0]}"}
                used.clear()
            used.append(len(found))
        found.append(item)
    return found


def _settings(agent: Agent[Any], run: AgentRun) -> ModelSettings:
    from agents import ModelSettings, OpenAIResponsesModel
    from agents.models.interface import Model
    from openai.types.shared import Reasoning as Effort

    params = run.params
    settings: dict[str, Any] = {
        name: params[given] for given, name in _SETTINGS.items() if params.get(given) is not None
    }
    if params.get("reasoning_effort") is not None:
        settings["reasoning"] = Effort(effort=params["reasoning_effort"])  # type: ignore[arg-type]
    if run.tool_choice and run.resumption is None:
        settings["tool_choice"] = run.tool_choice  # Of the first call: the SDK resets it.
    more = {name: params[name] for name in _OF_CHAT if params.get(name) is not None}
    is_chat = isinstance(agent.model, Model) and not isinstance(agent.model, OpenAIResponsesModel)
    # Behind other addresses than OpenAI's, the SDK asks for no usage of its own accord.
    return ModelSettings(
        include_usage=True, extra_args=more if more and is_chat else None, **settings
    )


def _items(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The messages as input items."""
    from agents.models.fake_id import FAKE_RESPONSES_ID

    items: list[dict[str, Any]] = []
    for message in messages:
        if message.role is Role.TOOL:
            items.append(
                {
                    "type": "function_call_output",
                    "call_id": message.tool_call_id or "",
                    "output": message.text,
                }
            )
        elif message.role is Role.ASSISTANT:
            if message.text:
                # In this form, the SDK makes one message of it and of the calls; it does not send
                # the id to a provider.
                content = [{"type": "output_text", "text": message.text, "annotations": []}]
                said = {"id": FAKE_RESPONSES_ID, "type": "message", "role": "assistant"}
                items.append({**said, "status": "completed", "content": content})
            items += [
                {
                    "type": "function_call",
                    "call_id": part.id,
                    "name": part.name,
                    "arguments": part.arguments,
                }
                for part in message.parts
                if isinstance(part, ToolCall)
            ]
        else:
            items.append({"role": message.role.value, "content": _content(message)})
    return items


def _content(message: Message) -> str | list[dict[str, str]]:
    if not any(isinstance(part, Image) for part in message.parts):
        return message.text
    content: list[dict[str, str]] = []
    for part in message.parts:
        if isinstance(part, Text):
            content.append({"type": "input_text", "text": part.text})
        elif isinstance(part, Image):
            url = f"data:{part.mime};base64,{part.data}"
            detail = part.detail or "auto"
            content.append({"type": "input_image", "image_url": url, "detail": detail})
    return content


def _messages(items: Iterable[Any]) -> list[Message]:
    """The new items as messages. The calls that hand over to another agent are left out: they are
    no tools of the agent that the next request begins with."""
    from agents import ItemHelpers

    found: list[Message] = []
    parts: list[Text | Reasoning | ToolCall] = []
    names: dict[str, str] = {}

    def close() -> None:
        if parts:
            found.append(Message(Role.ASSISTANT, tuple(parts)))
            parts.clear()

    for item in items:
        raw = item.raw_item
        match item.type:
            case "message_output_item":
                parts.append(Text(ItemHelpers.text_message_output(item)))
            case "reasoning_item":
                pieces = [*(raw.content or ()), *(raw.summary or ())]
                if thought := "".join(piece.text for piece in pieces):
                    parts.append(Reasoning(thought))
            case "tool_call_item" if _field(raw, "type") == "function_call":
                call = _call(raw)
                names[call.id] = call.name
                parts.append(call)
            case "tool_call_output_item" if _field(raw, "type") == "function_call_output":
                close()
                call_id = _field(raw, "call_id")
                text = (Text(text_of(item.output)),)
                name = names.get(call_id)
                found.append(Message(Role.TOOL, text, name=name, tool_call_id=call_id))
            case "handoff_output_item":
                close()
    close()
    return found


def _call(raw: Any) -> ToolCall:
    return ToolCall(_field(raw, "call_id"), _field(raw, "name"), _field(raw, "arguments"))


def _field(raw: Any, name: str) -> str:
    """A field of an item, which is an object or a dictionary."""
    value = raw.get(name) if isinstance(raw, Mapping) else getattr(raw, name, None)
    return value if isinstance(value, str) else ""


def _usage(context: RunContextWrapper[Any]) -> Usage:
    """That of all model calls, those before an approval included."""
    usage = context.usage
    return Usage(
        usage.input_tokens,
        usage.output_tokens,
        usage.output_tokens_details.reasoning_tokens or 0,
        usage.input_tokens_details.cached_tokens or 0,
    )


def _beyond(whole: Usage, spent: Usage) -> Usage:
    return Usage(
        whole.input - spent.input,
        whole.output - spent.output,
        whole.reasoning - spent.reasoning,
        whole.cached - spent.cached,
    )


def _model_name(agent: Agent[Any]) -> str:
    model = agent.model
    name = model if isinstance(model, str) else getattr(model, "model", None)
    return f"openai/{name or 'unknown'}"

"""Agents of pydantic-ai."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence, Set
from contextlib import aclosing
from functools import cache
from typing import TYPE_CHECKING, Any

from ....domain.errors import AgentFailed, FailureKind, InvalidRequest, ModelFailed
from ....domain.messages import Image, Message, Reasoning, Role, Text, ToolCall
from ....domain.models import ReasoningDelta, StopReason, TextDelta, Usage
from ....domain.runs import (
    Answered,
    ClientCalls,
    ToolFinished,
    ToolStarted,
    answer_format,
)
from ..errors import TargetInvalid, failure_kind
from ..runs import AgentEvent, AgentRun, ApprovalsAsked
from .answers import BegunCalls, counted, described, ending_with, handing_out, text_of

if TYPE_CHECKING:
    from pydantic_ai import AgentRunResult, DeferredToolRequests, RunContext
    from pydantic_ai.agent import AbstractAgent
    from pydantic_ai.messages import ModelMessage, ModelRequestPart, ModelResponsePart, UserContent
    from pydantic_ai.tools import ToolDefinition

_SETTINGS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "seed": "seed",
    "logit_bias": "logit_bias",
    "parallel_tool_calls": "parallel_tool_calls",
    "service_tier": "service_tier",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
}
"""The names of model parameters here, by OpenAI's."""
_STOPS = {"length": StopReason.LENGTH, "content_filter": StopReason.CONTENT_FILTER}


class PydanticAi:
    """Calls `pydantic_ai.Agent` and what wraps one."""

    types = frozenset({"pydantic_ai.agent.abstract.AbstractAgent"})

    def describe(self, target: object) -> str:
        agent: AbstractAgent[Any, Any] = target  # type: ignore[assignment]
        _check_deps(agent)
        model = agent.model
        name = model if isinstance(model, str) else getattr(model, "model_name", None)
        tools = [one for toolset in agent.toolsets for one in getattr(toolset, "tools", {})]
        return described(agent.name, name, tools)

    async def run(self, target: object, run: AgentRun) -> AsyncGenerator[list[AgentEvent]]:
        from pydantic_ai.exceptions import UnexpectedModelBehavior, UsageLimitExceeded, UserError

        agent: AbstractAgent[Any, Any] = target  # type: ignore[assignment]
        _check_deps(agent)
        if run.framework_memory:
            raise AgentFailed(
                f'The agent `{run.agent_id}` is configured with `memory: "framework"`, and '
                "pydantic-ai has no memory of its own. Leave the setting out."
            )
        try:
            async with aclosing(_events(agent, run)) as batches:
                async for batch in batches:
                    yield batch
        except UsageLimitExceeded as error:
            raise AgentFailed(f"The agent `{run.agent_id}` reached a limit: {error}") from error
        except UserError as error:
            if not run.tools or "conflicts with existing tool" not in str(error):
                raise
            raise InvalidRequest(
                f"The agent has a tool with the name of one of the request: {error}", param="tools"
            ) from error
        except UnexpectedModelBehavior as error:
            kind = failure_kind(error) or FailureKind.BAD_RESPONSE
            raise ModelFailed(
                kind,
                f"The model of the agent `{run.agent_id}` answered what pydantic-ai does not "
                f"accept ({type(error).__name__}).",
            ) from error


def _check_deps(agent: AbstractAgent[Any, Any]) -> None:
    """Raises TargetInvalid where the run cannot be the agent's `deps`."""
    deps = agent.deps_type
    if deps not in (object, type(None), AgentRun):
        raise TargetInvalid(
            f"The agent has `deps_type={getattr(deps, '__name__', deps)}`, and the Gateway passes "
            "the run. Use `deps_type=opensoul.api.AgentRun` and take from `ctx.deps` what the "
            "tools need; or make the target an async function of the run that calls the agent "
            "with its own deps and yields text."
        )


async def _events(agent: Any, run: AgentRun) -> AsyncGenerator[list[AgentEvent]]:
    from pydantic_ai import DeferredToolRequests
    from pydantic_ai.capabilities import PrepareTools, ReinjectSystemPrompt
    from pydantic_ai.messages import ModelMessagesTypeAdapter
    from pydantic_ai.toolsets import ExternalToolset

    history = _model_messages(run.messages)
    earlier: list[ModelMessage] = []
    if run.resumption is not None:
        earlier = ModelMessagesTypeAdapter.validate_json(run.resumption.state)
    decisions = {} if run.resumption is None else run.resumption.decisions
    waiting: set[str] = set()  # The names of tools whose calls wait for others.
    held: dict[str, ToolStarted] = {}
    begun = BegunCalls()

    def note(_: object, tools: list[ToolDefinition]) -> list[ToolDefinition]:
        waiting.update(tool.name for tool in tools if tool.kind in ("external", "unapproved"))
        return tools

    streams = _kinds(agent) == [str] and not _validates(agent)
    outputs: set[str] = set()  # The ids of the calls whose arguments are the answer.
    result: AgentRunResult[Any] | None = None
    async with agent.run_stream_events(
        # The last message of the history is the prompt.
        message_history=[*history, *earlier],
        deferred_tool_results=_decided(run),
        output_type=_output_type(agent, run),
        toolsets=[ExternalToolset(_definitions(run))] if run.tools else None,
        # `system_prompt` counts for an empty history only.
        capabilities=[ReinjectSystemPrompt(), PrepareTools(note), _storing_class()(begun)],
        instructions=run.instructions or None,
        model_settings=_settings(run),
        deps=run,
        conversation_id=run.session_key,
        metadata={"opensoul_run": run.run_id},
        infer_name=False,
    ) as events:
        async for event in events:
            match event.event_kind:
                case "part_start" if event.part.part_kind in ("text", "thinking"):
                    if deltas := _deltas(event.part.part_kind, event.part.content, streams):
                        yield deltas
                case "part_delta" if event.delta.part_delta_kind in ("text", "thinking"):
                    kind = event.delta.part_delta_kind
                    if deltas := _deltas(kind, event.delta.content_delta, streams):
                        yield deltas
                case "function_tool_call":
                    call = _call(event.part)
                    started = ToolStarted(call.id, call.name, call.arguments)
                    if call.name in waiting and call.id not in decisions:
                        held[call.id] = started
                    elif decisions.get(call.id, True):
                        yield [started]
                        begun.add(call.id)
                case "function_tool_result":
                    before = [held.pop(event.tool_call_id)] if event.tool_call_id in held else []
                    failed = event.part.outcome != "success"
                    finished = ToolFinished(event.tool_call_id, failed, _result_text(event.part))
                    yield [*before, finished]
                case "output_tool_call":
                    outputs.add(event.tool_call_id)
                case "agent_run_result":
                    result = event.result
    if result is None:
        raise AgentFailed(f"The agent `{run.agent_id}` ended without a result.")
    new = [*earlier, *result.new_messages()]
    if isinstance(output := result.output, DeferredToolRequests):
        yield _deferred(output, result, new, run)
        return
    text = text_of(output)
    withheld: list[AgentEvent] = [TextDelta(text)] if outputs or not streams else []
    yield [*withheld, _answered(ending_with(text, _messages(new, outputs)), result, run)]


@cache
def _storing_class() -> Any:
    from pydantic_ai.capabilities import AbstractCapability

    class Storing(AbstractCapability[Any]):
        """Has each tool wait until the start of its call is stored."""

        def __init__(self, begun: BegunCalls) -> None:
            self._begun = begun

        async def before_tool_execute(
            self, ctx: Any, *, call: Any, tool_def: Any, args: dict[str, Any]
        ) -> dict[str, Any]:
            # A call that a tool makes of another one is no event, and part of that tool's call.
            if call.tool_call_id in _made(ctx.messages):
                await self._begun.wait(call.tool_call_id)
            return args

    return Storing


def _made(messages: Sequence[ModelMessage]) -> set[str]:
    """The ids of the calls that the model has made last."""
    last = next((one for one in reversed(messages) if one.kind == "response"), None)
    parts = () if last is None else last.parts
    return {part.tool_call_id for part in parts if part.part_kind == "tool-call"}


def _deltas(kind: str, text: str | None, streams: bool) -> list[AgentEvent]:
    """The event of a piece of an answer. Text that the output is yet made from is none."""
    if not text or (kind == "text" and not streams):
        return []
    return [TextDelta(text) if kind == "text" else ReasoningDelta(text)]


def _deferred(
    requests: DeferredToolRequests,
    result: AgentRunResult[Any],
    new: Sequence[ModelMessage],
    run: AgentRun,
) -> list[AgentEvent]:
    """The end of a run that waits for others: for approvals, or for the client's tools."""
    from pydantic_ai.messages import ModelMessagesTypeAdapter

    client_tools = {tool.name for tool in run.tools}
    if strange := [c.tool_name for c in requests.calls if c.tool_name not in client_tools]:
        raise AgentFailed(
            f"The tool `{strange[0]}` of the agent `{run.agent_id}` leaves its call to others. "
            "Only approvals and tools of the client can be waited for."
        )
    asking = tuple(map(_call, requests.approvals))
    if not requests.calls:
        state = ModelMessagesTypeAdapter.dump_json(list(new)).decode()
        return [_usage(result), ApprovalsAsked(asking, state)]
    ours = tuple(map(_call, requests.calls))
    said = handing_out(ours, _messages(new), asking)
    answered = _answered(said, result, run, StopReason.TOOL_CALLS)
    return [ClientCalls(ours), answered]


def _answered(
    said: Sequence[Message],
    result: AgentRunResult[Any],
    run: AgentRun,
    stop: StopReason | None = None,
) -> Answered:
    last = result.response
    stop = stop or _STOPS.get(last.finish_reason or "", StopReason.STOP)
    model = f"{last.provider_name or 'python'}/{last.model_name or 'unknown'}"
    return Answered(tuple(said), stop, counted(_usage(result), run, said), model)


def _usage(result: AgentRunResult[Any]) -> Usage:
    """That of all model calls since the run began, or went on."""
    usage = result.usage
    reasoning = usage.details.get("reasoning_tokens", 0)
    return Usage(
        usage.input_tokens,
        usage.output_tokens,
        reasoning,
        usage.cache_read_tokens,
        cache_writes=usage.cache_write_tokens,
    )


def _decided(run: AgentRun) -> Any:
    from pydantic_ai import DeferredToolResults, ToolApproved, ToolDenied

    if run.resumption is None:
        return None
    reasons = run.resumption.reasons
    return DeferredToolResults(
        approvals={
            call_id: ToolApproved() if allowed else ToolDenied(reasons.get(call_id, "denied"))
            for call_id, allowed in run.resumption.decisions.items()
        }
    )


def _output_type(agent: AbstractAgent[Any, Any], run: AgentRun) -> Any:
    """The output type of the agent, which the format of the request replaces where it is text, and
    the wish for approvals and for calls of the client's tools."""
    from pydantic_ai import DeferredToolRequests

    if _validates(agent):
        return None  # pydantic-ai accepts no other type: the agent names DeferredToolRequests.
    wanted = _kinds(agent)
    if wanted == [str] and (format_type := _format_type(agent, run)) is not None:
        wanted = [format_type]
    return [*wanted, DeferredToolRequests]


def _kinds(agent: AbstractAgent[Any, Any]) -> list[Any]:
    """The types of its output."""
    from pydantic_ai import DeferredToolRequests

    own: Any = agent.output_type
    kinds = own if isinstance(own, list | tuple) else [own]
    return [kind for kind in kinds if kind is not DeferredToolRequests]


def _validates(agent: AbstractAgent[Any, Any]) -> bool:
    return bool(getattr(agent, "_output_validators", None))


def _format_type(agent: AbstractAgent[Any, Any], run: AgentRun) -> Any:
    from pydantic_ai import NativeOutput, StructuredDict
    from pydantic_ai.exceptions import UserError
    from pydantic_ai.models import infer_model

    wanted = answer_format(run.params)
    if wanted is None or wanted.schema is None or wanted.schema.get("type") != "object":
        return None
    try:
        kind = StructuredDict(dict(wanted.schema), name=_format_name(run.params))
    except UserError:  # A recursive schema; the Gateway checks the answer.
        return None
    model = agent.model
    if model is None:
        return kind
    native = infer_model(model).profile.get("supports_json_schema_output", False)
    return NativeOutput(kind) if native else kind


def _format_name(params: Mapping[str, object]) -> str:
    match params.get("response_format"):
        case {"json_schema": {"name": str() as name}}:
            return name
    return "answer"


def _settings(run: AgentRun) -> Any:
    """The settings of each model call."""
    settings = _settings_of(run.params)
    if not run.tool_choice or run.resumption is not None:
        return settings
    choice = run.tool_choice if run.tool_choice == "required" else [run.tool_choice]

    def of_step(context: RunContext[Any]) -> dict[str, object]:
        return {**settings, "tool_choice": choice} if context.run_step <= 1 else settings

    return of_step


def _settings_of(params: Mapping[str, object]) -> dict[str, object]:
    settings = {
        name: params[given] for given, name in _SETTINGS.items() if params.get(given) is not None
    }
    match params.get("stop"):
        case str() as one:
            settings["stop_sequences"] = [one]
        case list() as several:
            settings["stop_sequences"] = several
    if isinstance(effort := params.get("reasoning_effort"), str):
        settings["thinking"] = False if effort == "none" else effort
    return settings


def _definitions(run: AgentRun) -> list[Any]:
    from pydantic_ai.tools import ToolDefinition

    return [
        ToolDefinition(
            name=tool.name,
            description=tool.description,
            parameters_json_schema=dict(tool.parameters) or {"type": "object", "properties": {}},
            strict=tool.strict,
        )
        for tool in run.tools
    ]


def _model_messages(messages: Iterable[Message]) -> list[ModelMessage]:
    """The messages as those of pydantic-ai; successive ones of one side are one."""
    from pydantic_ai import messages as pm

    found: list[ModelMessage] = []
    names: dict[str, str] = {}
    for message in messages:
        if message.role is Role.ASSISTANT:
            said: list[ModelResponsePart] = []
            for part in message.parts:
                if isinstance(part, Text) and part.text:
                    said.append(pm.TextPart(part.text))
                elif isinstance(part, ToolCall):
                    names[part.id] = part.name
                    said.append(pm.ToolCallPart(part.name, part.arguments, tool_call_id=part.id))
            if said:
                found.append(pm.ModelResponse(parts=said))
            continue
        asked = _request_part(message, names)
        if found and isinstance(last := found[-1], pm.ModelRequest):
            last.parts = [*last.parts, asked]
        else:
            found.append(pm.ModelRequest(parts=[asked]))
    return found


def _request_part(message: Message, names: Mapping[str, str]) -> ModelRequestPart:
    from pydantic_ai import messages as pm

    if message.role is Role.TOOL:
        call_id = message.tool_call_id or ""
        name = names.get(call_id) or message.name or ""
        return pm.ToolReturnPart(name, message.text, tool_call_id=call_id)
    if message.role is Role.SYSTEM:
        return pm.SystemPromptPart(message.text)
    content: list[UserContent] = []
    for part in message.parts:
        if isinstance(part, Text):
            content.append(part.text)
        elif isinstance(part, Image):
            content.append(pm.BinaryContent(base64.b64decode(part.data), media_type=part.mime))
    is_text = all(isinstance(item, str) for item in content)
    return pm.UserPromptPart(message.text if is_text else content)


def _messages(new: Iterable[Any], outputs: Set[str] = frozenset()) -> list[Message]:
    """The new messages as ours, without prompts and the calls `outputs`."""
    found: list[Message] = []
    for message in new:
        if message.kind == "response":
            parts: list[Text | Reasoning | ToolCall] = []
            for part in message.parts:
                if part.part_kind == "text" and part.content:
                    parts.append(Text(part.content))
                elif part.part_kind == "thinking" and part.content:
                    parts.append(Reasoning(part.content))
                elif part.part_kind == "tool-call" and part.tool_call_id not in outputs:
                    parts.append(_call(part))
            if parts:
                found.append(Message(Role.ASSISTANT, tuple(parts)))
            continue
        for result in message.parts:
            is_result = result.part_kind == "tool-return" or (
                result.part_kind == "retry-prompt" and result.tool_name
            )
            if is_result and result.tool_call_id not in outputs:
                failed = getattr(result, "outcome", "failed") != "success"
                found.append(
                    Message(
                        Role.TOOL,
                        (Text(_result_text(result)),),
                        name=result.tool_name,
                        tool_call_id=result.tool_call_id,
                        is_error=failed,
                    )
                )
    return found


def _result_text(part: Any) -> str:
    return str(part.model_response_str() if hasattr(part, "model_response_str") else part.content)


def _call(part: Any) -> ToolCall:
    return ToolCall(part.tool_call_id, part.tool_name, part.args_as_json_str())

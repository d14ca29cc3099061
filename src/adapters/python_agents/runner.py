"""The AgentRunner of Python agents."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from ...domain.errors import (
    AgentFailed,
    GatewayError,
    InvalidStructuredOutput,
    RunInterrupted,
)
from ...domain.execution import refusal_of, requested_approval, schema_check, waiting_for, withheld
from ...domain.messages import Message, Role, Text, ToolCall, text_message
from ...domain.models import ReasoningDelta, TextDelta, Usage
from ...domain.ports import ApprovalBook, Clock, RunContext
from ...domain.runs import (
    CONTEXT_EVENTS,
    TERMINAL,
    Answered,
    ClientCalls,
    CompileSchema,
    Journal,
    Resumed,
    RunnerEvent,
    Started,
    Step,
    StepDone,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    Waiting,
    answer_format,
    any_value,
    consumes,
    failed_result,
    result_of,
)
from ...domain.sessions import introduced, repaired
from ...domain.tools import (
    Approval,
    ChoiceMode,
    ClientTools,
    Repeat,
    ToolResult,
    ToolSpec,
    client_call_id,
)
from .agents import PythonAgents
from .errors import failure_of, own_frames
from .portions import pieces
from .runs import AgentEvent, AgentRun, ApprovalsAsked, Resumption

logger = logging.getLogger(__name__)

_HISTORY_TOKENS = 100_000
"""Of a history, where the agent has no model of the Gateway's whose window is known."""
_APPROVAL_SECONDS = 600.0


class PythonRunner:
    """Calls Python agents.

    A tool call is in the journal before clients learn of it. A run whose process died behind one is
    not repeated, since the framework cannot go on from there. `clock` is Unix time.
    """

    def __init__(
        self,
        agents: PythonAgents,
        approvals: ApprovalBook,
        *,
        clock: Clock,
        compile_schema: CompileSchema = any_value,
        approval_seconds: float = _APPROVAL_SECONDS,
    ) -> None:
        self._agents = agents
        self._approvals = approvals
        self._clock = clock
        self._compile_schema = compile_schema
        self._approval_seconds = approval_seconds

    def history_budget(self, context: RunContext) -> int:
        """The window of the agent's model, where it has one."""
        agent = context.agent
        if agent.python is not None and agent.python.framework_memory:
            return 0
        return _HISTORY_TOKENS

    def run(self, context: RunContext) -> AsyncGenerator[Sequence[RunnerEvent]]:
        events = self._run(context)
        if answer_format(context.spec.params) is None:
            return events
        return withheld(events, context.spent)

    async def _run(self, context: RunContext) -> AsyncGenerator[Sequence[RunnerEvent]]:
        turn = _Turn(context)
        resumption = None
        if turn.journal.steps:
            waiting, resumption = await self._decided(turn)
            if waiting is not None:
                yield [waiting]
                return
            if results := turn.denied(resumption):
                yield results
        check = await schema_check(answer_format(context.spec.params), self._compile_schema)
        run = _run_of(context, resumption)
        try:
            async with aclosing(self._agents.stream(context.agent, run)) as batches:
                async for batch in batches:
                    events = await turn.take(batch)
                    if turn.asked is not None:
                        yield [*events, await self._ask(turn, turn.asked)]
                        return
                    if turn.answered is not None:
                        self._check_format(context, turn.answered, check)
                    if events:
                        yield events
                    if turn.answered is not None:
                        return
        except GatewayError:
            raise
        except Exception as error:
            failure = failure_of(error, context.agent.id)
            extra = {"agent": context.agent.id, "run": context.spec.id}
            logger.error("an agent failed", exc_info=own_frames(error), extra=extra)  # noqa: TRY400
        else:
            failure = AgentFailed(f"The agent `{context.agent.id}` ended without an answer.")
        raise failure

    def _check_format(self, context: RunContext, answered: Answered, check: object) -> None:
        """Raises InvalidStructuredOutput."""
        wanted = answer_format(context.spec.params)
        if wanted is None or any(isinstance(p, ToolCall) for p in answered.messages[-1].parts):
            return
        _, problem = wanted.read(answered.messages[-1].text, check)  # type: ignore[arg-type]
        if problem is not None:
            raise InvalidStructuredOutput(
                f"The answer of the agent `{context.agent.id}` does not have the format that "
                f"the request requires: {problem}."
            )

    async def _decided(self, turn: _Turn) -> tuple[Waiting | None, Resumption | None]:
        """What an earlier attempt goes on with. Raises RunInterrupted where it cannot."""
        last = turn.journal.steps[-1]
        if not last.state or last.begun:
            raise RunInterrupted(
                "The run was interrupted behind a tool call of its agent, which may have had an "
                "effect; it is not repeated."
            )
        decisions: dict[str, bool] = {}
        reasons: dict[str, str] = {}
        for call in last.calls:
            if call.id not in last.undecided:
                continue
            approval = await self._approval(turn, call)
            if approval.decision is None:
                return waiting_for(approval), None
            decisions[call.id] = approval.decision.allows
            if not approval.decision.allows:
                reasons[call.id] = refusal_of(approval)
        return None, Resumption(last.state, decisions, reasons)

    async def _ask(self, turn: _Turn, asked: ApprovalsAsked) -> Waiting:
        await turn.commit_asked(asked)
        approvals = [await self._approval(turn, call) for call in asked.calls]
        return waiting_for(next((a for a in approvals if a.decision is None), approvals[0]))

    async def _approval(self, turn: _Turn, call: ToolCall) -> Approval:
        spec = turn.context.spec
        return await requested_approval(
            self._approvals,
            spec,
            call,
            key=f"{spec.id}:{len(turn.journal.steps)}:{call.id}",
            now=self._clock(),
            seconds=self._approval_seconds,
        )


def _run_of(context: RunContext, resumption: Resumption | None) -> AgentRun:
    spec, agent = context.spec, context.agent
    transcript = context.transcript
    history: Sequence[Message] = transcript.messages
    if transcript.summary is not None:
        history = introduced(transcript.summary, history)
    together = repaired((*history, *spec.messages))
    asked = len(spec.messages)
    metadata = spec.params.get("metadata")
    newest = next((m for m in reversed(spec.messages) if m.role is Role.USER), None)
    layers = [agent.instructions, *(message.text for message in spec.instructions)]
    framework_memory = agent.python is not None and agent.python.framework_memory
    return AgentRun(
        text="" if newest is None else newest.text,
        question=together[len(together) - asked :],
        history=together[: len(together) - asked],
        session_key=str(spec.session_key),
        agent_id=spec.agent_id,
        run_id=spec.id,
        principal=spec.principal,
        params=spec.params,
        metadata=metadata if isinstance(metadata, Mapping) else {},
        tools=_client_tools(spec.client_tools),
        tool_choice=_tool_choice(spec.client_tools),
        instructions="\n\n".join(layer for layer in layers if layer.strip()),
        framework_memory=framework_memory,
        resumption=resumption,
    )


def _client_tools(tools: ClientTools | None) -> tuple[ToolSpec, ...]:
    """The tools that the agent may call."""
    if tools is None or tools.choice.mode is ChoiceMode.NONE:
        return ()
    return tools.tools


def _tool_choice(tools: ClientTools | None) -> str:
    if tools is None or tools.choice.mode is not ChoiceMode.REQUIRED:
        return ""
    return tools.choice.name or "required"


@dataclass(slots=True)
class _Turn:
    """What one attempt has come to."""

    context: RunContext
    journal: Journal = field(init=False)
    answered: Answered | None = None
    asked: ApprovalsAsked | None = None
    _text: list[str] = field(default_factory=list)
    """Said since the last step."""
    _said: bool = False
    _usage: Usage | None = None
    _client: list[ToolCall] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.journal = self.context.journal

    @consumes(
        TextDelta,
        ToolStarted,
        ToolFinished,
        ClientCalls,
        ignores=(
            *(Started, Waiting, Resumed, ReasoningDelta, ToolProgress, StepDone),
            *(*CONTEXT_EVENTS, *TERMINAL),
        ),
    )
    async def take(self, batch: Sequence[AgentEvent]) -> list[RunnerEvent]:
        """The events for the run. Tool calls and their results are committed before they are
        returned."""
        events: list[RunnerEvent] = []
        before = self.journal
        for event in batch:
            match event:
                case TextDelta(text=text):
                    self._text.append(text)
                    self._said = True
                    events.append(event)
                case ToolStarted():
                    self._start(event)
                    events.append(event)
                case ToolFinished():
                    if self._finish(event):
                        events.append(event)
                case ClientCalls():
                    self._client.extend(event.calls)
                case Usage():
                    self._usage = event if self._usage is None else self._usage + event
                case ApprovalsAsked():
                    self.asked = event
                case Answered():
                    events += self._end(event)
                case _:
                    events.append(event)
        if self.journal is not before:
            await self.context.commit(self.journal)
        return events

    def _start(self, event: ToolStarted) -> None:
        call = ToolCall(event.call_id, event.name, event.arguments)
        steps = self.journal.steps
        last = steps[-1] if steps else None
        if last is not None and call.id in {one.id for one in last.open_calls}:
            self.journal = self.journal.with_begun(call.id, Repeat.UNSAFE)  # It was approved.
        elif last is not None and last.open_calls and not self._text:
            message = replace(last.message, parts=(*last.message.parts, call))
            begun = {**last.begun, call.id: Repeat.UNSAFE}
            step = replace(last, message=message, begun=begun)
            self.journal = replace(self.journal, steps=(*steps[:-1], step))
        else:
            self._close_step()
            text = "".join(self._text)
            self._text.clear()
            said = (Text(text),) if text.strip() else ()
            message = Message(Role.ASSISTANT, (*said, call))
            step = Step(message, begun={call.id: Repeat.UNSAFE})
            self.journal = self.journal.with_step(step)

    def _finish(self, event: ToolFinished) -> bool:
        """Whether the call is known."""
        steps = self.journal.steps
        for call in steps[-1].open_calls if steps else ():
            if call.id == event.call_id:
                result = result_of(call, ToolResult(event.text, event.is_error))
                self.journal = self.journal.with_results(result)
                return True
        return False

    def _close_step(self) -> None:
        """Only the last step may have open calls: those that a framework has left get results."""
        steps = self.journal.steps
        if steps and (left := steps[-1].open_calls):
            lost = [failed_result(call, "the framework reported no result") for call in left]
            self.journal = self.journal.with_results(*lost)

    def denied(self, resumption: Resumption | None) -> list[RunnerEvent]:
        """The events of the calls that were not approved."""
        if resumption is None:
            return []
        events: list[RunnerEvent] = []
        for call in self.journal.steps[-1].calls:
            if (why := resumption.reasons.get(call.id)) is not None:
                self.journal = self.journal.with_results(failed_result(call, why))
                events += (
                    ToolStarted(call.id, call.name, call.arguments),
                    ToolFinished(call.id, True, why),
                )
        return events

    async def commit_asked(self, asked: ApprovalsAsked) -> None:
        """Store the calls that wait, with the state that the framework goes on from."""
        self._withdraw(asked)
        self._close_step()
        text = "".join(self._text)
        said = (Text(text),) if text.strip() else ()
        ids = frozenset(call.id for call in asked.calls)
        message = Message(Role.ASSISTANT, (*said, *asked.calls))
        step = Step(message, undecided=ids, state=asked.state, usage=self._usage)
        self.journal = self.journal.with_step(step)
        await self.context.commit(self.journal)

    def _withdraw(self, asked: ApprovalsAsked) -> None:
        """Forget that calls were begun which their tools have then asked an approval for."""
        steps = self.journal.steps
        ids = {call.id for call in asked.calls}
        if not steps or ids.isdisjoint(call.id for call in steps[-1].open_calls):
            return
        last = steps[-1]
        parts = tuple(
            p for p in last.message.parts if not (isinstance(p, ToolCall) and p.id in ids)
        )
        begun = {call_id: repeat for call_id, repeat in last.begun.items() if call_id not in ids}
        kept = replace(last, message=replace(last.message, parts=parts), begun=begun)
        self.journal = replace(self.journal, steps=(*steps[:-1], *((kept,) if kept.calls else ())))

    def _end(self, answered: Answered) -> list[RunnerEvent]:
        events: list[RunnerEvent] = []
        messages = answered.messages or (text_message(Role.ASSISTANT, "".join(self._text)),)
        usage = answered.usage
        for more in (self._usage, self.journal.usage):
            usage = usage if more is None else usage + more
        if self._client:
            calls, messages = self._with_own_ids(messages)
            events.append(ClientCalls(calls))
        if not self._said and (text := messages[-1].text):
            events[:0] = map(TextDelta, pieces(text))  # It was not streamed.
        self.answered = replace(answered, messages=messages, usage=usage)
        return [*events, self.answered]

    def _with_own_ids(
        self, messages: Sequence[Message]
    ) -> tuple[tuple[ToolCall, ...], tuple[Message, ...]]:
        """The calls of the client's tools with ids of our own, in the last message as well."""
        with_calls = sum(
            any(isinstance(part, ToolCall) for part in message.parts)
            for message in messages
            if message.role is Role.ASSISTANT
        )
        theirs = {call.id for call in self._client}
        last = messages[-1]
        parts, calls = list(last.parts), []
        for index, part in enumerate(parts):
            if isinstance(part, ToolCall) and part.id in theirs:
                own = replace(
                    part, id=client_call_id(self.context.spec.id, max(1, with_calls), index)
                )
                parts[index] = own
                calls.append(own)
        return tuple(calls), (*messages[:-1], replace(last, parts=tuple(parts)))

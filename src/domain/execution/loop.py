"""The native AgentRunner: a turn as steps, each a model call, until the answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from hashlib import sha256
from typing import assert_never

from ..errors import RunFailed
from ..messages import Message, Role, ToolCall, text_message
from ..ports import ApprovalBook, Clock, RunContext, Toolbox, ToolContext
from ..runs import (
    Answered,
    AwaitDecisions,
    CallModel,
    Finish,
    Inbox,
    Journal,
    MessageInjected,
    RecordResults,
    RunCalls,
    RunnerEvent,
    Step,
    StepDone,
    StepLimit,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    Waiting,
    next_action,
    result_of,
)
from ..sessions import Transcript
from ..tools import Approval, Decision, Repeat, ToolOutput, ToolResult, ToolSpec, new_code
from .router import ModelAnswer, ModelRouter, Prompt

_MAX_STEPS = 50
"""Model calls of one Run that may lead to further ones."""
_APPROVAL_SECONDS = 600.0
_MOST_SHOWN = 8_192
"""Characters of a tool's result that followers get; the model gets all of it."""


class TurnLoop:
    """Does what `next_action` says, from the journal of the Run, until the answer is there.

    A step is committed before its calls are begun, again with each call that is begun and with
    each result. `approvals`: where a call whose tool asks for it waits for a decision, for
    `approval_seconds`. `clock` is Unix time.
    """

    def __init__(
        self,
        router: ModelRouter,
        toolbox: Toolbox,
        approvals: ApprovalBook,
        *,
        clock: Clock,
        max_steps: int = _MAX_STEPS,
        approval_seconds: float = _APPROVAL_SECONDS,
    ) -> None:
        self._router = router
        self._toolbox = toolbox
        self._approvals = approvals
        self._clock = clock
        self._max_steps = max_steps
        self._approval_seconds = approval_seconds

    def history_budget(self, context: RunContext) -> int:
        prompt = _prompt(context, Transcript(), context.spec.messages)
        size = prompt.size
        return max((prompt.room(target, size) for target in prompt.models), default=0)

    async def run(self, context: RunContext) -> AsyncGenerator[Sequence[RunnerEvent]]:
        spec, agent = context.spec, context.agent
        caller = ToolContext(agent, spec.id, spec.session_key, spec.principal_id)
        tools = tuple(await self._toolbox.tools(caller))
        specs = {spec.name: spec for spec in tools}
        journal = context.journal
        while True:
            action = next_action(journal, max_steps=self._max_steps)
            match action:
                case CallModel():
                    if journal.steps and (arrived := _injected(context.signals)):
                        journal = journal.with_injected(*arrived)
                        await context.commit(journal)
                    prompt = _prompt(context, context.transcript, journal.messages, tools)
                    answer = None
                    async with aclosing(self._router.call(prompt)) as batches:
                        async for batch in batches:
                            last = batch[-1]
                            if not isinstance(last, ModelAnswer):
                                yield batch  # type: ignore[misc]  # Deltas: only the last is none.
                                continue
                            answer = last
                            step = _step(last, specs)
                            if step.calls:
                                journal = journal.with_step(step)
                                if len(batch) > 1:
                                    yield batch[:-1]  # type: ignore[misc]  # The same.
                                break
                            said = (*journal.messages[len(journal.question) :], last.message)
                            used = journal.usage
                            usage = last.usage if used is None else used + last.usage
                            answered = Answered(said, last.stop, usage, last.model)
                            # Within the call: closing it may take longer than the answer should.
                            yield [*batch[:-1], answered]  # type: ignore[list-item]
                            return
                    if answer is None:
                        return  # The call ended without an answer, and so does this turn.
                case RunCalls(calls=calls):
                    for call in calls:
                        tool = specs.get(call.name)
                        repeat = Repeat.UNSAFE if tool is None else tool.repeat
                        journal = journal.with_begun(call.id, repeat)
                        await context.commit(journal)
                        yield [ToolStarted(call.id, call.name, call.arguments)]
                        result = ToolResult("The tool ended without a result.", is_error=True)
                        key = _key(context, journal, call)
                        run = self._toolbox.run(caller, call, key=key)
                        async with aclosing(run) as outputs:
                            async for output in outputs:
                                if isinstance(output, ToolOutput):
                                    yield [ToolProgress(call.id, output.text)]
                                    continue
                                result = output
                                break
                        journal = journal.with_results(result_of(call, result.text))
                        await context.commit(journal)
                        yield _results([(call, result)], journal)
                case RecordResults(results=results):
                    journal = journal.with_results(*results)
                    await context.commit(journal)
                    calls_by_id = {call.id: call for call in journal.steps[-1].calls}
                    lost = [
                        (calls_by_id[result.tool_call_id], ToolResult(result.text, is_error=True))
                        for result in results
                        if result.tool_call_id is not None
                    ]
                    yield _results(lost, journal)
                case AwaitDecisions(calls=calls):
                    if arrived := _injected(context.signals):
                        journal = journal.with_injected(*arrived)
                    denied, waiting = [], None
                    undecided = len(journal.steps[-1].undecided)
                    for call in calls:
                        approval = await self._ask(context, journal, call)
                        match approval.decision:
                            case None:
                                waiting = waiting or approval
                            case Decision.ALLOW | Decision.ALLOW_ALWAYS:
                                journal = journal.with_decided(call.id)
                            case decision:
                                result = ToolResult(_refusal(approval, decision), is_error=True)
                                denied.append((call, result))
                                journal = journal.with_decided(call.id)
                                journal = journal.with_results(result_of(call, result.text))
                    await context.commit(journal)
                    if denied:
                        yield _results(denied, journal)
                    if waiting is not None and len(journal.steps[-1].undecided) == undecided:
                        what = f"The tool {waiting.call.name} waits for an approval."
                        yield [Waiting(what, waiting.id, waiting.expires_at)]
                        return
                case StepLimit(steps=steps):
                    raise RunFailed(f"The run made {steps} steps without an answer: its limit.")
                case Finish():
                    raise RunFailed("The run has an answer already.")
                case _:
                    assert_never(action)

    async def _ask(self, context: RunContext, journal: Journal, call: ToolCall) -> Approval:
        """The approval of a call as it stands now. Its id is the same in each attempt, and another
        one for other arguments: a model that is called again may choose the same id for a call."""
        spec, now = context.spec, self._clock()
        named = "\n".join((_key(context, journal, call), call.name, call.arguments))
        approval = await self._approvals.add(
            Approval(
                id=sha256(named.encode("utf-8", "surrogatepass")).hexdigest()[:32],
                run_id=spec.id,
                principal_id=spec.principal_id,
                call=call,
                created_at=now,
                expires_at=now + self._approval_seconds,
                agent_id=spec.agent_id,
                session_key=str(spec.session_key),
                code=new_code(),
            )
        )
        if approval.decision is None and approval.expires_at <= now:
            expired = await self._approvals.decide(approval.id, Decision.EXPIRED, by="", at=now)
            return approval if expired is None else expired
        return approval


def _step(answer: ModelAnswer, specs: Mapping[str, ToolSpec]) -> Step:
    step = Step(answer.message, usage=answer.usage, model=answer.model)
    asking = [call.id for call in step.calls if call.name in specs and specs[call.name].ask]
    return replace(step, undecided=frozenset(asking)) if asking else step


def _key(context: RunContext, journal: Journal, call: ToolCall) -> str:
    """Names a call of the last step, in every attempt of the Run."""
    return f"{context.spec.id}:{len(journal.steps)}:{call.id}"


def _results(results: Sequence[tuple[ToolCall, ToolResult]], journal: Journal) -> list[RunnerEvent]:
    """The events for results that are stored."""
    events: list[RunnerEvent] = [
        ToolFinished(call.id, result.is_error, shortened(result.text)) for call, result in results
    ]
    if not journal.steps[-1].open_calls:
        events.append(StepDone(len(journal.steps)))
    return events


def _refusal(approval: Approval, decision: Decision) -> str:
    if decision is Decision.EXPIRED:
        return "denied: nobody approved this call in time"
    return f"denied: {approval.decided_by or 'somebody'} did not approve this call"


def _injected(signals: Inbox) -> list[Message]:
    """The messages among the signals. A decision needs no reading: the ApprovalBook has it."""
    messages = []
    while (signal := signals.take()) is not None:
        if isinstance(signal, MessageInjected):
            messages.append(signal.message)
    return messages


def shortened(text: str) -> str:
    """The text as followers get it."""
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "\u2026"


def _prompt(
    context: RunContext,
    history: Transcript,
    messages: tuple[Message, ...],
    tools: tuple[ToolSpec, ...] = (),
) -> Prompt:
    spec, agent = context.spec, context.agent
    system = _system(context)
    return Prompt(spec.id, agent.id, agent.models, system, history, messages, spec.params, tools)


def _system(context: RunContext) -> tuple[Message, ...]:
    """The agent's instructions first, then the request's own layer, as one system message.

    One, because many chat templates accept a single system message at the start only.
    """
    layers = [context.agent.instructions, *(message.text for message in context.spec.instructions)]
    text = "\n\n".join(layer for layer in layers if layer.strip())
    return (text_message(Role.SYSTEM, text),) if text else ()

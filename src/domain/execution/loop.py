"""The native AgentRunner: a turn as steps, each a model call, until the answer."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import assert_never

from ..concurrency import LARGE, off_loop
from ..errors import RunFailed
from ..messages import ToolCall
from ..ports import ApprovalBook, Clock, RunContext, Toolbox, ToolContext
from ..runs import (
    AwaitDecisions,
    CallModel,
    Finish,
    LimitReached,
    RecordResults,
    RunCalls,
    RunnerEvent,
    Step,
    Validate,
    any_arguments,
    checked,
    next_action,
    result_of,
)
from ..sessions import Transcript
from ..tools import ToolResult
from .decisions import Decisions
from .last_answer import answer_in_words
from .router import ModelAnswer, ModelRouter
from .tool_calls import result_events, run_calls
from .turn import OngoingTurn, history_of, prompt_of

_APPROVAL_SECONDS = 600.0


class TurnLoop:
    """Does what `next_action` says, from the journal of the Run, until the answer is there.

    A step is committed before its calls are begun, again with each call that is begun and with
    each result. `approvals`: where a call whose tool asks for it waits for a decision, for
    `approval_seconds`. `validate` checks arguments against a tool's JSON Schema. `clock` is Unix
    time, `monotonic` measures the time that a Run takes.
    """

    def __init__(
        self,
        router: ModelRouter,
        toolbox: Toolbox,
        approvals: ApprovalBook,
        *,
        clock: Clock,
        monotonic: Clock = time.monotonic,
        validate: Validate = any_arguments,
        approval_seconds: float = _APPROVAL_SECONDS,
    ) -> None:
        self._router = router
        self._toolbox = toolbox
        self._decisions = Decisions(approvals, clock=clock, seconds=approval_seconds)
        self._monotonic = monotonic
        self._validate = validate
        self._has_checked = False

    def history_budget(self, context: RunContext) -> int:
        prompt = prompt_of(context, Transcript(), context.spec.messages)
        size = prompt.size
        return max((prompt.room(target, size) for target in prompt.models), default=0)

    async def run(self, context: RunContext) -> AsyncGenerator[Sequence[RunnerEvent]]:
        turn = await self._begin(context)
        limits, prices = context.agent.limits, turn.prices
        while True:
            action = next_action(turn.journal, limits, prices)
            match action:
                case CallModel():
                    if turn.journal.steps:
                        await _take_injected(turn)
                    answer = None
                    async with aclosing(self._router.call(turn.prompt())) as batches:
                        async for batch in batches:
                            last = batch[-1]
                            if not isinstance(last, ModelAnswer):
                                yield batch  # type: ignore[misc]  # Deltas: only the last is none.
                                continue
                            answer = last
                            if any(isinstance(part, ToolCall) for part in last.message.parts):
                                if len(batch) > 1:
                                    yield batch[:-1]  # type: ignore[misc]  # The same.
                                break
                            # Within the call: closing it may take longer than the answer should.
                            yield [*batch[:-1], turn.ended_by(last)]  # type: ignore[list-item]
                            return
                    if answer is None:
                        return  # The call ended without an answer, and so does this turn.
                    if events := await self._add_step(turn, answer):
                        yield events
                case RunCalls(calls=calls):
                    async with aclosing(run_calls(turn, self._toolbox, calls)) as running:
                        async for events in running:
                            yield events
                case RecordResults(results=results):
                    await turn.commit(turn.journal.with_results(*results))
                    texts = {result.tool_call_id or "": result.text for result in results}
                    yield _refusals(turn, texts)
                case AwaitDecisions(calls=calls):
                    async with aclosing(self._decisions.apply(turn, calls)) as decided:
                        async for events in decided:
                            yield events
                    if turn.is_waiting:
                        return
                case LimitReached():
                    await _take_injected(turn)
                    async with aclosing(answer_in_words(turn, self._router, action)) as answering:
                        async for events in answering:
                            yield events
                    return
                case Finish():
                    raise RunFailed("The run has an answer already.")
                case _:
                    assert_never(action)

    async def _begin(self, context: RunContext) -> OngoingTurn:
        spec = context.spec
        caller = ToolContext(
            agent=context.agent,
            run_id=spec.id,
            session_key=spec.session_key,
            principal_id=spec.principal_id,
            scopes=spec.scopes,
            principal=spec.principal,
        )
        return OngoingTurn(
            context=context,
            caller=caller,
            tools=tuple(await self._toolbox.tools(caller)),
            journal=context.journal,
            clock=self._monotonic,
            since=self._monotonic(),
            history=history_of(context),
        )

    async def _add_step(self, turn: OngoingTurn, answer: ModelAnswer) -> list[RunnerEvent]:
        """Add the step that the answer begins. Calls that cannot be run have their results at once;
        returns the events of these. The step is committed with its first call or result."""
        specs = turn.specs
        calls = (part for part in answer.message.parts if isinstance(part, ToolCall))
        length = sum(len(call.arguments) for call in calls)
        check = partial(checked, answer.message, specs, self._validate, turn.call_ids)
        # The first check may load a library, which takes as long as the arguments of a large call.
        message, refused = await off_loop(length if self._has_checked else LARGE, check)
        self._has_checked = True
        step = Step(message, usage=answer.usage, model=answer.model)
        asking = [
            call.id
            for call in step.calls
            if call.id not in refused
            and (tool := specs.get(call.name)) is not None
            and tool.asks(call)
        ]
        results = tuple(
            result_of(call, refused[call.id]) for call in step.calls if call.id in refused
        )
        step = replace(step, results=results, undecided=frozenset(asking))
        journal = turn.journal.with_step(step)
        if not refused:
            turn.journal = journal
            return []
        await turn.commit(journal)
        return _refusals(turn, refused)


async def _take_injected(turn: OngoingTurn) -> None:
    if arrived := turn.injected():
        await turn.commit(turn.journal.with_injected(*arrived))


def _refusals(turn: OngoingTurn, texts: Mapping[str, str]) -> list[RunnerEvent]:
    """The events for calls that got these results without being run."""
    calls = turn.journal.steps[-1].calls
    results = [
        (call, ToolResult(texts[call.id], is_error=True)) for call in calls if call.id in texts
    ]
    return result_events(results, turn.journal)

"""The native AgentRunner: a turn as steps, each a model call, until the answer."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import assert_never

from ..concurrency import LARGE, off_loop
from ..errors import RunFailed
from ..messages import Message, Role, ToolCall, text_message
from ..models import TextDelta
from ..ports import ApprovalBook, Clock, RunContext, Toolbox, ToolContext
from ..runs import (
    AwaitDecisions,
    CallModel,
    ClientCalls,
    CompileSchema,
    Finish,
    HandOut,
    LimitReached,
    RecordResults,
    RunCalls,
    RunnerEvent,
    Step,
    Validate,
    answer_format,
    any_arguments,
    any_value,
    checked,
    failed_result,
    next_action,
)
from ..sessions import Transcript, estimate
from ..tools import CLIENT_SOURCE, ToolResult, ToolSpec, client_call_id, offered_tools
from .compaction import Compactor, is_crowded
from .decisions import Decisions
from .formatted import checked_answer, schema_check, withheld
from .last_answer import answer_in_words, call_in_time
from .router import HistoryTooLong, ModelAnswer, ModelRouter
from .system_prompts import SystemPrompts
from .tool_calls import result_events, run_calls
from .turn import OngoingTurn, prompt_of

_APPROVAL_SECONDS = 600.0


class TurnLoop:
    """Does what `next_action` says, from the journal of the Run, until the answer is there.

    A step is committed before its calls are begun, again with each call that is begun and with
    each result. `approvals`: where a call whose tool asks for it waits for a decision, for
    `approval_seconds`. `prompts` adds to the instructions what the agent knows. `validate` checks
    arguments against a tool's JSON Schema, and `compile_schema` makes the check of an answer that
    has one. `clock` is Unix time, `monotonic` measures the time that a Run takes.
    """

    def __init__(
        self,
        router: ModelRouter,
        toolbox: Toolbox,
        approvals: ApprovalBook,
        *,
        clock: Clock,
        monotonic: Clock = time.monotonic,
        prompts: SystemPrompts | None = None,
        validate: Validate = any_arguments,
        compile_schema: CompileSchema = any_value,
        approval_seconds: float = _APPROVAL_SECONDS,
    ) -> None:
        self._router = router
        self._compactor = Compactor(router, clock=clock)
        self._toolbox = toolbox
        self._decisions = Decisions(approvals, clock=clock, seconds=approval_seconds)
        self._monotonic = monotonic
        self._prompts = prompts
        self._validate = validate
        self._compile_schema = compile_schema
        self._has_checked = False

    def history_budget(self, context: RunContext) -> int:
        prompt = prompt_of(context, Transcript(), context.spec.messages)
        size = prompt.size
        return max((prompt.room(target, size) for target in prompt.models), default=0)

    async def size(self, context: RunContext) -> int:
        """Roughly the tokens of the first model call, tools included."""
        turn = await self._begin(context)
        prompt = turn.prompt()
        return prompt.size + sum(map(_size_of_tool, prompt.tools))

    def run(self, context: RunContext) -> AsyncGenerator[Sequence[RunnerEvent]]:
        events = self._run(context)
        if answer_format(context.spec.params) is None:
            return events
        return withheld(events, context.spent)

    async def _run(self, context: RunContext) -> AsyncGenerator[Sequence[RunnerEvent]]:
        turn = await self._begin(context)
        limits, prices = context.agent.limits, turn.prices
        while True:
            action = next_action(turn.journal, limits, prices)
            match action:
                case CallModel():
                    if turn.journal.steps:
                        await _take_injected(turn)
                    prompt = turn.prompt()
                    if turn.compacts and is_crowded(turn, prompt):
                        async with aclosing(self._compactor.compact(turn)) as compacting:
                            async for events in compacting:
                                yield events
                        prompt = turn.prompt()
                    if turn.pruned is not None:
                        yield [turn.pruned]
                        turn.pruned = None
                    answer = None
                    call: AsyncGenerator[Sequence[RunnerEvent | ModelAnswer]]
                    if limits.seconds is None:
                        call = self._router.call(prompt)
                    else:
                        call = call_in_time(turn, self._router, prompt, limits.seconds)
                    try:
                        async with aclosing(call) as batches:
                            async for batch in batches:
                                last = batch[-1]
                                if not isinstance(last, ModelAnswer):
                                    yield batch  # type: ignore[misc]  # Deltas only.
                                    continue
                                answer = last
                                if turn.format is not None or _has_calls(last.message):
                                    if rest := _before_calls(turn, batch[:-1], last.message):
                                        yield rest
                                    break
                                # Within the call: closing it may take longer than the answer.
                                yield [*batch[:-1], turn.ended_by(last)]  # type: ignore[list-item]
                                return
                    except HistoryTooLong:
                        compact = self._compactor.compact(turn, retries=True)
                        async with aclosing(compact) as compacting:
                            async for events in compacting:
                                yield events
                        continue
                    if answer is None:
                        return  # The call ended without an answer, and so does this turn.
                    if turn.format is not None and not _has_calls(answer.message):
                        end = checked_answer(turn, self._router, answer)
                        async with aclosing(end) as ending:
                            async for checked_events in ending:
                                yield checked_events
                        return
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
                case HandOut(calls=calls):
                    yield [ClientCalls(calls), turn.handed_out()]
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
        wanted = answer_format(spec.params)
        caller = ToolContext(
            agent=context.agent,
            run_id=spec.id,
            session_key=spec.session_key,
            principal_id=spec.principal_id,
            scopes=spec.scopes,
            principal=spec.principal,
        )
        tools = tuple(await self._toolbox.tools(caller))
        if self._prompts is not None and not spec.side_task:
            context = await self._prompts.completed(context, tools)
        return OngoingTurn(
            context=context,
            caller=caller,
            tools=offered_tools(tools, spec.client_tools),
            journal=context.journal,
            clock=self._monotonic,
            since=self._monotonic(),
            compacts=self._compactor.may_compact(context),
            format=wanted,
            check=await schema_check(wanted, self._compile_schema),
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
        message, handed = _handed(turn, message, specs, refused)
        step = Step(message, usage=answer.usage, model=answer.model)
        asking = [
            call.id
            for call in step.calls
            if call.id not in refused
            and (tool := specs.get(call.name)) is not None
            and tool.asks(turn.own(call))
        ]
        results = tuple(
            failed_result(call, refused[call.id]) for call in step.calls if call.id in refused
        )
        step = replace(step, results=results, undecided=frozenset(asking), handed=handed)
        journal = turn.journal.with_step(step)
        if not refused:
            turn.journal = journal
            return []
        await turn.commit(journal)
        # The answer goes on, which `_before_calls` could not know.
        apart = _apart(message.text) if not handed and _ends_answer(turn, message) else []
        return [*apart, *_refusals(turn, refused)]


def _size_of_tool(spec: ToolSpec) -> int:
    written = json.dumps([spec.name, spec.description, spec.parameters], ensure_ascii=False)
    return estimate(text_message(Role.SYSTEM, written))


def _has_calls(message: Message) -> bool:
    return any(isinstance(part, ToolCall) for part in message.parts)


def _handed(
    turn: OngoingTurn, message: Message, specs: Mapping[str, ToolSpec], refused: Mapping[str, str]
) -> tuple[Message, frozenset[str]]:
    """The message with ids of our own for the calls that the client runs, and these ids."""
    parts, handed = list(message.parts), set()
    for index, part in enumerate(parts):
        if isinstance(part, ToolCall) and part.id not in refused:
            tool = specs.get(part.name)
            if tool is not None and tool.source == CLIENT_SOURCE:
                step = len(turn.journal.steps) + 1
                own = client_call_id(turn.context.spec.id, step, index)
                parts[index] = replace(part, id=own)
                handed.add(own)
    if not handed:
        return message, frozenset()
    return replace(message, parts=tuple(parts)), frozenset(handed)


async def _take_injected(turn: OngoingTurn) -> None:
    if arrived := turn.injected():
        await turn.commit(turn.journal.with_injected(*arrived))


def _before_calls(
    turn: OngoingTurn, batch: Sequence[RunnerEvent | ModelAnswer], message: Message
) -> list[RunnerEvent]:
    """The last deltas of a message with tool calls. Behind a text there is an empty line, because
    followers join the texts of all steps; not before calls of the client, which end the answer
    unless it asks for an approval before."""
    deltas: list[RunnerEvent] = list(batch)  # type: ignore[arg-type]  # None is the answer.
    if not _ends_answer(turn, message):
        deltas += _apart(message.text)
    return deltas


def _apart(text: str) -> list[RunnerEvent]:
    """What is between a text and that of the next step."""
    if not text or text.endswith("\n\n"):
        return []
    return [TextDelta("\n" if text.endswith("\n") else "\n\n")]


def _ends_answer(turn: OngoingTurn, message: Message) -> bool:
    """Whether there are calls of the client, and none that is asked for before these."""
    specs, ends = turn.specs, False
    for part in message.parts:
        if isinstance(part, ToolCall) and (tool := specs.get(part.name)) is not None:
            if tool.asks(turn.own(part)):
                return False
            ends = ends or tool.source == CLIENT_SOURCE
    return ends


def _refusals(turn: OngoingTurn, texts: Mapping[str, str]) -> list[RunnerEvent]:
    """The events for calls that got these results without being run."""
    calls = turn.journal.steps[-1].calls
    results = [
        (call, ToolResult(texts[call.id], is_error=True)) for call in calls if call.id in texts
    ]
    return result_events(results, turn.journal)

"""Calls that wait for a person's decision."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from ..messages import ToolCall
from ..ports import ApprovalBook, Clock
from ..runs import RunnerEvent, RunSpec, Waiting
from ..tools import Approval, Decision, ToolResult, approval_id, new_code
from .tool_calls import result_events, with_results
from .turn import OngoingTurn


class Decisions:
    """Asks for decisions about calls. `clock` is Unix time; `seconds`: how long one may take."""

    def __init__(self, approvals: ApprovalBook, *, clock: Clock, seconds: float) -> None:
        self._approvals = approvals
        self._clock = clock
        self._seconds = seconds

    async def apply(
        self, turn: OngoingTurn, calls: Sequence[ToolCall]
    ) -> AsyncGenerator[list[RunnerEvent]]:
        """Record what was decided about the calls. The last event is Waiting, and so is the turn,
        where the Run can do nothing before the next decision."""
        journal = turn.journal
        if arrived := turn.injected():
            journal = journal.with_injected(*arrived)
        denied, waiting = [], None
        undecided = len(journal.steps[-1].undecided)
        for call in calls:
            approval = await self._ask(turn, call)
            match approval.decision:
                case None:
                    waiting = waiting or approval
                case Decision.ALLOW | Decision.ALLOW_ALWAYS:
                    journal = journal.with_decided(call.id)
                case _:
                    denied.append((call, ToolResult(refusal_of(approval), is_error=True)))
                    journal = journal.with_decided(call.id)
        journal = with_results(journal, denied)
        await turn.commit(journal)
        if denied:
            yield result_events(denied, journal)
        if waiting is not None and len(journal.steps[-1].undecided) == undecided:
            turn.is_waiting = True
            yield [waiting_for(waiting)]

    async def _ask(self, turn: OngoingTurn, call: ToolCall) -> Approval:
        return await requested_approval(
            self._approvals,
            turn.context.spec,
            turn.own(call),
            key=turn.key(call.id),
            now=self._clock(),
            seconds=self._seconds,
        )


async def requested_approval(
    book: ApprovalBook, spec: RunSpec, call: ToolCall, *, key: str, now: float, seconds: float
) -> Approval:
    """The approval of a call as it stands now, requested where it was not before. `key` names the
    call, the same in each attempt of the Run; `seconds`: how long a decision may take."""
    approval = await book.add(
        Approval(
            id=approval_id(key, call),
            run_id=spec.id,
            principal_id=spec.principal_id,
            call=call,
            created_at=now,
            expires_at=now + seconds,
            agent_id=spec.agent_id,
            session_key=str(spec.session_key),
            code=new_code(),
        )
    )
    if approval.decision is None and approval.expires_at <= now:
        expired = await book.decide(approval.id, Decision.EXPIRED, by="", at=now)
        return approval if expired is None else expired
    return approval


def waiting_for(approval: Approval) -> Waiting:
    """The event of a Run that can do nothing before the decision."""
    what = f"The tool {approval.call.name} waits for an approval."
    return Waiting(what, approval.id, approval.expires_at)


def refusal_of(approval: Approval) -> str:
    """What the model gets as the result of a call that was not allowed."""
    if approval.decision is Decision.EXPIRED:
        return "denied: nobody approved this call in time"
    return f"denied: {approval.decided_by or 'somebody'} did not approve this call"

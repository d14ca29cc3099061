"""Calls that wait for a person's decision."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from ..messages import ToolCall
from ..ports import ApprovalBook, Clock
from ..runs import RunnerEvent, Waiting
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
                case decision:
                    denied.append((call, ToolResult(_refusal(approval, decision), is_error=True)))
                    journal = journal.with_decided(call.id)
        journal = with_results(journal, denied)
        await turn.commit(journal)
        if denied:
            yield result_events(denied, journal)
        if waiting is not None and len(journal.steps[-1].undecided) == undecided:
            what = f"The tool {waiting.call.name} waits for an approval."
            turn.is_waiting = True
            yield [Waiting(what, waiting.id, waiting.expires_at)]

    async def _ask(self, turn: OngoingTurn, call: ToolCall) -> Approval:
        """The approval of a call as it stands now. Its id is the same in each attempt."""
        spec, now = turn.context.spec, self._clock()
        call = turn.own(call)
        approval = await self._approvals.add(
            Approval(
                id=approval_id(turn.key(call.id), call),
                run_id=spec.id,
                principal_id=spec.principal_id,
                call=call,
                created_at=now,
                expires_at=now + self._seconds,
                agent_id=spec.agent_id,
                session_key=str(spec.session_key),
                code=new_code(),
            )
        )
        if approval.decision is None and approval.expires_at <= now:
            expired = await self._approvals.decide(approval.id, Decision.EXPIRED, by="", at=now)
            return approval if expired is None else expired
        return approval


def _refusal(approval: Approval, decision: Decision) -> str:
    if decision is Decision.EXPIRED:
        return "denied: nobody approved this call in time"
    return f"denied: {approval.decided_by or 'somebody'} did not approve this call"

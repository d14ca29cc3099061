"""Tasks are runs: the task of a run as it stands."""

from __future__ import annotations

from collections.abc import Sequence

from a2a.types import (
    Task,
    TaskNotFoundError,
    TaskStatus,
)

from ....domain.access import Principal
from ....domain.errors import EventsExpired, UnknownRun
from ....domain.messages import Message
from ....domain.runs import (
    CONTEXT_EVENTS,
    DELTAS,
    TOOL_EVENTS,
    Aborted,
    Failed,
    Finished,
    Resumed,
    RunEvent,
    RunRecord,
    RunStatus,
    Started,
    StepDone,
    Waiting,
    consumes,
    error_of,
)
from ....domain.services import Approvals, Gateway
from ..answering import question_for, text_of
from .frames import TaskText
from .shapes import (
    INPUT_REQUIRED,
    STATES,
    TaskIds,
    artifact_of,
    history_of,
    ids_of,
    metadata_of,
    status_of,
)


class Tasks:
    """Reads runs as tasks."""

    def __init__(self, gateway: Gateway, approvals: Approvals) -> None:
        self._gateway = gateway
        self._approvals = approvals

    async def find(self, principal: Principal, task_id: str, agent_id: str) -> RunRecord:
        """The run of a task, where it is one of that agent; empty: of any agent. Raises
        TaskNotFoundError."""
        try:
            run = await self._gateway.run(principal, task_id)
        except UnknownRun:
            run = None
        if run is None or agent_id not in ("", run.agent_id):
            raise TaskNotFoundError(
                f"There is no task {task_id[:200]!r}, or it ended too long ago."
            )
        return run

    async def task(
        self,
        principal: Principal,
        run: RunRecord,
        *,
        history_length: int | None = None,
        with_answer: bool = True,
        message_id: str = "",
    ) -> Task:
        """The run as it stands. `message_id`: that of the message it began with, where it is
        known."""
        ids = ids_of(run, principal)
        last = await self._last_event(principal, run)
        status = await self._status(run, last, ids)
        task = Task(id=ids.task, context_id=ids.context, status=status)
        if isinstance(last, Finished):
            task.metadata.CopyFrom(metadata_of(last))
        with_answer = with_answer and run.status is RunStatus.FINISHED
        turn, spoken = None, await self._question(principal, run) if history_length != 0 else ()
        if with_answer or (history_length != 0 and not spoken):
            turn = await self._gateway.turn(principal, run)
        if history_length != 0:
            spoken = spoken if turn is None else turn.messages
            history = history_of(spoken, ids, message_id)
            task.history.extend(history if history_length is None else history[-history_length:])
        if with_answer:
            text = await self._text(principal, run) if turn is None else text_of(turn)
            task.artifacts.append(artifact_of(text))
        return task

    async def _question(self, principal: Principal, run: RunRecord) -> Sequence[Message]:
        """The messages that the run began with, until it has ended."""
        if run.status.final:
            return ()
        active = await self._gateway.active(principal, run.session_key)
        return next((spec.messages for spec in active if spec.id == run.id), ())

    async def _last_event(self, principal: Principal, run: RunRecord) -> RunEvent | None:
        """The event that brought the run to its status; None where none did, or it has expired."""
        if not run.status.final and run.status is not RunStatus.WAITING:
            return None
        after = max(0, run.last_seq - 1)
        following = self._gateway.follow(principal, run, after, kept=True, stops=False)
        try:
            async with following as events:
                return (await anext(events)).events[0]
        except EventsExpired:
            return None

    @consumes(
        Waiting,
        Failed,
        Aborted,
        ignores=(Started, *DELTAS, *TOOL_EVENTS, *CONTEXT_EVENTS, StepDone, Resumed, Finished),
    )
    async def _status(self, run: RunRecord, last: RunEvent | None, ids: TaskIds) -> TaskStatus:
        at = run.ended_at or run.started_at or run.accepted_at
        state, text = STATES[run.status], ""
        if isinstance(last, Failed | Aborted):
            text = error_of(last).message
        elif isinstance(last, Waiting) and last.approval_id is not None:
            approval = await self._approvals.undecided(last.approval_id)
            text = "" if approval is None else question_for(approval)
        elif run.status is RunStatus.RUNNING:
            approval = await self._approvals.of_subagents(run.id)
            text = "" if approval is None else question_for(approval, of_subagent=True)
        if text and not run.status.final:
            state = INPUT_REQUIRED
        return status_of(state, ids, text, at=at)

    async def _text(self, principal: Principal, run: RunRecord) -> str:
        """The answer of a run without a stored turn, such as a command; empty where its events have
        expired."""
        frames = TaskText()
        following = self._gateway.follow(principal, run, kept=True, stops=False)
        try:
            async with following as events:
                async for batch in events:
                    frames.add(batch.events)
        except EventsExpired:
            return ""
        return frames.text

"""Tasks are runs: the task of a run as it stands, and the events of its stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from a2a.types import (
    Artifact,
    Part,
    Role,
    StreamResponse,
    Task,
    TaskArtifactUpdateEvent,
    TaskNotFoundError,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)
from a2a.types import Message as SentMessage
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from ....domain import messages
from ....domain.access import Principal
from ....domain.errors import EventsExpired, UnknownRun
from ....domain.messages import Image, Message, Text
from ....domain.models import ReasoningDelta, TextDelta, Usage
from ....domain.runs import (
    CONTEXT_EVENTS,
    DELTAS,
    TERMINAL,
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
from ..answering import PAUSED, question_for, text_of
from ..http import Problem
from .contexts import context_id_of
from .rpc import Results

_ANSWER = "answer"
"""The id of the artifact that holds a run's answer."""
STATES: Mapping[RunStatus, TaskState] = {
    RunStatus.QUEUED: TaskState.TASK_STATE_SUBMITTED,
    RunStatus.RUNNING: TaskState.TASK_STATE_WORKING,
    RunStatus.WAITING: TaskState.TASK_STATE_WORKING,
    RunStatus.FINISHED: TaskState.TASK_STATE_COMPLETED,
    RunStatus.FAILED: TaskState.TASK_STATE_FAILED,
    RunStatus.ABORTED: TaskState.TASK_STATE_CANCELED,
    RunStatus.INTERRUPTED: TaskState.TASK_STATE_FAILED,
}
"""A run that waits for a decision is `input-required`, see `Tasks.task`."""
_INPUT_REQUIRED = TaskState.TASK_STATE_INPUT_REQUIRED


@dataclass(frozen=True, slots=True)
class TaskIds:
    """What each event of a task names."""

    task: str
    context: str


def statuses_of(state: TaskState) -> frozenset[RunStatus]:
    """The statuses of runs that may be in that state."""
    if state == _INPUT_REQUIRED:
        return frozenset({RunStatus.WAITING})
    found = {status for status, its in STATES.items() if its == state}
    return frozenset(found - {RunStatus.WAITING})


def ids_of(run: RunRecord, principal: Principal) -> TaskIds:
    """The ids of the run as a task of the principal."""
    return TaskIds(run.id, context_id_of(run.session_key, principal))


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
        turn = None
        if run.status.final and (with_answer or history_length != 0):
            turn = await self._gateway.turn(principal, run)
        if history_length != 0:
            spoken: Sequence[Message] = () if turn is None else turn.messages
            if not spoken:
                active = await self._gateway.active(principal, run.session_key)
                spoken = next((spec.messages for spec in active if spec.id == run.id), ())
            history = _history(spoken, ids, message_id)
            task.history.extend(history if history_length is None else history[-history_length:])
        if with_answer:
            text = await self._text(principal, run) if turn is None else text_of(turn)
            task.artifacts.append(_artifact(text))
        return task

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
            state = _INPUT_REQUIRED
        return _status(state, ids, text, at=at)

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


class TaskText:
    """The text of an answer, from the events of its run."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._stored = 0
        """How many pieces are of steps that are stored."""

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @consumes(
        TextDelta,
        StepDone,
        Resumed,
        ignores=(Started, Waiting, ReasoningDelta, *TOOL_EVENTS, *CONTEXT_EVENTS, *TERMINAL),
    )
    def add(self, events: Sequence[RunEvent]) -> None:
        for event in events:
            match event:
                case TextDelta(text=piece):
                    self._pieces.append(piece)
                case StepDone():
                    self._stored = len(self._pieces)
                case Resumed(void=void) if void:
                    del self._pieces[self._stored :]


class TaskFrames:
    """Writes the events of a task's stream: its answer in pieces that are appended to one artifact,
    and its status. The first piece replaces what there was of the artifact."""

    def __init__(self, results: Results, ids: TaskIds) -> None:
        self._results = results
        self._ids = ids
        self._answer = TaskText()
        self._began = False
        """The artifact has its first piece."""
        self._ending: Failed | Aborted | None = None
        self.ended = False

    @consumes(
        Started,
        TextDelta,
        StepDone,
        Resumed,
        *TERMINAL,
        ignores=(Waiting, ReasoningDelta, *TOOL_EVENTS, *CONTEXT_EVENTS),
    )
    def of(self, events: Sequence[RunEvent], first: int) -> bytes:
        """The frames for `events`. Those behind a run that waits for a decision end with Finished,
        and their text is the question."""
        if events[-1] is PAUSED:
            asked = "".join(event.text for event in events if isinstance(event, TextDelta))
            self.ended = True
            return self._status(_INPUT_REQUIRED, asked)
        frames = b""
        pieces: list[str] = []
        for event in events:
            self._answer.add((event,))
            match event:
                case TextDelta(text=piece):
                    pieces.append(piece)
                case Started():
                    frames += self._status(TaskState.TASK_STATE_WORKING)
                case Resumed(void=void) if void:
                    self._began, pieces = False, []
                    frames += self._piece(self._answer.text)
                case Finished():
                    frames += self._piece("".join(pieces), last=True)
                    frames += self._status(
                        TaskState.TASK_STATE_COMPLETED, metadata=metadata_of(event)
                    )
                    self.ended, pieces = True, []
                case Failed() | Aborted():
                    self._ending = event
        return frames + self._piece("".join(pieces)) if pieces else frames

    def failure(self, problem: Problem) -> bytes:
        """The last frames of a stream: the status of a run that failed or was stopped, or the error
        that ends the stream alone."""
        self.ended = True
        if self._ending is None:
            return self._results.failure_frame(problem)
        aborted = isinstance(self._ending, Aborted)
        state = TaskState.TASK_STATE_CANCELED if aborted else TaskState.TASK_STATE_FAILED
        return self._status(state, problem.message)

    def _piece(self, text: str, *, last: bool = False) -> bytes:
        update = TaskArtifactUpdateEvent(
            task_id=self._ids.task,
            context_id=self._ids.context,
            artifact=_artifact(text),
            append=self._began,
            last_chunk=last,
        )
        self._began = True
        return self._results.frame(StreamResponse(artifact_update=update))

    def _status(self, state: TaskState, text: str = "", metadata: Struct | None = None) -> bytes:
        update = TaskStatusUpdateEvent(
            task_id=self._ids.task,
            context_id=self._ids.context,
            status=_status(state, self._ids, text),
            metadata=metadata,
        )
        return self._results.frame(StreamResponse(status_update=update))


def metadata_of(event: Finished) -> Struct:
    """How the answer ended, which the protocol has no fields for."""
    metadata = Struct()
    usage: Usage = event.usage
    metadata.update(
        {
            "finishReason": event.stop.finish_reason,
            "model": event.model,
            "usage": {
                "inputTokens": usage.input,
                "outputTokens": usage.output,
                "totalTokens": usage.total,
            },
        }
    )
    return metadata


def _status(state: TaskState, ids: TaskIds, text: str, *, at: float | None = None) -> TaskStatus:
    status = TaskStatus(state=state, timestamp=_timestamp(at))
    if text:
        status.message.CopyFrom(
            SentMessage(
                message_id=f"{ids.task}-status",
                task_id=ids.task,
                context_id=ids.context,
                role=Role.ROLE_AGENT,
                parts=[Part(text=text)],
            )
        )
    return status


def _timestamp(at: float | None) -> Timestamp:
    timestamp = Timestamp()
    if at is None:
        timestamp.GetCurrentTime()
    else:
        timestamp.FromMilliseconds(int(at * 1_000))
    return timestamp


def _artifact(text: str) -> Artifact:
    return Artifact(artifact_id=_ANSWER, name=_ANSWER, parts=[Part(text=text)])


def _history(spoken: Sequence[Message], ids: TaskIds, message_id: str) -> list[SentMessage]:
    """The messages of the user and the texts of the agent. `message_id`: that of the last message
    of the user."""
    history: list[SentMessage] = []
    for message in spoken:
        role = _ROLES.get(message.role)
        parts = _parts(message)
        if role is not None and parts:
            history.append(
                SentMessage(
                    message_id=f"{ids.task}-{len(history)}",
                    task_id=ids.task,
                    context_id=ids.context,
                    role=role,
                    parts=parts,
                )
            )
    users = [message for message in history if message.role == Role.ROLE_USER]
    if users and message_id:
        users[-1].message_id = message_id
    return history


_ROLES: Mapping[messages.Role, Role] = {
    messages.Role.USER: Role.ROLE_USER,
    messages.Role.ASSISTANT: Role.ROLE_AGENT,
}


def _parts(message: Message) -> list[Part]:
    """The texts, and the media types of pictures in their places."""
    parts: list[Part] = []
    for part in message.parts:
        if isinstance(part, Text) and part.text:
            parts.append(Part(text=part.text))
        elif isinstance(part, Image):
            parts.append(Part(text=f"[A picture of the type {part.mime} was here.]"))
    return parts

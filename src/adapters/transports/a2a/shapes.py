"""Parts of tasks, in the types of the SDK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from a2a.types import (
    Artifact,
    Part,
    Role,
    Task,
    TaskState,
    TaskStatus,
)
from a2a.types import Message as SentMessage
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from ....domain import messages
from ....domain.access import Principal
from ....domain.messages import Image, Message, Text
from ....domain.models import Usage
from ....domain.runs import (
    Finished,
    RunRecord,
    RunStatus,
)
from .contexts import context_id_of

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
INPUT_REQUIRED = TaskState.TASK_STATE_INPUT_REQUIRED


@dataclass(frozen=True, slots=True)
class TaskIds:
    """What each event of a task names."""

    task: str
    context: str


def statuses_of(state: TaskState) -> frozenset[RunStatus]:
    """The statuses of runs that may be in that state."""
    if state == INPUT_REQUIRED:
        return frozenset({RunStatus.WAITING})
    found = {status for status, its in STATES.items() if its == state}
    return frozenset(found - {RunStatus.WAITING})


def ids_of(run: RunRecord, principal: Principal) -> TaskIds:
    """The ids of the run as a task of the principal."""
    return TaskIds(run.id, context_id_of(run.session_key, principal))


def is_final(task: Task) -> bool:
    """Whether the run of the task has ended."""
    return task.status.state in {STATES[status] for status in RunStatus if status.final}


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


def status_of(state: TaskState, ids: TaskIds, text: str, *, at: float | None = None) -> TaskStatus:
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


def artifact_of(text: str) -> Artifact:
    return Artifact(artifact_id=_ANSWER, name=_ANSWER, parts=[Part(text=text)])


def history_of(spoken: Sequence[Message], ids: TaskIds, message_id: str) -> list[SentMessage]:
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

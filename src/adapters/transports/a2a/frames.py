"""The events of a run as those of its task's stream."""

from __future__ import annotations

from collections.abc import Sequence

from a2a.types import (
    StreamResponse,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatusUpdateEvent,
)
from google.protobuf.struct_pb2 import Struct

from ....domain.models import ReasoningDelta, TextDelta
from ....domain.runs import (
    CONTEXT_EVENTS,
    TERMINAL,
    TOOL_EVENTS,
    Aborted,
    Failed,
    Finished,
    Resumed,
    RunEvent,
    Started,
    StepDone,
    Waiting,
    consumes,
)
from ..answering import PAUSED
from ..http import Problem
from .rpc import Results
from .shapes import INPUT_REQUIRED, TaskIds, artifact_of, metadata_of, status_of


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
            return self._status(INPUT_REQUIRED, asked)
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
            artifact=artifact_of(text),
            append=self._began,
            last_chunk=last,
        )
        self._began = True
        return self._results.frame(StreamResponse(artifact_update=update))

    def _status(self, state: TaskState, text: str = "", metadata: Struct | None = None) -> bytes:
        update = TaskStatusUpdateEvent(
            task_id=self._ids.task,
            context_id=self._ids.context,
            status=status_of(state, self._ids, text),
            metadata=metadata,
        )
        return self._results.frame(StreamResponse(status_update=update))

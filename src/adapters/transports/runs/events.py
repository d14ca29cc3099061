"""A run, and each of its events, as clients get them."""

from __future__ import annotations

from collections.abc import Sequence

from ....domain.models import ReasoningDelta, TextDelta, Usage
from ....domain.runs import (
    CONTEXT_EVENTS,
    DELTAS,
    KINDS,
    TERMINAL,
    TOOL_EVENTS,
    Aborted,
    ClientCalls,
    CompactionEnded,
    CompactionStarted,
    Failed,
    Finished,
    Pruned,
    Resumed,
    RunEvent,
    RunRecord,
    Started,
    StepDone,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    Unknown,
    Waiting,
    consumes,
    status_after,
)
from ..http import Problem
from ..http.json_text import dumps


def run_object(record: RunRecord) -> dict[str, object]:
    """A run. Times are Unix seconds."""
    return {
        "id": record.id,
        "object": "run",
        "status": record.status.value,
        "agent_id": record.agent_id,
        "session_key": str(record.session_key),
        "created_at": int(record.accepted_at),
        "started_at": None if record.started_at is None else int(record.started_at),
        "ended_at": None if record.ended_at is None else int(record.ended_at),
        "last_event": record.last_seq,
    }


class EventFrames:
    """Writes the frames of one run's events, each with its number in an `id:` line: those behind
    event `after`. The terminal event has the text of the whole answer."""

    def __init__(self, record: RunRecord, after: int) -> None:
        self._after = after
        self._id = record.id.encode()
        self._run_id = record.id
        self._text: list[str] = []
        self._stored = 0
        """How many of the texts are of steps that are stored."""
        self.whole: str | None = None
        """The text of the answer, where not all of its events are read."""
        self.ended = False
        """The terminal event was written."""

    @consumes(
        TextDelta,
        StepDone,
        Resumed,
        *TERMINAL,
        ignores=(Started, Waiting, ReasoningDelta, *TOOL_EVENTS, *CONTEXT_EVENTS),
    )
    def of(self, events: Sequence[RunEvent], first: int) -> bytes:
        """The frames for `events`, the first of which has the number `first`."""
        frames = []
        for seq, event in enumerate(events, first):
            if isinstance(event, TextDelta):
                self._text.append(event.text)
            elif isinstance(event, StepDone):
                self._stored = len(self._text)
            elif isinstance(event, Resumed) and event.void:
                del self._text[self._stored :]
            elif isinstance(event, TERMINAL):
                self.ended = True
            if seq > self._after:
                frames.append(self._frame(seq, event))
        return b"".join(frames)

    def failure(self, problem: Problem) -> bytes:
        """The frame of an error. Nothing follows it."""
        return b"data: " + dumps(problem.envelope) + b"\n\n"

    def _frame(self, seq: int, event: RunEvent) -> bytes:
        name = "unknown" if isinstance(event, Unknown) else KINDS.of(event).name
        fields = {"type": name, "run_id": self._run_id, "seq": seq, **self._fields(event)}
        return b"id: %b:%d\nevent: %b\ndata: %b\n\n" % (
            self._id,
            seq,
            name.encode(),
            dumps(fields),
        )

    @consumes(
        Started, *DELTAS, *TOOL_EVENTS, *CONTEXT_EVENTS, StepDone, Waiting, Resumed, *TERMINAL
    )
    def _fields(self, event: RunEvent) -> dict[str, object]:
        match event:
            case TextDelta(text=text) | ReasoningDelta(text=text):
                return {"delta": text}
            case Started(queued=queued, history=history):
                return {"queued": queued, "history": history}
            case ToolStarted(call_id=call_id, name=name, arguments=arguments):
                return {"call_id": call_id, "name": name, "arguments": arguments}
            case ToolProgress(call_id=call_id, text=text):
                return {"call_id": call_id, "text": text}
            case ToolFinished(call_id=call_id, is_error=is_error, text=text):
                return {"call_id": call_id, "is_error": is_error, "text": text}
            case ClientCalls(calls=calls):
                return {
                    "calls": [
                        {"call_id": call.id, "name": call.name, "arguments": call.arguments}
                        for call in calls
                    ]
                }
            case CompactionEnded(before=before, after=after, failure=failure, retries=retries):
                failed = {"error": failure} if failure else {}
                return {"before": before, "after": after, "retries": retries, **failed}
            case Pruned(results=results, tokens=tokens):
                return {"results": results, "tokens": tokens}
            case StepDone(number=number):
                return {"step": number}
            case Waiting(what=what, approval_id=approval_id):
                return {"reason": what, "approval_id": approval_id}
            case Resumed(attempt=attempt, void=void, why=why):
                return {"attempt": attempt, "void": void, "reason": why}
            case Finished() | Failed() | Aborted():
                return self._ending(event)
            case CompactionStarted() | Unknown():
                return {}

    def _ending(self, event: Finished | Failed | Aborted) -> dict[str, object]:
        text = "".join(self._text) if self.whole is None else self.whole
        fields: dict[str, object] = {"status": status_after(event), "text": text}
        match event:
            case Finished(stop=stop, usage=usage, model=model):
                more = {"finish_reason": stop.finish_reason, "usage": _usage(usage), "model": model}
                return {**fields, **more}
            case Failed(code=code, message=message):
                return {**fields, "error": {"code": code, "message": message}}
            case Aborted(reason=reason):
                return {**fields, "error": {"code": "run_aborted", "message": reason}}


def _usage(usage: Usage) -> dict[str, object]:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
    }

"""Text completion objects, and the frames of those that are streamed."""

from __future__ import annotations

from collections.abc import Sequence

from .....domain.models import ReasoningDelta, StopReason, TextDelta
from .....domain.runs import (
    CONTEXT_EVENTS,
    TOOL_EVENTS,
    Aborted,
    Failed,
    Finished,
    Resumed,
    RunEvent,
    RunRecord,
    RunSpec,
    Started,
    StepDone,
    Waiting,
    consumes,
)
from ...answering import Answer, sent_text_is_void
from ...http import Problem
from ...http.json_text import dumps
from ..common import usage_object

Head = dict[str, object]


def head_of(run: RunSpec | RunRecord, model: str) -> Head:
    """What every object of one answer begins with; `model` is the string that the client sent."""
    return {
        "id": f"cmpl-{run.id}",
        "object": "text_completion",
        "created": int(run.accepted_at),
        "model": model,
    }


def completion(head: Head, answer: Answer, *, echo: str = "") -> bytes:
    """The body of a non-streaming answer, whose text begins with `echo`."""
    choice = _choice(echo + answer.text, _finish_reason(answer.finished))
    return dumps({**head, "choices": [choice], "usage": usage_object(answer.finished.usage)})


def _choice(text: str, finish_reason: str | None) -> dict[str, object]:
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": finish_reason}


def _finish_reason(finished: Finished) -> str:
    """Calls of a client's tools, which a decision of an approval can lead to, are not expressed in
    this format."""
    stopped = finished.stop is StopReason.TOOL_CALLS
    return "stop" if stopped else finished.stop.finish_reason


class Frames:
    """Writes the frames of one run, whose text begins with `echo`. `run_id`: named in the ids of
    events, as in streams of chat completions. `numbered`: each event has an id."""

    def __init__(
        self,
        head: Head,
        *,
        run_id: str,
        include_usage: bool,
        echo: str = "",
        numbered: bool = False,
    ) -> None:
        self._head = head
        self._run_id = run_id.encode()
        self._include_usage = include_usage
        self._usage: dict[str, object] = {"usage": None} if include_usage else {}
        self._echo = echo
        self._numbered = numbered
        self._unstored = False
        """The client has text of a step that is not stored."""
        self.ended = False
        """The last frame was written."""

    @consumes(
        TextDelta,
        StepDone,
        Resumed,
        Finished,
        ignores=(
            *(ReasoningDelta, Started, Waiting, Failed, Aborted),
            *(*TOOL_EVENTS, *CONTEXT_EVENTS),
        ),
    )
    def of(self, events: Sequence[RunEvent], first: int) -> bytes:
        """The frames for `events`, the first of which has the number `first`; empty where no event
        has a frame. The mark of the end has no id. Raises RunInterrupted where text that was sent
        is void."""
        if self._numbered and len(events) > 1:
            return b"".join([self.of((event,), seq) for seq, event in enumerate(events, first)])
        frames: list[bytes] = []
        for event in events:
            if isinstance(event, TextDelta):
                self._unstored = True
                frames.append(self._text(event.text))
            elif isinstance(event, StepDone):
                self._unstored = False
            elif isinstance(event, Resumed):
                if event.void and self._unstored:
                    raise sent_text_is_void()
            elif isinstance(event, Finished):
                frames.append(self._text("", _finish_reason(event)))
                if self._include_usage:
                    frames.append(self._frame([], usage=usage_object(event.usage)))
                self.ended = True
        if not frames:
            return b""
        joined = b"%bid: %b:%d\n\n" % (
            b"".join(frames)[:-1],
            self._run_id,
            first + len(events) - 1,
        )
        return joined + b"data: [DONE]\n\n" if self.ended else joined

    def failure(self, problem: Problem) -> bytes:
        """The frame of an error. Nothing follows it."""
        return b"data: " + dumps(problem.envelope) + b"\n\n"

    def _text(self, text: str, finish_reason: str | None = None) -> bytes:
        text, self._echo = self._echo + text, ""
        return self._frame([_choice(text, finish_reason)], **self._usage)

    def _frame(self, choices: list[dict[str, object]], **more: object) -> bytes:
        return b"data: " + dumps({**self._head, "choices": choices, **more}) + b"\n\n"

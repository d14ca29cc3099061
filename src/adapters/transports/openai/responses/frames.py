"""The events of a streamed answer.

https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from .....domain.messages import ToolCall
from .....domain.models import ReasoningDelta, TextDelta
from .....domain.runs import (
    CONTEXT_EVENTS,
    DELTAS,
    TOOL_EVENTS,
    Aborted,
    ClientCalls,
    Failed,
    Finished,
    Resumed,
    RunEvent,
    Started,
    StepDone,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    Waiting,
    consumes,
)
from ...http import Problem
from ...http.json_text import dumps
from ..common import Extras
from .objects import (
    Head,
    call_items,
    failed_object,
    finished_object,
    message_item,
    reasoning_item,
    response_object,
    status_of,
)

_DONE = b"data: [DONE]\n\n"


@dataclass(slots=True)
class _Open:
    """An item that is being written. `delta`: the frame of a text of it, up to the text."""

    index: int
    """Its place in the output."""
    number: int
    """Of its kind, from 0."""
    delta: bytes
    texts: list[str] = field(default_factory=list)
    stored: int = 0
    """How many of the texts are of steps that are stored."""


class Frames:
    """Writes the frames of one run.

    The numbers of the frames depend on the run's events alone, and not on how many are written at
    once. Each text of the model is one frame, whose constant parts are encoded once for an item.
    Nothing is written before there is a part of an answer, so that a run that fails before has its
    HTTP status; `at_once`: the first frames come with the first event, since their client needs the
    id.
    """

    def __init__(
        self, head: Head, *, extras: Extras, clock: Callable[[], float], at_once: bool = False
    ) -> None:
        """`clock`: Unix seconds."""
        self._at_once = at_once
        self._head = head
        self._extras = extras
        self._clock = clock
        self._number = 0
        """That of the next frame."""
        self._output: list[dict[str, object]] = []
        """The items so far. Open ones are as they began."""
        self._stored = 0
        """How many items there were when the last step was stored."""
        self._void: set[int] = set()
        """The places of items that are no part of the answer: a lost attempt has written them."""
        self._message: _Open | None = None
        self._reasoning: _Open | None = None
        self._thoughts = 0
        """How many items of reasoning there are."""
        self._answered = False
        """There is a message or a call."""
        self._tool_names: dict[str, str] = {}
        """By the ids of the calls, where tool activity is sent."""
        self.ended = False
        """The last frame was written."""

    @consumes(
        *DELTAS,
        *TOOL_EVENTS,
        StepDone,
        Resumed,
        Finished,
        ignores=(Started, Waiting, Failed, Aborted, *CONTEXT_EVENTS),
    )
    def of(self, events: Sequence[RunEvent], first: int) -> bytes:
        """The frames for `events`; empty where none has a frame. Failures are written by
        `failure`."""
        frames: list[bytes] = []
        if self._at_once:
            self._begin(frames)
        for event in events:
            if isinstance(event, TextDelta):
                if self._reasoning is not None:
                    self._close_reasoning(frames)
                self._delta(frames, self._message or self._open_message(frames), event.text)
                continue
            match event:
                case ReasoningDelta() if self._extras.reasoning:
                    thought = self._reasoning or self._open_reasoning(frames)
                    self._delta(frames, thought, event.text)
                case ToolStarted(call_id=call, arguments=arguments) if self._extras.tools:
                    self._tool_names[call] = event.name
                    self._tool(frames, call, "started", arguments=arguments)
                case ToolProgress(call_id=call) if self._extras.tools:
                    self._tool(frames, call, "progress", output=event.text)
                case ToolFinished(call_id=call) if self._extras.tools:
                    status = "failed" if event.is_error else "finished"
                    self._tool(frames, call, status, result=event.text)
                case ClientCalls():
                    self._calls(frames, event.calls)
                case StepDone():
                    self._step_done()
                case Resumed(void=void) if void:
                    self._drop_lost()
                case Finished():
                    self._finish(frames, event)
        return b"".join(frames)

    def failure(self, problem: Problem) -> bytes:
        """The last frames of a stream that failed. Items that are open are incomplete."""
        frames: list[bytes] = []
        self._begin(frames)
        if (opened := self._reasoning) is not None:
            self._output[opened.index] = self._thought(opened, "incomplete")
        if (opened := self._message) is not None:
            self._output[opened.index] = self._said(opened, "incomplete")
        self._last(frames, failed_object(self._head, problem, self._answer()))
        return b"".join(frames)

    def _step_done(self) -> None:
        self._stored = len(self._output)
        for opened in (self._message, self._reasoning):
            if opened is not None:
                opened.stored = len(opened.texts)

    def _drop_lost(self) -> None:
        """What was written since the last stored step is written again. Deltas cannot be taken
        back; the last frames of an item, and of the response, have the text that counts."""
        still_open = set()
        for opened in (self._message, self._reasoning):
            if opened is not None:
                del opened.texts[opened.stored :]
                still_open.add(opened.index)
        self._void |= set(range(self._stored, len(self._output))) - still_open

    def _answer(self) -> list[dict[str, object]]:
        """The items that are the answer."""
        return [item for place, item in enumerate(self._output) if place not in self._void]

    def _emit(self, frames: list[bytes], kind: str, fields: dict[str, object]) -> None:
        data = dumps({"type": kind, **fields, "sequence_number": self._number})
        frames.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), data))
        self._number += 1

    def _delta(self, frames: list[bytes], opened: _Open, text: str) -> None:
        opened.texts.append(text)
        form = b'%b%b,"sequence_number":%d}\n\n'
        frames.append(form % (opened.delta, dumps(text), self._number))
        self._number += 1

    def _begin(self, frames: list[bytes]) -> None:
        """The first two frames, before anything else."""
        if not self._number:
            begun: dict[str, object] = {"response": response_object(self._head, "in_progress")}
            self._emit(frames, "response.created", begun)
            self._emit(frames, "response.in_progress", begun)

    def _add(self, frames: list[bytes], item: dict[str, object]) -> int:
        """Begin an item; its place in the output."""
        self._begin(frames)
        index = len(self._output)
        self._output.append(item)
        added: dict[str, object] = {"output_index": index, "item": item}
        self._emit(frames, "response.output_item.added", added)
        return index

    def _complete(self, frames: list[bytes], index: int, item: dict[str, object]) -> None:
        self._output[index] = item
        done: dict[str, object] = {"output_index": index, "item": item}
        self._emit(frames, "response.output_item.done", done)

    def _open_message(self, frames: list[bytes]) -> _Open:
        item = message_item(self._head, "", "in_progress")
        index = self._add(frames, {**item, "content": []})
        place = _part_of(item, index, "content_index")
        self._emit(frames, "response.content_part.added", {**place, "part": _first(item)})
        delta = _delta_of("response.output_text.delta", {**place, "logprobs": []})
        self._message = _Open(index, 0, delta)
        self._answered = True
        return self._message

    def _close_message(self, frames: list[bytes], status: str) -> None:
        if (opened := self._message) is None:
            return
        item = self._said(opened, status)
        place = _part_of(item, opened.index, "content_index")
        text: dict[str, object] = {"logprobs": [], "text": "".join(opened.texts)}
        self._emit(frames, "response.output_text.done", {**place, **text})
        self._emit(frames, "response.content_part.done", {**place, "part": _first(item)})
        self._complete(frames, opened.index, item)
        self._message = None

    def _said(self, opened: _Open, status: str) -> dict[str, object]:
        return message_item(self._head, "".join(opened.texts), status)

    def _open_reasoning(self, frames: list[bytes]) -> _Open:
        number = self._thoughts
        self._thoughts += 1
        item = reasoning_item(self._head, number, "", "in_progress")
        index = self._add(frames, {**item, "summary": []})
        place = _part_of(item, index, "summary_index")
        part = {**place, "part": _first(item)}
        self._emit(frames, "response.reasoning_summary_part.added", part)
        delta = _delta_of("response.reasoning_summary_text.delta", place)
        self._reasoning = _Open(index, number, delta)
        return self._reasoning

    def _close_reasoning(self, frames: list[bytes]) -> None:
        if (opened := self._reasoning) is None:
            return
        if not opened.texts:
            self._void.add(opened.index)
        item = self._thought(opened, "completed")
        place = _part_of(item, opened.index, "summary_index")
        text = {**place, "text": "".join(opened.texts)}
        self._emit(frames, "response.reasoning_summary_text.done", text)
        part = {**place, "part": _first(item)}
        self._emit(frames, "response.reasoning_summary_part.done", part)
        self._complete(frames, opened.index, item)
        self._reasoning = None

    def _thought(self, opened: _Open, status: str) -> dict[str, object]:
        return reasoning_item(self._head, opened.number, "".join(opened.texts), status)

    def _calls(self, frames: list[bytes], calls: Iterable[ToolCall]) -> None:
        self._close_reasoning(frames)
        if self._message is not None and not self._message.texts:
            self._void.add(self._message.index)
        self._close_message(frames, "completed")
        self._answered = True
        for item in call_items(self._head, calls):
            index = self._add(frames, {**item, "status": "in_progress", "arguments": ""})
            place = {"item_id": item["id"], "output_index": index}
            kind, arguments = "response.function_call_arguments", item["arguments"]
            if arguments:
                self._emit(frames, f"{kind}.delta", {**place, "delta": arguments})
            done = {**place, "name": item["name"], "arguments": arguments}
            self._emit(frames, f"{kind}.done", done)
            self._complete(frames, index, item)

    def _tool(self, frames: list[bytes], call_id: str, status: str, **more: str) -> None:
        """An event for what a tool of the agent does."""
        self._begin(frames)
        tool = {"id": call_id, "name": self._tool_names.get(call_id, ""), "status": status, **more}
        self._emit(frames, "opensoul.tool", {"tool": tool})

    def _finish(self, frames: list[bytes], finished: Finished) -> None:
        self._close_reasoning(frames)
        if not self._answered:
            self._open_message(frames)
        self._close_message(frames, status_of(finished, self._head)[0])
        at = int(self._clock())
        self._last(frames, finished_object(self._head, finished, self._answer(), at))

    def _last(self, frames: list[bytes], response: dict[str, object]) -> None:
        self._emit(frames, f"response.{response['status']}", {"response": response})
        frames.append(_DONE)
        self.ended = True


def _part_of(item: dict[str, object], index: int, part: str) -> dict[str, object]:
    """The place of the only part of an item."""
    return {"item_id": item["id"], "output_index": index, part: 0}


def _first(item: dict[str, object]) -> object:
    """The only part of an item."""
    parts = item.get("content") or item.get("summary")
    return parts[0] if isinstance(parts, list) else None


def _delta_of(kind: str, place: dict[str, object]) -> bytes:
    """The frame of a text, up to the text."""
    fields = dumps({"type": kind, **place})
    return b'event: %b\ndata: %b,"delta":' % (kind.encode(), fields[:-1])

"""Message objects, and the events of those that are streamed.

https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ....domain.messages import ToolCall
from ....domain.models import ReasoningDelta, StopReason, TextDelta, Usage
from ....domain.runs import (
    CONTEXT_EVENTS,
    DELTAS,
    TOOL_EVENTS,
    Aborted,
    ClientCalls,
    Failed,
    Finished,
    Resumed,
    RunEvent,
    RunRecord,
    RunSpec,
    Started,
    StepDone,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    Waiting,
    consumes,
)
from ..answering import Answer, sent_text_is_void
from ..http import Problem
from ..http.json_text import dumps
from ..openai.common import Extras

_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<half>u[dD][89a-fA-F]..)|.)", re.DOTALL
)
"""An escape in a JSON text; a pair of surrogates is one."""
_STOP_REASONS = {
    StopReason.STOP: "end_turn",
    StopReason.LENGTH: "max_tokens",
    StopReason.TOOL_CALLS: "tool_use",
    StopReason.CONTENT_FILTER: "refusal",
}


@dataclass(frozen=True, slots=True)
class Head:
    """What a message begins with."""

    id: str
    model: str
    run_id: str = ""
    """Named in the ids of a stream's events; empty: they have none."""

    @property
    def fields(self) -> dict[str, object]:
        return {"id": self.id, "type": "message", "role": "assistant", "model": self.model}


def head_of(run: RunSpec | RunRecord, model: str) -> Head:
    """The head of the answer to `run`; `model` is the string that the client sent."""
    return Head(f"msg_{run.id}", model, run.id)


def message(head: Head, answer: Answer, extras: Extras) -> bytes:
    """The body of a non-streaming answer."""
    content: list[dict[str, object]] = []
    if answer.reasoning and extras.reasoning:
        content.append({"type": "thinking", "thinking": answer.reasoning, "signature": ""})
    if answer.text:
        content.append({"type": "text", "text": answer.text})
    blocks = [dumps(block) for block in content]
    blocks += [_with(_tool_use(call), "input", _input(call).encode()) for call in answer.calls]
    end = {**_end(answer.finished), "usage": usage_object(answer.finished.usage)}
    begin = _with(head.fields, "content", b"[%b]" % b",".join(blocks))
    return begin[:-1] + b"," + dumps(end)[1:]


def _with(fields: Mapping[str, object], name: str, value: bytes) -> bytes:
    """The JSON text of an object whose last field is `name`, with that JSON text as its value."""
    others = {key: one for key, one in fields.items() if key != name}
    return b'%b,"%b":%b}' % (dumps(others)[:-1], name.encode(), value)


def _end(finished: Finished) -> dict[str, object]:
    """Limits of a run end an answer as the limit of its tokens does."""
    if finished.stop is StopReason.STOP and finished.stop_sequence:
        return {"stop_reason": "stop_sequence", "stop_sequence": finished.stop_sequence}
    stop = _STOP_REASONS.get(finished.stop, "max_tokens")
    return {"stop_reason": stop, "stop_sequence": None}


def _tool_use(call: ToolCall) -> dict[str, object]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}


def _input(call: ToolCall) -> str:
    """The JSON text of the arguments, which were checked to be an object before the call was handed
    out. It is not read, so that integers keep their digits. Anthropic's library for Python cannot
    read halves of surrogate pairs: they become U+FFFD."""
    text = call.arguments
    if not text.isascii():
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return _ESCAPE.sub(_mended, text) if "\\u" in text else text


def _mended(escape: re.Match[str]) -> str:
    return "\\ufffd" if escape["half"] else escape[0]


def usage_object(usage: Usage) -> dict[str, object]:
    """Anthropic's usage object, whose input tokens are those beside the cached ones. `estimated` is
    ours: the provider reported nothing."""
    fields: dict[str, object] = {
        "input_tokens": max(0, usage.input - usage.cached - usage.cache_writes),
        "output_tokens": usage.output,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
        "cache_creation_input_tokens": usage.cache_writes,
        "cache_read_input_tokens": usage.cached,
    }
    if usage.estimated:
        fields["estimated"] = True
    return fields


def _event(kind: str, **fields: object) -> bytes:
    data = dumps({"type": kind, **fields})
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


_TEXT, _THINKING = "text", "thinking"
_EMPTY: Mapping[str, Mapping[str, Any]] = {
    _TEXT: {"type": _TEXT, "text": ""},
    _THINKING: {"type": _THINKING, "thinking": "", "signature": ""},
}
_DELTAS = {
    _TEXT: b'{"type":"text_delta","text":',
    _THINKING: b'{"type":"thinking_delta","thinking":',
}
_NO_USAGE = Usage(0, 0)
"""Providers report the usage at the end; `message_delta` has all of it."""


class Frames:
    """Writes the events of one run.

    An `id:` line names the last event that a client has read up to there, as in a stream of chunks.
    `numbered`: each event of the run has its own.
    """

    def __init__(self, head: Head, *, numbered: bool, extras: Extras, request_id: str = "") -> None:
        self._head = head
        self._request_id = request_id
        self._numbered = numbered
        self._extras = extras
        self._tool_names: dict[str, str] = {}
        """By the ids of the calls, where tool activity is sent."""
        self._id = b"id: " + head.run_id.encode() + b":" if head.run_id else b""
        self._begun = False
        self._blocks = 0
        """Content blocks that have begun."""
        self._open = ""
        """The type of the block that has not ended; empty: there is none."""
        self._unstored = False
        """The client has content of a step that is not stored."""
        self._delta = b""
        """How the events with deltas of that block begin."""
        self.ended = False
        """The last event was written."""

    @consumes(
        *DELTAS,
        *TOOL_EVENTS,
        StepDone,
        Resumed,
        Finished,
        ignores=(Started, Waiting, Failed, Aborted, *CONTEXT_EVENTS),
    )
    def of(self, events: Sequence[RunEvent], first: int) -> bytes:
        """The frames for `events`, the first of which has the number `first`. Empty where no event
        has a frame; failures are sent as errors by the caller. Raises RunInterrupted where what was
        sent is void."""
        if self._numbered and len(events) > 1:
            return b"".join([self.of((event,), seq) for seq, event in enumerate(events, first)])
        frames: list[bytes] = []
        for event in events:
            match event:
                case TextDelta(text=text):
                    self._add(_TEXT, text, frames)
                case ReasoningDelta(text=text) if self._extras.reasoning:
                    self._add(_THINKING, text, frames)
                case ToolStarted(call_id=call, arguments=arguments) if self._extras.tools:
                    self._tool_names[call] = event.name
                    frames.append(self._tool(call, "started", arguments=arguments))
                case ToolProgress(call_id=call) if self._extras.tools:
                    frames.append(self._tool(call, "progress", output=event.text))
                case ToolFinished(call_id=call) if self._extras.tools:
                    status = "failed" if event.is_error else "finished"
                    frames.append(self._tool(call, status, result=event.text))
                case ClientCalls(calls=calls):
                    for one in calls:
                        self._call(one, frames)
                case StepDone():
                    self._unstored = False
                case Resumed(void=void) if void and self._unstored:
                    raise sent_text_is_void()
                case Finished(usage=usage):
                    self._close(frames)
                    end = _end(event)
                    frames.append(_event("message_delta", delta=end, usage=usage_object(usage)))
                    frames.append(_event("message_stop"))
                    self.ended = True
        if frames and not self._begun:
            self._begun = True
            frames.insert(0, self._start())
        joined = b"".join(frames)
        if joined and self._id:
            joined = b"%b%b%d\n\n" % (joined[:-1], self._id, first + len(events) - 1)
        return joined

    def failure(self, problem: Problem) -> bytes:
        """The event of an error. Nothing follows it."""
        envelope = problem.anthropic_envelope(self._request_id)
        return b"event: error\ndata: " + dumps(envelope) + b"\n\n"

    def _start(self) -> bytes:
        empty: dict[str, object] = {"content": [], "stop_reason": None, "stop_sequence": None}
        whole = {**self._head.fields, **empty, "usage": usage_object(_NO_USAGE)}
        return _event("message_start", message=whole) + _event("ping")

    def _add(self, kind: str, text: str, frames: list[bytes]) -> None:
        if self._open != kind:
            self._close(frames)
            self._begin(_EMPTY[kind], frames)
            self._open = kind
            self._delta = (
                b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
                b'"delta":%b' % (self._blocks - 1, _DELTAS[kind])
            )
        self._unstored = True
        frames += (self._delta, dumps(text), b"}}\n\n")

    def _begin(self, block: Mapping[str, Any], frames: list[bytes]) -> None:
        self._unstored = True
        frames.append(_event("content_block_start", index=self._blocks, content_block=block))
        self._blocks += 1

    def _close(self, frames: list[bytes]) -> None:
        if self._open:
            self._open = ""
            frames.append(_event("content_block_stop", index=self._blocks - 1))

    def _call(self, call: ToolCall, frames: list[bytes]) -> None:
        self._close(frames)
        self._begin(_tool_use(call), frames)
        index = self._blocks - 1
        delta = {"type": "input_json_delta", "partial_json": _input(call)}
        frames.append(_event("content_block_delta", index=index, delta=delta))
        frames.append(_event("content_block_stop", index=index))

    def _tool(self, call_id: str, status: str, **more: str) -> bytes:
        name = self._tool_names.get(call_id, "")
        return _event("opensoul.tool", tool={"id": call_id, "name": name, "status": status, **more})

"""A chat completion as it comes over the wire, turned into ModelEvents.

Read leniently where providers are known to differ and the meaning is plain, strictly where an
answer could be taken for complete that is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...domain.errors import FailureKind, ModelFailed
from ...domain.model_calls import (
    ModelEvent,
    ModelFinished,
    ReasoningDelta,
    StopReason,
    TextDelta,
    Usage,
)
from . import openai_fields as fields
from .openai_errors import Said, read_error
from .openai_failures import Failures
from .openai_repeats import Repeats
from .openai_sse import EventStream, EventTooLong
from .openai_tool_calls import ToolCalls

_DONE = b"[DONE]"
_NOTHING: tuple[object, ...] = (None, "", [])


class Answer:
    """The answer to one call. Every method raises ModelFailed where the provider errs.

    Feed it the body's pieces, tell it of the end, and `check` after each; `done` says that nothing
    more is to be read.
    """

    def __init__(self, failures: Failures) -> None:
        self._failures = failures
        self._stream = EventStream()
        self._repeats = Repeats()
        self._calls = ToolCalls()
        self._finish_reason: str | None = None
        self._usage: Usage | None = None
        self._spoken = False
        """Text or a tool call was seen."""
        self._failure: ModelFailed | None = None
        self.done = False

    def feed(self, piece: bytes) -> Sequence[ModelEvent]:
        """The events that a piece of the event stream completes: up to a failure, where there are
        any before it, and `check` raises it then."""
        events: list[ModelEvent] = []
        while piece and self._failure is None and not self.done:
            if self._stream.between_events:
                texts, piece = self._repeats.texts(piece)
                events += [TextDelta(text) for text in texts if text]
            part, piece = self._repeats.lesson(piece)
            try:
                payloads = self._stream.feed(part)
            except EventTooLong:
                payloads = None
            if payloads is None:
                self._fail(self._failures.unusable("one event of its stream is too long"), events)
            else:
                self._read(payloads, events)
        return events

    def end(self) -> Sequence[ModelEvent]:
        """The same of the end of the stream; without a finish reason before it, it was cut."""
        events: list[ModelEvent] = []
        self._read(self._stream.finish(), events)
        if not self.done and self._failure is None:
            if self._finish_reason is None:
                cut = self._failures.unusable("its stream ended before the answer was complete")
                self._fail(cut, events)
            self.done = True
        return events

    def check(self) -> None:
        """Raises what went wrong behind the last events."""
        if self._failure is not None:
            raise self._failure

    def whole(self, body: bytes) -> Sequence[ModelEvent]:
        """The events of an answer that came in one piece: the provider does not stream."""
        chunk = fields.loads(body)
        if not isinstance(chunk, dict):
            raise self._malformed(body.decode("utf-8", "replace"))
        events = self._chunk(chunk, "message")
        self._close()
        return events

    def finished(self) -> ModelFinished:
        """The last event, once `done`."""
        reason = (self._finish_reason or "stop").lower()
        stop = _STOPS.get(reason, StopReason.STOP)
        if stop in (StopReason.STOP, StopReason.TOOL_CALLS):
            # Some say "stop" behind a tool call, and some "tool_calls" without any.
            stop = StopReason.TOOL_CALLS if self._calls.any else StopReason.STOP
        return ModelFinished(stop, self._usage)

    def _read(self, payloads: Sequence[bytes], events: list[ModelEvent]) -> None:
        """Add what the payloads tell to the events before them."""
        try:
            for payload in payloads:
                if self.done:
                    break
                chunk = fields.loads(payload)
                text = fields.only_text(chunk)
                self._repeats.learn(payload, text)
                if text:
                    self._spoken = True
                    events.append(TextDelta(text))
                elif isinstance(chunk, dict):
                    events += self._chunk(chunk, "delta")
                else:
                    self._other(payload)
        except ModelFailed as failure:
            self._fail(failure, events)

    def _fail(self, failure: ModelFailed, events: Sequence[ModelEvent]) -> None:
        """Raise it now, or once the events that came before it are told."""
        if not events:
            raise failure
        self._failure = failure

    def _other(self, payload: bytes) -> None:
        """What is no JSON object may be the mark of the end, or nothing."""
        stripped = payload.strip()
        if stripped == _DONE:
            self._close()
        elif stripped:
            raise self._malformed(payload.decode("utf-8", "replace"))

    def _close(self) -> None:
        """The provider says that this is all."""
        if self._finish_reason is None and not self._spoken:
            raise self._failures.unusable("it ended without saying anything")
        self.done = True

    def _chunk(self, chunk: dict[str, Any], body: str) -> Sequence[ModelEvent]:
        if said := read_error(chunk):
            raise self._failures.told(said, chunk)
        if usage := chunk.get("usage"):
            self._usage = fields.usage(usage) or self._usage
        choice = self._first_choice(chunk)
        if choice is None:
            return ()
        delta = choice.get(body)
        events: Sequence[ModelEvent] = ()
        if isinstance(delta, dict):
            if any(value not in _NOTHING for name, value in delta.items() if name != "role"):
                events = tuple(self._delta(delta))
        elif delta is not None:
            raise self._malformed(repr(chunk))
        if reason := choice.get("finish_reason"):
            self._finish(str(reason))
        return events

    def _first_choice(self, chunk: dict[str, Any]) -> dict[str, Any] | None:
        """The choice number 0; others are not asked for, and not looked at when they come."""
        choices = chunk.get("choices") or []
        if not isinstance(choices, list):
            raise self._malformed(repr(chunk))
        for choice in choices:
            if not isinstance(choice, dict):
                raise self._malformed(repr(chunk))
            if not choice.get("index"):
                return choice
        return None

    def _delta(self, delta: dict[str, Any]) -> Iterator[ModelEvent]:
        content = delta.get("content")
        if content is not None and not isinstance(content, str | list):
            raise self._malformed(repr(delta))
        if thought := fields.reasoning(delta):
            yield ReasoningDelta(thought)
        for text in (fields.text(content), delta.get("refusal")):
            if text and isinstance(text, str):
                self._spoken = True
                yield TextDelta(text)
        pieces = delta.get("tool_calls") or []
        if function := delta.get("function_call"):
            # The older form of a single call. It is not asked for, but a model that calls
            # something must not seem to have said nothing.
            pieces = [{"index": 0, "function": function}]
        deltas = self._calls.read(pieces)
        if deltas is None:
            raise self._malformed(repr(delta))
        self._spoken = self._spoken or self._calls.any
        yield from deltas

    def _finish(self, reason: str) -> None:
        kind = _FAILED.get(reason.lower())
        if kind is FailureKind.OVERLOADED:
            raise self._failures.told(Said(slugs="overloaded"), {"finish_reason": reason})
        if kind is not None:
            raise self._failures.unusable(f"it broke the answer off ({reason!r})")
        self._finish_reason = reason

    def _malformed(self, excerpt: str) -> ModelFailed:
        return self._failures.unusable("it is no chat completion", excerpt)


_STOPS: Mapping[str, StopReason] = {
    "length": StopReason.LENGTH,
    "max_tokens": StopReason.LENGTH,
    "model_length": StopReason.LENGTH,  # Mistral
    "content_filter": StopReason.CONTENT_FILTER,
    "tool_calls": StopReason.TOOL_CALLS,
    "function_call": StopReason.TOOL_CALLS,
}
_FAILED: Mapping[str, FailureKind] = {
    "error": FailureKind.BAD_RESPONSE,  # OpenRouter, of a provider that failed
    "abort": FailureKind.BAD_RESPONSE,  # vLLM
    "insufficient_system_resource": FailureKind.OVERLOADED,  # DeepSeek
}

"""Converts the bytes of a chat completion into ModelEvents.

This module detects incomplete answers; `chunks` reads the content of the chunks.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from .....domain.errors import ModelFailed
from .....domain.models import ModelEvent, ModelFinished, TextDelta
from ...http import (
    DONE,
    ErrorEvent,
    EventStream,
    EventTooLong,
    FailureFactory,
    StrayLine,
    json_text,
)
from . import fields
from .chunk_template import ChunkTemplate
from .chunks import STREAMED, WHOLE, Chunks, Malformed

_LONGEST_LAST_CHUNK = 64 * 1024
"""Maximum size in bytes of an unterminated event that is examined for a finish reason."""


class Answer:
    """The answer to one call. Every method may raise ModelFailed.

    Call `feed` with each piece of the body, `end` after the last, and `check` after each of these
    calls; stop when `done`. `content_type` is used in error messages; `wait` is the `Retry-After`
    of the headers in seconds.
    """

    def __init__(
        self, failures: FailureFactory, content_type: str = "", wait: float | None = None
    ) -> None:
        self._failures = failures
        self._content_type = content_type
        self._stream = EventStream()
        self._template = ChunkTemplate()
        self._chunks = Chunks(failures, wait)
        self._halves = self._chunks.halves
        self._failure: ModelFailed | None = None
        self.done = False

    @property
    def has_finished(self) -> bool:
        """Whether a finish reason arrived, possibly in an unterminated event; only usage and
        `[DONE]` may follow it."""
        return self._chunks.finish_reason is not None or self._has_pending_reason()

    def feed(self, piece: bytes) -> Sequence[ModelEvent]:
        """The events that a piece of the event stream completes. If a failure follows some of
        them, they are returned, and `check` raises the failure.

        The template reads as much as it can. What it leaves is decoded: a single event while the
        template is being learned, so that the rest of the piece can use it, else all of it. The
        template is not used within an event or a surrogate pair.
        """
        events: list[ModelEvent] = []
        while piece and self._failure is None and not self.done:
            if self._stream.between_events and not self._halves:
                match, piece = self._template.match(piece)
                events += [TextDelta(text) for text in match if text]
                if not piece:
                    break
            part, piece = self._template.sample(piece)
            try:
                payloads = self._stream.feed(part)
            except EventTooLong:
                payloads = None
            if payloads is None:
                self._fail(self._failures.unusable("one event of its stream is too long"), events)
            else:
                self._read(payloads, events)
        return events

    def end(self, cut: ModelFailed | None = None) -> Sequence[ModelEvent]:
        """The events that the end of the stream completes. Without a finish reason the stream was
        cut off; `cut` is the error of the connection."""
        events: list[ModelEvent] = []
        self._end(events, cut)
        return events

    def check(self) -> None:
        """Raise the failure that followed the last events."""
        if self._failure is not None:
            raise self._failure

    def whole(self, body: bytes, cut: ModelFailed | None = None) -> Sequence[ModelEvent]:
        """The events of an answer that is not an event stream: one JSON document, or chunks as
        lines of JSON. `cut`: the error of the connection."""
        events: list[ModelEvent] = []
        if json_text.loads(body) is None and b"\n" in body.strip():
            events += self.feed(body)
            self._end(events, cut)
        elif cut is not None and not _is_whole(body):
            raise cut
        else:
            self._read([body], events, WHOLE)
            if not self.done and self._failure is None:
                self._close(events)
        return events

    def finished(self) -> ModelFinished:
        return self._chunks.finished()

    def _read(
        self,
        payloads: Sequence[bytes],
        events: list[ModelEvent],
        names: Sequence[str] = STREAMED,
    ) -> None:
        for payload in payloads:
            if self.done or self._failure is not None:
                break
            if json_text.is_excessive(payload):
                self._fail(self._unusable("one of its events has too many JSON values"), events)
                break
            try:
                chunk = orjson.loads(payload)
            except orjson.JSONDecodeError:
                chunk = None
            text = fields.only_text(chunk)
            self._template.observe(payload, text)
            if text and not self._halves:
                self._chunks.source = "delta"
                events.append(TextDelta(text))
            else:
                self._read_other(payload, chunk, events, names)

    def _has_pending_reason(self) -> bool:
        if self._stream.between_events or self._stream.size > _LONGEST_LAST_CHUNK:
            return False
        event = self._stream.pending()
        whole = event.rstrip().endswith(b"}") and b'"finish_reason"' in event
        return whole and fields.has_reason(json_text.loads(event))

    def _end(self, events: list[ModelEvent], cut: ModelFailed | None) -> None:
        self._read(list(filter(_is_whole, self._stream.finish())), events)
        if not self.done and self._failure is None:
            if self.has_finished:
                self._close(events)
            else:
                cut = cut or self._unusable("its stream ended before the answer was complete")
                self._fail(cut, events)
            self.done = True

    def _read_other(
        self, payload: bytes, chunk: object, events: list[ModelEvent], names: Sequence[str]
    ) -> None:
        """Add the events of a payload that is not a chunk of text only."""
        failure: ModelFailed | None = None
        try:
            self._decode(payload, chunk, events, names)
        except ModelFailed as error:
            failure = error
        except Malformed as error:
            if not self.has_finished:
                failure = self._unusable("it is not a chat completion", str(error))
        if failure is not None:
            self._fail(failure, events)

    def _decode(
        self, payload: bytes, chunk: object, events: list[ModelEvent], names: Sequence[str]
    ) -> None:
        if chunk is None:
            if payload.strip() == DONE:
                self._close(events)
                return
            chunk = json_text.lenient(payload)
        is_error = isinstance(payload, ErrorEvent)
        if is_error:
            text = payload.decode("utf-8", "replace")
            self._chunks.check(text if chunk is None else chunk, named=True)
        if isinstance(chunk, dict):
            events += self._chunks.read(chunk, names)
        elif isinstance(chunk, list) and chunk and all(isinstance(c, dict) for c in chunk):
            for part in chunk:
                events += self._chunks.read(part, names)
        elif payload.strip() and not is_error and not isinstance(payload, StrayLine):
            raise Malformed(payload.decode("utf-8", "replace"))

    def _fail(self, failure: ModelFailed, events: Sequence[ModelEvent]) -> None:
        """Raise now if there are no events to return first, else in `check`."""
        if not events:
            raise failure
        self._failure = failure

    def _close(self, events: list[ModelEvent]) -> None:
        """Complete the answer; fail if it is empty and its finish reason does not permit that."""
        chunks = self._chunks
        if self.has_finished:
            explained = chunks.may_be_empty or not (chunks.unread or chunks.announces_calls)
            incomplete = chunks.is_empty and not explained
        else:
            incomplete = chunks.source is None
        if incomplete:
            self._fail(self._unusable("it ended without any content"), events)
        else:
            events += chunks.end()
            self.done = True

    def _unusable(self, problem: str, excerpt: str = "") -> ModelFailed:
        """The failure; if no content was recognised, its message describes what was received."""
        if self._chunks.is_empty:
            if (remark := self._chunks.remark) is not None:
                return remark
            if unread := self._chunks.unread:
                problem = f"it is not a chat completion; it contains {unread}"
            problem += f" (content type: {self._content_type or 'none'})"
        return self._failures.unusable(problem, excerpt)


def is_complete(body: bytes) -> bool:
    """Whether the body is a complete answer: a JSON document, or lines of chunks of which one of
    the last two has a finish reason."""
    document = json_text.loads(body)
    if document is not None:
        return not fields.is_partial(document)
    # The usage may follow the line with the finish reason.
    last = body.rstrip().rsplit(b"\n", 2)[1:]
    return any(fields.has_reason(json_text.loads(line)) for line in last)


def _is_whole(payload: bytes) -> bool:
    """Whether the last payload of a stream was not cut off."""
    if isinstance(payload, ErrorEvent) or not payload.strip() or payload.strip() == DONE:
        return True
    return json_text.loads(payload) is not None

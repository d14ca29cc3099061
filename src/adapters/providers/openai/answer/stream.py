"""A chat completion as it comes over the wire, turned into ModelEvents.

Strict where an answer could be taken for complete that is not; `openai_chunks` reads what the
chunks of the answer hold.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from .....domain.errors import ModelFailed
from .....domain.models import ModelEvent, ModelFinished, TextDelta
from .. import json as openai_json
from ..failures import FailureFactory
from . import fields as fields
from .chunk_template import ChunkTemplate
from .chunks import STREAMED, WHOLE, Chunks, Malformed
from .sse import DONE, ErrorEvent, EventStream, EventTooLong, StrayLine

_LONGEST_LAST_CHUNK = 64 * 1024
"""Bytes of an event without its end that may be the last one."""


class Answer:
    """The answer to one call. Every method raises ModelFailed where the provider errs.

    Feed it the body's pieces, call `end` behind the last, and `check` after each; `done` says that
    nothing more is to be read. `content_type` is the body's, for error messages; `wait` is the
    number of seconds that its headers advise after an error.
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
        """Whether a finish reason came, also in an event whose end is missing: only usage and the
        mark of the end may follow."""
        return self._chunks.finish_reason is not None or self._reason_waits()

    def feed(self, piece: bytes) -> Sequence[ModelEvent]:
        """The events that a piece of the event stream completes: up to a failure, where there are
        any before it, and `check` raises it then."""
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
        """The events that the end of the stream completes. Without a finish reason before it, the
        stream was cut; `cut` is what went wrong with the connection."""
        events: list[ModelEvent] = []
        self._end(events, cut)
        return events

    def check(self) -> None:
        """Raises what went wrong behind the last events."""
        if self._failure is not None:
            raise self._failure

    def whole(self, body: bytes, cut: ModelFailed | None = None) -> Sequence[ModelEvent]:
        """The events of an answer that came in one piece: the provider does not stream. Chunks as
        lines of JSON are read as well. `cut`: what went wrong with the connection."""
        events: list[ModelEvent] = []
        if openai_json.loads(body) is None and b"\n" in body.strip():
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
        """The last event, once `done`."""
        return self._chunks.finished()

    def _read(
        self,
        payloads: Sequence[bytes],
        events: list[ModelEvent],
        names: Sequence[str] = STREAMED,
    ) -> None:
        """Add the events of the payloads to those before them."""
        for payload in payloads:
            if self.done or self._failure is not None:
                break
            if openai_json.is_excessive(payload):
                self._fail(self._unusable("a part of it holds too many JSON values"), events)
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

    def _reason_waits(self) -> bool:
        if self._stream.between_events or self._stream.size > _LONGEST_LAST_CHUNK:
            return False
        event = self._stream.waiting()
        whole = event.rstrip().endswith(b"}") and b'"finish_reason"' in event
        return whole and fields.has_reason(openai_json.loads(event))

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
        """Add the events of a payload that is no chunk of text alone."""
        failure: ModelFailed | None = None
        try:
            self._decode(payload, chunk, events, names)
        except ModelFailed as error:
            failure = error
        except Malformed as error:
            if not self.has_finished:
                failure = self._unusable("it is no chat completion", str(error))
        if failure is not None:
            self._fail(failure, events)

    def _decode(
        self, payload: bytes, chunk: object, events: list[ModelEvent], names: Sequence[str]
    ) -> None:
        if chunk is None:
            if payload.strip() == DONE:
                self._close(events)
                return
            chunk = openai_json.lenient(payload)
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
        """Raise it now, or in `check` once the events before it were passed on."""
        if not events:
            raise failure
        self._failure = failure

    def _close(self, events: list[ModelEvent]) -> None:
        """Complete the answer, unless it is empty and nothing explains that."""
        chunks = self._chunks
        if self.has_finished:
            explained = chunks.may_be_empty or not (chunks.unread or chunks.announces_calls)
            incomplete = chunks.is_empty and not explained
        else:
            incomplete = chunks.source is None
        if incomplete:
            self._fail(self._unusable("it ended without saying anything"), events)
        else:
            events += chunks.end()
            self.done = True

    def _unusable(self, problem: str, excerpt: str = "") -> ModelFailed:
        """Where nothing was understood at all, the message says what came."""
        if self._chunks.is_empty:
            if (remark := self._chunks.remark) is not None:
                return remark
            if unread := self._chunks.unread:
                problem = f"it is no chat completion; it holds {unread}"
            problem += f" (content type: {self._content_type or 'none'})"
        return self._failures.unusable(problem, excerpt)


def _is_whole(payload: bytes) -> bool:
    """Whether the last payload of a stream was not cut."""
    if isinstance(payload, ErrorEvent) or not payload.strip() or payload.strip() == DONE:
        return True
    return openai_json.loads(payload) is not None

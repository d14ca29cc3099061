"""Converts the events of a message into ModelEvents.

The events: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from ....domain.errors import ModelFailed
from ....domain.models import (
    ModelEvent,
    ModelFinished,
    ReasoningDelta,
    ReasoningSigned,
    StopReason,
    TextDelta,
    ToolCallDelta,
)
from ..http import (
    DONE,
    ErrorEvent,
    EventStream,
    EventTooLong,
    FailureFactory,
    PairJoiner,
    StrayLine,
    json_text,
    read_error,
)
from .usage import UsageCounts

_STOPS: Mapping[str, StopReason] = {
    "max_tokens": StopReason.LENGTH,
    "model_context_window_exceeded": StopReason.LENGTH,
    "refusal": StopReason.CONTENT_FILTER,
}
_MOST_BLOCKS = 1_024


@dataclass(slots=True)
class _Block:
    """A content block that has begun. `call` is the number of its call."""

    kind: str
    call: int = 0
    arguments: str = ""
    """The arguments of a call that came with its start; pieces that follow replace them."""
    has_pieces: bool = False
    signature: list[str] = field(default_factory=list)


class Answer:
    """Implements the protocol of this name for one message."""

    def __init__(
        self, failures: FailureFactory, content_type: str = "", wait: float | None = None
    ) -> None:
        self._failures = failures
        self._content_type = content_type
        self._wait = wait
        self._stream = EventStream()
        self._pairs = PairJoiner()
        self._blocks: dict[int, _Block] = {}
        self._begun = 0
        """Blocks that have begun."""
        self._calls = 0
        self._usage = UsageCounts()
        self._stop: str | None = None
        self._stop_sequence = ""
        self._is_empty = True
        self._unread = ""
        """The first type of content that is unknown here."""
        self._failure: ModelFailed | None = None
        self.done = False

    @property
    def has_finished(self) -> bool:
        return self._stop is not None

    def feed(self, piece: bytes) -> Sequence[ModelEvent]:
        try:
            payloads = self._stream.feed(piece)
        except EventTooLong:
            payloads = None
        if payloads is None:
            raise self._failures.unusable("one event of its stream is too long")
        events: list[ModelEvent] = []
        self._read(payloads, events)
        return events

    def end(self, cut: ModelFailed | None = None) -> Sequence[ModelEvent]:
        events: list[ModelEvent] = []
        # A payload that was cut off is no reason to report anything else than that.
        whole = [one for one in self._stream.finish() if json_text.loads(one) is not None]
        self._read(whole, events)
        if not self.done and self._failure is None:
            if self.has_finished:
                self._close(events)
            else:
                problem = "its stream ended before the answer was complete"
                self._fail(cut or self._unusable(problem), events)
            self.done = True
        return events

    def check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def whole(self, body: bytes, cut: ModelFailed | None = None) -> Sequence[ModelEvent]:
        """The events of a message in one JSON document, from a provider that does not stream."""
        document = json_text.loads(body)
        if document is None and cut is not None:
            raise cut
        if isinstance(document, dict) and (error := read_error(document)):
            raise self._failures.reported(error, document, self._wait)
        blocks = document.get("content") if isinstance(document, dict) else None
        if not isinstance(document, dict) or not isinstance(blocks, list):
            raise self._unusable("it is not a message", body[:200].decode("utf-8", "replace"))
        events: list[ModelEvent] = []
        for index, block in enumerate(blocks):
            events += self._event({"index": index, "content_block": block}, "content_block_start")
            events += self._event({"index": index}, "content_block_stop")
        self._finish(document)
        if self._stop is None:
            self._stop = "end_turn"
        self._close(events)
        return events

    def finished(self) -> ModelFinished:
        stop = _STOPS.get(self._stop or "", StopReason.STOP)
        if stop is StopReason.STOP and self._calls:
            stop = StopReason.TOOL_CALLS
        return ModelFinished(stop, self._usage.total(), self._stop_sequence)

    def _read(self, payloads: Sequence[bytes], events: list[ModelEvent]) -> None:
        for payload in payloads:
            if self.done or self._failure is not None:
                break
            failure: ModelFailed | None = None
            try:
                events += self._payload(payload)
            except ModelFailed as error:
                failure = error
            if failure is not None:
                self._fail(failure, events)
            elif self.done:
                self._close(events)

    def _payload(self, payload: bytes) -> Sequence[ModelEvent]:
        if json_text.is_excessive(payload):
            raise self._unusable("one of its events has too many JSON values")
        try:
            document = orjson.loads(payload)
        except orjson.JSONDecodeError:
            document = json_text.lenient(payload)
        is_error = isinstance(payload, ErrorEvent)
        if is_error or (isinstance(document, dict) and "error" in document):
            text = payload.decode("utf-8", "replace") if document is None else document
            if error := read_error(text, named=is_error):
                raise self._failures.reported(error, document, self._wait)
        if isinstance(document, dict):
            return list(self._event(document, str(document.get("type"))))
        if payload.strip() == DONE:
            self.done = True
        elif payload.strip() and not isinstance(payload, StrayLine) and not self.has_finished:
            excerpt = payload[:200].decode("utf-8", "replace")
            raise self._unusable("it is not a message", excerpt)
        return ()

    def _event(self, event: dict[str, Any], kind: str) -> Iterator[ModelEvent]:
        """The ModelEvents of an event. Unknown events are passed over, as the API requires."""
        index = event.get("index")
        index = index if isinstance(index, int) else 0
        match kind:
            case "message_start":
                self._usage.read(_object(event.get("message")).get("usage"))
            case "content_block_start":
                yield from self._start(index, _object(event.get("content_block")))
            case "content_block_delta":
                yield from self._delta(index, _object(event.get("delta")))
            case "content_block_stop":
                yield from self._end_block(self._blocks.pop(index, None))
            case "message_delta":
                self._finish({**event, **_object(event.get("delta"))})
            case "message_stop":
                self.done = True

    def _start(self, index: int, content: dict[str, Any]) -> Iterator[ModelEvent]:
        yield from self._end_block(self._blocks.pop(index, None))
        self._begun += 1
        if self._begun > _MOST_BLOCKS:
            raise self._failures.unusable(f"it holds more than {_MOST_BLOCKS} content blocks")
        block = self._blocks[index] = _Block(str(content.get("type")))
        match block.kind:
            case "text":
                yield from self._text(content.get("text"))
            case "thinking":
                block.signature.append(_text(content.get("signature")))
                yield from self._thought(content.get("thinking"))
            case "redacted_thinking":
                if data := _text(content.get("data")):
                    yield ReasoningSigned(data, redacted=True)
            case "tool_use":
                self._is_empty = False
                block.call = self._calls
                self._calls += 1
                if content.get("input"):
                    block.arguments = json_text.shown(content["input"])
                name = json_text.repaired(_text(content.get("name")))
                call_id = json_text.repaired(_text(content.get("id")))
                yield ToolCallDelta(block.call, call_id or None, name or None)
            case kind:
                self._unread = self._unread or f"a content block of type {kind[:50]!r}"

    def _delta(self, index: int, delta: dict[str, Any]) -> Iterator[ModelEvent]:
        block = self._blocks.get(index)
        match delta.get("type"):
            case "text_delta":
                yield from self._text(delta.get("text"))
            case "thinking_delta":
                yield from self._thought(delta.get("thinking"))
            case "signature_delta" if block is not None:
                block.signature.append(_text(delta.get("signature")))
            case "input_json_delta" if block is not None and block.kind == "tool_use":
                if piece := self._pairs.join(block.call, _text(delta.get("partial_json"))):
                    block.has_pieces = True
                    yield ToolCallDelta(block.call, arguments=piece)

    def _end_block(self, block: _Block | None) -> Iterator[ModelEvent]:
        if block is None:
            return
        yield from self._held_back()
        if block.kind == "tool_use" and not block.has_pieces:
            yield ToolCallDelta(block.call, arguments=block.arguments or "{}")
        elif block.kind == "thinking" and (signature := "".join(block.signature)):
            yield ReasoningSigned(signature)

    def _text(self, text: object) -> Iterator[ModelEvent]:
        if text and isinstance(text, str):
            self._is_empty = False
            if joined := self._pairs.join(TextDelta, text):
                yield TextDelta(joined)

    def _thought(self, text: object) -> Iterator[ModelEvent]:
        if text and isinstance(text, str):
            self._is_empty = False
            if joined := self._pairs.join(ReasoningDelta, text):
                yield ReasoningDelta(joined)

    def _held_back(self) -> Iterator[ModelEvent]:
        """The events for surrogates whose other half did not arrive."""
        for key, text in self._pairs.end():
            if isinstance(key, int):
                yield ToolCallDelta(key, arguments=text)
            else:
                yield TextDelta(text) if key is TextDelta else ReasoningDelta(text)

    def _finish(self, document: dict[str, Any]) -> None:
        if isinstance(reason := document.get("stop_reason"), str):
            self._stop = reason
        if self._stop == "stop_sequence":
            self._stop_sequence = json_text.repaired(_text(document.get("stop_sequence")))
        self._usage.read(document.get("usage"))

    def _close(self, events: list[ModelEvent]) -> None:
        """Complete the answer; fail if it is incomplete, or if it could not be read at all."""
        for index in sorted(self._blocks):
            events += self._end_block(self._blocks.pop(index))
        events += self._held_back()
        self.done = True
        if self._is_empty and (self._stop is None or self._unread):
            self._fail(self._unusable("it ended without any content"), events)

    def _fail(self, failure: ModelFailed, events: Sequence[ModelEvent]) -> None:
        """Raise now if there are no events to return first, else in `check`."""
        if not events:
            raise failure
        self._failure = failure

    def _unusable(self, problem: str, excerpt: str = "") -> ModelFailed:
        if self._is_empty:
            if self._unread:
                problem = f"{problem}; it contains {self._unread}"
            problem += f" (content type: {self._content_type or 'none'})"
        return self._failures.unusable(problem, excerpt)


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""

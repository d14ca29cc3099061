"""Converts the decoded chunks of one answer into ModelEvents.

Known differences between providers are accepted. Content in an unknown form is recorded, so that
an answer that could not be read at all is reported as unusable rather than as empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .....domain.errors import FailureKind, ModelFailed
from .....domain.models import (
    ModelEvent,
    ModelFinished,
    ReasoningDelta,
    StopReason,
    TextDelta,
    ToolCallDelta,
)
from ...http import FailureFactory, PairJoiner, ProviderError, read_error, read_remark
from . import fields
from .tool_calls import ToolCalls
from .usage import UsageCounts

STREAMED = ("delta", "message", "text")
"""The fields of a choice that may contain its content, the standard one first."""
WHOLE = ("message", "delta", "text")

_MAX_CHOICES = 128
"""The maximum of the parameter `n`."""
_BESIDE_CHOICES = frozenset(
    (
        *("id", "object", "created", "model", "choices", "usage", "system_fingerprint", "type"),
        *("service_tier", "provider", "obfuscation", "prompt_filter_results"),
        *("x_groq", "error", "base_resp"),
    )
)
_BESIDE_CONTENT = frozenset(
    (
        *("index", "finish_reason", "native_finish_reason", "stop_reason", "matched_stop"),
        *("role", "seed", "usage", "logprobs", "content_filter_results"),
    )
)


class Malformed(Exception):
    """A chunk does not have the shape of a chat completion; the text is an excerpt for the log."""


class Chunks:
    """The state of one answer. `wait`: the `Retry-After` of its headers, for errors within it.

    `read` raises Malformed, or ModelFailed if the provider reports an error.
    """

    def __init__(self, failures: FailureFactory, wait: float | None = None) -> None:
        self._failures = failures
        self._wait = wait
        self._pairs = PairJoiner()
        self.halves = self._pairs.held
        """Non-empty while a leading surrogate waits for the next piece of its text."""
        self._calls = ToolCalls(failures, self._pairs)
        self._usage = UsageCounts()
        self._index: int | None = None
        """The index of the selected choice, once a chunk had several choices."""
        self._alone: int | None = None
        """The index of the last choice that was the only one of its chunk."""
        self._numbers_pieces = False
        """The provider numbers chunks in `index`: single choices had different indexes."""
        self.source: str | None = None
        """The field of a choice in which text or a tool call was found; the standard field takes
        precedence over others."""
        self._reasoned = False
        self._refused = False
        """The model has declined to answer; its text says so."""
        self.finish_reason: str | None = None
        self.unread = ""
        """The names of the first fields in an unknown form."""
        self.remark: ModelFailed | None = None
        """The message of a chunk without choices, reported if the answer stays empty."""

    @property
    def is_empty(self) -> bool:
        """Whether the answer so far has no text, no tool call and no reasoning."""
        return self.source is None and not self._reasoned

    def read(self, chunk: dict[str, Any], names: Sequence[str] = STREAMED) -> list[ModelEvent]:
        """The events of a chunk. `names`: the fields of a choice that may contain its content."""
        self.check(chunk)
        choices = self._choices(chunk)
        self._usage.read(chunk, choices)
        if not choices and self.is_empty:
            self._note(fields.unknown(chunk, _BESIDE_CHOICES))
            if self.remark is None and (remark := read_remark(chunk)):
                self.remark = self._failures.reported(remark, chunk, self._wait)
        events: list[ModelEvent] = []
        for choice in choices:
            events += self._choice(choice, names)
        return events

    def check(self, document: object, *, named: bool = False) -> None:
        """Raise ModelFailed if the document contains an error; see `read_error` for `named`."""
        if error := read_error(document, named=named):
            raise self._failures.reported(error, document, self._wait)

    def end(self) -> list[ModelEvent]:
        """The events for surrogates that were held back until the end."""
        return [_delta(key, text) for key, text in self._pairs.end()]

    @property
    def announces_calls(self) -> bool:
        return fields.stop_of(self.finish_reason) is StopReason.TOOL_CALLS

    @property
    def may_be_empty(self) -> bool:
        """Whether the finish reason permits an answer without content."""
        return fields.stop_of(self.finish_reason) in (StopReason.LENGTH, StopReason.CONTENT_FILTER)

    def finished(self) -> ModelFinished:
        stop = fields.stop_of(self.finish_reason)
        if self._refused and not self._calls.any:
            stop = StopReason.CONTENT_FILTER
        if stop in (StopReason.STOP, StopReason.TOOL_CALLS):
            # Some providers send "stop" after a tool call, or "tool_calls" without a call.
            stop = StopReason.TOOL_CALLS if self._calls.any else StopReason.STOP
        return ModelFinished(stop, self._usage.total())

    def _choices(self, chunk: dict[str, Any]) -> list[dict[str, Any]]:
        """The choices of a chunk that belong to the answer.

        `index` is ambiguous. Some providers number their chunks in it: then every choice counts,
        which is assumed once single choices came with different indexes. Otherwise it numbers
        alternative answers: once a chunk has several, only the lowest index counts.
        """
        choices = chunk.get("choices") or []
        if not isinstance(choices, list) or not all(isinstance(c, dict | None) for c in choices):
            raise Malformed(repr(chunk))
        if len(choices) > _MAX_CHOICES:
            raise self._failures.unusable(f"one chunk holds more than {_MAX_CHOICES} choices")
        choices = [choice for choice in choices if choice is not None]
        if self._numbers_pieces:
            return choices
        if self._index is None and len(choices) < 2:
            self._note_alone(choices)
            return choices
        indexes = set(map(_index, choices))
        if self._index is None and len(indexes) == 1:
            return choices
        self._index = min(indexes if self._index is None else {self._index, *indexes})
        return [choice for choice in choices if _index(choice) == self._index]

    def _note_alone(self, choices: list[dict[str, Any]]) -> None:
        for index in map(_index, choices):
            # Text read without a note came through the fast path, which requires index 0.
            before = 0 if self._alone is None and self.source else self._alone
            self._numbers_pieces = before not in (None, index)
            self._alone = index

    def _choice(self, choice: dict[str, Any], names: Sequence[str]) -> list[ModelEvent]:
        if "error" in choice:  # OpenRouter's, of the provider behind it.
            self.check({"error": choice["error"]})
        events: list[ModelEvent] = []
        found = self._content(choice, names)
        if found is not None:
            name, delta = found
            events = list(self._delta(delta, name))
        elif self.is_empty and not any(choice.get(name) for name in names):
            self._note(fields.unknown(choice, _BESIDE_CONTENT))
        if fields.is_reason(reason := choice.get("finish_reason")):
            self._finish(str(reason))
        return events

    def _content(
        self, choice: dict[str, Any], names: Sequence[str]
    ) -> tuple[str, dict[str, Any]] | None:
        """The first field of a choice with content, and its name.

        Some providers repeat the first field's content in the others, so another field is only
        read while the first one has had no content.
        """
        for name in names:
            delta = choice.get(name)
            if name == "text" and isinstance(delta, str):
                delta = {"content": delta}
            if not delta or (name != names[0] and self.source not in (None, name)):
                continue
            if not isinstance(delta, dict):
                raise Malformed(repr(choice))
            if fields.has_content(delta):
                return name, delta
        return None

    def _delta(self, delta: dict[str, Any], name: str) -> Iterator[ModelEvent]:
        content = delta.get("content")
        if not fields.is_content(content):
            raise Malformed(repr(delta))
        if thought := self._pairs.join(ReasoningDelta, fields.reasoning(delta)):
            self._reasoned = True
            yield ReasoningDelta(thought)
        self._refused = self._refused or bool(delta.get("refusal"))
        for text, refusal in ((fields.text(content), False), (delta.get("refusal"), True)):
            if text and isinstance(text, str):
                self.source = name if name == STREAMED[0] else self.source or name
                if joined := self._pairs.join(TextDelta, text):
                    yield TextDelta(joined, refusal)
        yield from self._called(delta, name)
        if self.is_empty:
            self._note(fields.unknown_parts(content))
            if content is None:
                self._note(fields.unknown(delta))

    def _called(self, delta: dict[str, Any], name: str) -> Iterator[ModelEvent]:
        pieces = delta.get("tool_calls") or []
        if function := delta.get("function_call"):
            # The deprecated form of a single call. It is not requested, but if a model sends it,
            # the answer must not be treated as empty.
            is_call = isinstance(function, dict)
            pieces = [{"index": 0, "function": function}] if is_call else function
        deltas = self._calls.read(pieces)
        if deltas is None:
            raise Malformed(repr(delta))
        if self._calls.any:
            self.source = name if name == STREAMED[0] else self.source or name
        yield from deltas

    def _finish(self, reason: str) -> None:
        kind = fields.failure_of(reason)
        if kind is FailureKind.OVERLOADED:
            raise self._failures.reported(
                ProviderError(codes="overloaded"), {"finish_reason": reason}, self._wait
            )
        if kind is not None:
            raise self._failures.unusable(f"it ended the answer with {reason!r}")
        self.finish_reason = reason

    def _note(self, unread: Sequence[str]) -> None:
        if unread and not self.unread:
            self.unread = ", ".join(unread[:5])[:200]


def _index(choice: dict[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _delta(key: object, text: str) -> ModelEvent:
    """The event for a piece of the text with this key of the PairJoiner."""
    if isinstance(key, int):
        return ToolCallDelta(key, None, None, text)
    return TextDelta(text) if key is TextDelta else ReasoningDelta(text)

"""The decoded chunks of one answer, turned into ModelEvents.

Read leniently where providers are known to differ and the meaning is plain. What is in no known
form is noted, so that an answer of which nothing was understood is not taken for an empty one.
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
from ..errors import Said, read_error, read_remark
from ..failures import FailureFactory
from ..json import PairJoiner
from . import fields as fields
from .stops import failure_of, is_reason, stop_of
from .tool_calls import ToolCalls, TooMany
from .usage import UsageCounts

STREAMED = ("delta", "message", "text")
"""The fields of a choice that may hold its content, the usual one first."""
WHOLE = ("message", "delta", "text")

_MAX_CHOICES = 128
"""The most that `n` may ask for."""
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
    """A chunk has another shape than a chat completion's; the text is an excerpt for the log."""


class Chunks:
    """What was read of one answer so far. `wait`: seconds that its headers advise after an error.

    `read` raises Malformed, or ModelFailed where the provider reports an error.
    """

    def __init__(self, failures: FailureFactory, wait: float | None = None) -> None:
        self._failures = failures
        self._wait = wait
        self._pairs = PairJoiner()
        self.halves = self._pairs.held
        """Not empty while half a surrogate pair waits for the next piece of its text."""
        self._calls = ToolCalls(self._pairs)
        self._usage = UsageCounts()
        self._index: int | None = None
        """Of the choice that counts, in an answer that was seen to hold several."""
        self._alone: int | None = None
        """The index of the last choice that was alone in its chunk."""
        self._numbers_pieces = False
        """Choices alone in their chunks had several indexes: they count the pieces of the text."""
        self.source: str | None = None
        """The field of the choices that text or a tool call was seen in: the usual one, if it was
        seen there."""
        self._reasoned = False
        self.finish_reason: str | None = None
        self.unread = ""
        """The first thing that came in no known form."""
        self.remark: ModelFailed | None = None
        """What the provider said in a chunk without choices, should nothing else come."""

    @property
    def is_empty(self) -> bool:
        """Whether no text, no tool call and no reasoning was seen."""
        return self.source is None and not self._reasoned

    def read(self, chunk: dict[str, Any], names: Sequence[str] = STREAMED) -> list[ModelEvent]:
        """The events of a chunk. `names`: where its choices hold their content."""
        self.check(chunk)
        choices = self._choices(chunk)
        self._usage.read(chunk, choices)
        if not choices and self.is_empty:
            self._note(fields.unknown(chunk, _BESIDE_CHOICES))
            if self.remark is None and (said := read_remark(chunk)):
                self.remark = self._failures.told(said, chunk, self._wait)
        events: list[ModelEvent] = []
        for choice in choices:
            events += self._choice(choice, names)
        return events

    def check(self, document: object, *, named: bool = False) -> None:
        """Raise ModelFailed if the document holds an error; see `read_error` for `named`."""
        if said := read_error(document, named=named):
            raise self._failures.told(said, document, self._wait)

    def end(self) -> list[ModelEvent]:
        """The events of what was held back until the end."""
        return [_delta(key, text) for key, text in self._pairs.end()]

    @property
    def announces_calls(self) -> bool:
        """Whether the finish reason is a tool call."""
        return stop_of(self.finish_reason) is StopReason.TOOL_CALLS

    @property
    def may_be_empty(self) -> bool:
        """Whether the finish reason explains an answer without content."""
        return stop_of(self.finish_reason) in (StopReason.LENGTH, StopReason.CONTENT_FILTER)

    def finished(self) -> ModelFinished:
        """The last event of the answer."""
        stop = stop_of(self.finish_reason)
        if stop in (StopReason.STOP, StopReason.TOOL_CALLS):
            # Some say "stop" behind a tool call, and some "tool_calls" without any.
            stop = StopReason.TOOL_CALLS if self._calls.any else StopReason.STOP
        return ModelFinished(stop, self._usage.total())

    def _choices(self, chunk: dict[str, Any]) -> list[dict[str, Any]]:
        """The choices of a chunk that count.

        One choice in a chunk counts whatever its index, since some providers number the chunks
        there, and then several count as well. Where a chunk of another stream holds several, the
        lowest index counts, from then on.
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
            # Text that was read before came with index 0, or was noted here.
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
        if is_reason(reason := choice.get("finish_reason")):
            self._finish(str(reason))
        return events

    def _content(
        self, choice: dict[str, Any], names: Sequence[str]
    ) -> tuple[str, dict[str, Any]] | None:
        """The first field of a choice that holds something, and its name.

        Some providers repeat in the other fields what stood in the first one, so another field
        counts only as long as the first one held nothing.
        """
        for name in names:
            delta = choice.get(name)
            if name == "text" and isinstance(delta, str):
                delta = {"content": delta}
            if not delta or (name != names[0] and self.source not in (None, name)):
                continue
            if not isinstance(delta, dict):
                raise Malformed(repr(choice))
            if fields.says_something(delta):
                return name, delta
        return None

    def _delta(self, delta: dict[str, Any], name: str) -> Iterator[ModelEvent]:
        content = delta.get("content")
        if not fields.is_content(content):
            raise Malformed(repr(delta))
        if thought := self._pairs.join(ReasoningDelta, fields.reasoning(delta)):
            self._reasoned = True
            yield ReasoningDelta(thought)
        for text in (fields.text(content), delta.get("refusal")):
            if text and isinstance(text, str):
                self.source = name if name == STREAMED[0] else self.source or name
                if joined := self._pairs.join(TextDelta, text):
                    yield TextDelta(joined)
        yield from self._called(delta, name)
        if self.is_empty:
            self._note(fields.odd_parts(content))
            if content is None:
                self._note(fields.unknown(delta))

    def _called(self, delta: dict[str, Any], name: str) -> Iterator[ModelEvent]:
        pieces = delta.get("tool_calls") or []
        if function := delta.get("function_call"):
            # The older form of a single call. It is not asked for, but a model that calls
            # something must not seem to have said nothing.
            is_call = isinstance(function, dict)
            pieces = [{"index": 0, "function": function}] if is_call else function
        excess, deltas = "", None
        try:
            deltas = self._calls.read(pieces)
        except TooMany as error:
            excess = str(error)
        if excess:
            raise self._failures.unusable(excess)
        if deltas is None:
            raise Malformed(repr(delta))
        if self._calls.any:
            self.source = name if name == STREAMED[0] else self.source or name
        yield from deltas

    def _finish(self, reason: str) -> None:
        kind = failure_of(reason)
        if kind is FailureKind.OVERLOADED:
            raise self._failures.told(
                Said(slugs="overloaded"), {"finish_reason": reason}, self._wait
            )
        if kind is not None:
            raise self._failures.unusable(f"it broke the answer off ({reason!r})")
        self.finish_reason = reason

    def _note(self, unread: Sequence[str]) -> None:
        if unread and not self.unread:
            self.unread = ", ".join(unread[:5])[:200]


def _index(choice: dict[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _delta(key: object, text: str) -> ModelEvent:
    """A piece of the text with that key of the PairJoiner."""
    if isinstance(key, int):
        return ToolCallDelta(key, None, None, text)
    return TextDelta(text) if key is TextDelta else ReasoningDelta(text)

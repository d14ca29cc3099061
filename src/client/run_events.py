# mypy: enable-error-code="exhaustive-match"
"""The events of a Run and their decoding from `agent` payloads.

`read_run_event` passes over kinds that this client does not know. The type checker names each
`match` of this module that does not say what it does with a known one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Started:
    """The Run left the queue."""

    seq: int


@dataclass(frozen=True, slots=True)
class TextDelta:
    seq: int
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    seq: int
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Terminal: the answer is complete. `model` is `provider/model`."""

    seq: int
    stop: str = ""
    model: str = ""
    usage: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """Terminal: the Run failed; the answer is missing or incomplete."""

    seq: int
    message: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Aborted:
    """Terminal: the Run was aborted."""

    seq: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The Run waits. `reason` is for a person; `approval_id` is empty if it waits for something
    else than an approval."""

    seq: int
    reason: str = ""
    approval_id: str = ""


@dataclass(frozen=True, slots=True)
class Resumed:
    """Another attempt of the Run begins: the last `void` events before this one are void."""

    seq: int
    attempt: int
    reason: str = ""
    void: int = 0


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool call is run. `arguments` is what the model wrote, read as JSON where it is JSON."""

    seq: int
    call_id: str
    name: str = ""
    arguments: Any = None


@dataclass(frozen=True, slots=True)
class ToolProgress:
    """Output of a tool call that is still running."""

    seq: int
    call_id: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """The result of a tool call."""

    seq: int
    call_id: str
    is_error: bool = False
    text: str = ""


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step of the Run is stored: a later attempt does not repeat it."""

    seq: int
    number: int


@dataclass(frozen=True, slots=True)
class CompactionStarted:
    """A model begins to write a summary of the session's older messages."""

    seq: int


@dataclass(frozen=True, slots=True)
class CompactionEnded:
    """The summary replaces the older messages for models. `failure`: why there is none. Tokens are
    estimates, of the whole history."""

    seq: int
    tokens_before: int = 0
    tokens_after: int = 0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Pruned:
    """Old tool results are shortened or left out in what the model gets."""

    seq: int
    results: int = 0
    tokens_saved: int = 0


RunEvent = (
    Started
    | Waiting
    | Resumed
    | TextDelta
    | ReasoningDelta
    | ToolStarted
    | ToolProgress
    | ToolFinished
    | StepDone
    | CompactionStarted
    | CompactionEnded
    | Pruned
    | Finished
    | Failed
    | Aborted
)
Ending = Finished | Failed | Aborted


def read_run_event(payload: Mapping[str, Any]) -> RunEvent | None:
    """Decode an `agent` payload; None if its kind is unknown."""
    seq = payload.get("seq")
    data = payload.get("data")
    if not isinstance(seq, int) or not isinstance(data, dict):
        return None
    match payload.get("stream"):
        case "assistant":
            return TextDelta(seq, str(data.get("delta") or ""))
        case "thinking":
            return ReasoningDelta(seq, str(data.get("delta") or ""))
        case "lifecycle":
            return _lifecycle(seq, data)
        case "tool":
            return _tool(seq, data)
        case "compaction":
            return _compaction(seq, data)
        case "pruning":
            return Pruned(seq, _count(data.get("results")), _count(data.get("tokensSaved")))
        case _:
            return None


def run_text(events: Iterable[RunEvent]) -> str:
    """The text of the events, without what a later attempt has replaced."""
    text: list[str] = []
    stored = 0
    for event in events:
        match event:
            case TextDelta(text=piece):
                text.append(piece)
            case StepDone():
                stored = len(text)
            case Resumed(void=void):
                if void:
                    del text[stored:]
            case Started() | Waiting() | ReasoningDelta() | ToolStarted() | ToolProgress():
                pass
            case ToolFinished() | Finished() | Failed() | Aborted():
                pass
            case CompactionStarted() | CompactionEnded() | Pruned():
                pass
    return "".join(text)


def _tool(seq: int, data: Mapping[str, Any]) -> RunEvent | None:
    call_id = str(data.get("toolCallId") or "")
    if not call_id:
        return None
    match data.get("phase"):
        case "start":
            return ToolStarted(seq, call_id, str(data.get("name") or ""), data.get("args"))
        case "update":
            return ToolProgress(seq, call_id, str(data.get("partialResult") or ""))
        case "result":
            text = str(data.get("result") or "")
            return ToolFinished(seq, call_id, data.get("isError") is True, text)
        case _:
            return None


def _compaction(seq: int, data: Mapping[str, Any]) -> RunEvent | None:
    match data.get("phase"):
        case "start":
            return CompactionStarted(seq)
        case "end":
            before, after = _count(data.get("tokensBefore")), _count(data.get("tokensAfter"))
            return CompactionEnded(seq, before, after, str(data.get("error") or ""))
        case _:
            return None


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _lifecycle(seq: int, data: Mapping[str, Any]) -> RunEvent | None:
    match data.get("phase"):
        case "start":
            return Started(seq)
        case "waiting":
            return Waiting(seq, str(data.get("reason") or ""), str(data.get("approvalId") or ""))
        case "resumed":
            attempt = data.get("attempt")
            void = data.get("void")
            return Resumed(seq, _count(attempt), str(data.get("reason") or ""), _count(void))
        case "step":
            return StepDone(seq, _count(data.get("step")))
        case "end" if data.get("aborted"):
            return Aborted(seq, str(data.get("reason") or ""))
        case "end":
            usage = data.get("usage")
            return Finished(
                seq,
                str(data.get("stopReason") or ""),
                str(data.get("model") or ""),
                usage if isinstance(usage, dict) else {},
            )
        case "error":
            message = str(data.get("error") or "The run failed.")
            return Failed(seq, message, str(data.get("code") or ""))
        case _:
            return None

"""The events of a Run and their decoding from `agent` payloads."""

from __future__ import annotations

from collections.abc import Mapping
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
    """The Run waits, for an approval for example. `reason` is for a person."""

    seq: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Resumed:
    """Another attempt of the Run begins: the text of the earlier one is void."""

    seq: int
    attempt: int
    reason: str = ""


RunEvent = Started | Waiting | Resumed | TextDelta | ReasoningDelta | Finished | Failed | Aborted
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
        case _:
            return None


def _lifecycle(seq: int, data: Mapping[str, Any]) -> RunEvent | None:
    match data.get("phase"):
        case "start":
            return Started(seq)
        case "waiting":
            return Waiting(seq, str(data.get("reason") or ""))
        case "resumed":
            attempt = data.get("attempt")
            number = attempt if isinstance(attempt, int) else 0
            return Resumed(seq, number, str(data.get("reason") or ""))
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

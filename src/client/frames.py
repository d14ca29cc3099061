"""The client's encoding and decoding of the control protocol's frames."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import CallFailed

MAX_MESSAGE = 25 * 1024 * 1024
"""Bytes of one message, in either direction."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event frame. `seq` numbers the events of one connection; some events have none."""

    name: str
    payload: Any
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A response frame: a payload or an error."""

    id: str
    payload: Any = None
    error: CallFailed | None = None

    @property
    def accepted(self) -> bool:
        """Whether another response to the same request follows."""
        status = self.payload.get("status") if isinstance(self.payload, dict) else None
        return self.error is None and status == "accepted"

    def result(self) -> Any:
        """The payload. Raises CallFailed."""
        if self.error is not None:
            raise self.error
        return self.payload


def request_text(request_id: str, method: str, params: Mapping[str, Any] | None) -> str:
    frame: dict[str, Any] = {"type": "req", "id": request_id, "method": method}
    if params is not None:
        frame["params"] = dict(params)
    return json.dumps(frame, separators=(",", ":"))


def read_frame(text: str) -> Event | Answer | None:
    """Decode a message from the server; None if it is not a known frame."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    match value:
        case {"type": "event", "event": str(name)}:
            seq = value.get("seq")
            return Event(name, value.get("payload"), seq if isinstance(seq, int) else None)
        case {"type": "res", "id": str(request_id), "ok": True}:
            return Answer(request_id, value.get("payload"))
        case {"type": "res", "id": str(request_id), "ok": False}:
            return Answer(request_id, value.get("payload"), _error(value))
        case _:
            return None


def _error(frame: Mapping[str, Any]) -> CallFailed:
    error = frame.get("error")
    error = error if isinstance(error, dict) else {}
    wait = error.get("retryAfterMs")
    return CallFailed(
        str(error.get("code") or "UNAVAILABLE"),
        str(error.get("message") or "The Gateway rejected the request without a reason."),
        details=error.get("details"),
        retryable=error.get("retryable") is True,
        retry_after=wait / 1_000 if isinstance(wait, int | float) else None,
        payload=frame.get("payload"),
    )

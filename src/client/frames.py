"""The frames of the control protocol, as a client reads and writes them."""

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
    """Something happened. `seq` counts the events of one connection, where they are counted."""

    name: str
    payload: Any
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a request: a payload, or why there is none."""

    id: str
    payload: Any = None
    error: CallFailed | None = None

    @property
    def accepted(self) -> bool:
        """Whether another answer to the same request follows."""
        status = self.payload.get("status") if isinstance(self.payload, dict) else None
        return self.error is None and status == "accepted"

    def result(self) -> Any:
        """The payload. Raises CallFailed."""
        if self.error is not None:
            raise self.error
        return self.payload


def request_text(request_id: str, method: str, params: Mapping[str, Any] | None) -> str:
    """A request as it travels."""
    frame: dict[str, Any] = {"type": "req", "id": request_id, "method": method}
    if params is not None:
        frame["params"] = dict(params)
    return json.dumps(frame, separators=(",", ":"))


def read_frame(text: str) -> Event | Answer | None:
    """What a server's message says; None for what is no frame of the protocol."""
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
    told = frame.get("error")
    told = told if isinstance(told, dict) else {}
    wait = told.get("retryAfterMs")
    return CallFailed(
        str(told.get("code") or "UNAVAILABLE"),
        str(told.get("message") or "The Gateway refused, and did not say why."),
        details=told.get("details"),
        retryable=told.get("retryable") is True,
        retry_after=wait / 1_000 if isinstance(wait, int | float) else None,
        payload=frame.get("payload"),
    )

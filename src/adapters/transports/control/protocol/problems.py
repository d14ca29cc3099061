"""What goes wrong on the control protocol, and how it is told there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from .....domain.errors import (
    Forbidden,
    GatewayBusy,
    GatewayError,
    InvalidRequest,
    LockedOut,
    SessionBusy,
    ShuttingDown,
    Unauthenticated,
    UnknownAgent,
    UnknownRun,
    UnknownSession,
)
from .frames import ErrorShape

INVALID_REQUEST = "INVALID_REQUEST"
UNAVAILABLE = "UNAVAILABLE"
NOT_PAIRED = "NOT_PAIRED"
FORBIDDEN = "FORBIDDEN"

_MOST_PROBLEMS = 5
"""Of one request that are told."""
_LONGEST_KEY = 64
_LONGEST_REASON = 120
"""Bytes of a close reason; a close frame has room for 123."""


class ConnectRejection(Exception):
    """A connection that is not let in: an error frame where there is a request to answer, then a
    close. `reason` is the text of the close frame; without one, the error's message."""

    def __init__(
        self,
        message: str,
        *,
        code: str = INVALID_REQUEST,
        details: Mapping[str, Any] | None = None,
        close_code: int = 1008,
        reason: str | None = None,
        retryable: bool | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.error = ErrorShape(
            code=code,
            message=message,
            details=None if details is None else dict(details),
            retryable=retryable,
            retry_after_ms=retry_after_ms,
        )
        self.close_code = close_code
        self.reason = close_reason(message if reason is None else reason)


def close_reason(text: str) -> str:
    """`text`, cut to what a close frame holds, between characters."""
    data = text.encode("utf-8", "replace")
    return data[:_LONGEST_REASON].decode("utf-8", "ignore")


def validation_text(error: ValidationError) -> str:
    """What is wrong with some parameters, each with the place where it stands; the first few."""
    found = error.errors(include_url=False, include_input=False)
    # Some are the same: of a union each form is tried.
    looked_at = found[: 4 * _MOST_PROBLEMS]
    texts = list(dict.fromkeys(_told(dict(one)) for one in looked_at))
    more = len(texts) > _MOST_PROBLEMS or len(found) > len(looked_at)
    tail = [f"and more, {len(found)} problems in all"] if more else []
    return "; ".join([*texts[:_MOST_PROBLEMS], *tail])


def invalid_params(method: str, error: ValidationError) -> InvalidRequest:
    """The refusal of a request whose parameters are not of the method's shape."""
    return InvalidRequest(f"invalid {method} params: {validation_text(error)}")


def error_of(error: GatewayError, *, protocol: int) -> ErrorShape:
    """How protocol `protocol` tells of `error`."""
    if isinstance(error, Forbidden):
        return _forbidden(error, protocol)
    code = INVALID_REQUEST if isinstance(error, _REQUEST_AT_FAULT) else UNAVAILABLE
    busy = isinstance(error, _PASSES)
    wait = None if error.retry_after is None else math.ceil(error.retry_after * 1_000)
    return ErrorShape(
        code=code,
        message=error.message or error.code,
        details={"code": _DETAILS.get(type(error), error.code)},
        retryable=True if busy else None,
        retry_after_ms=wait,
    )


INTERNAL_ERROR = ErrorShape(
    code=UNAVAILABLE, message="The Gateway failed because of an internal error."
)

_REQUEST_AT_FAULT = (InvalidRequest, Unauthenticated, UnknownRun, UnknownSession)
_PASSES = (SessionBusy, GatewayBusy, ShuttingDown, LockedOut)
_DETAILS: Mapping[type[GatewayError], str] = {UnknownAgent: "UNKNOWN_AGENT_ID"}


def _forbidden(error: Forbidden, protocol: int) -> ErrorShape:
    """Protocol 3 knows no code of its own for it."""
    if error.scope is None:
        return ErrorShape(code=INVALID_REQUEST, message=error.message)
    scope = str(error.scope)
    details = {"code": "MISSING_SCOPE", "missingScope": scope, "requiredScopes": [scope]}
    code = INVALID_REQUEST if protocol < 4 else FORBIDDEN
    return ErrorShape(code=code, message=error.message, details=details)


def _told(found: dict[str, Any]) -> str:
    place: tuple[str | int, ...] = tuple(found["loc"])
    match found["type"]:
        case "extra_forbidden":
            return f"at {_place(place[:-1])}: unexpected property '{_key(place[-1])}'"
        case "missing":
            return f"at {_place(place[:-1])}: must have required property '{place[-1]}'"
        case "literal_error" | "enum":
            allowed = found.get("ctx", {}).get("expected", "")
            return f"at {_place(place)}: must be equal to one of the allowed values ({allowed})"
        case "value_error":
            return f"at {_place(place)}: {found['ctx']['error']}"
        case _:
            return f"at {_place(place)}: {found['msg'][:1].lower()}{found['msg'][1:]}"


def _place(keys: Iterable[str | int]) -> str:
    joined = "".join(f"/{_key(key)}" for key in keys)
    return joined or "root"


def _key(key: str | int) -> str:
    """A key that a client chose, which may be of any length."""
    text = str(key)
    return text if len(text) <= _LONGEST_KEY else text[:_LONGEST_KEY] + "..."

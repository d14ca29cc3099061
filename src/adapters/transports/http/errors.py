"""One table from errors to HTTP, and the one envelope that every error travels in.

The envelope is OpenAI's: `{"error": {"message", "type", "param", "code"}}`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from quart import Response

from ....domain.errors import (
    EventsExpired,
    FailureKind,
    Forbidden,
    GatewayBusy,
    GatewayError,
    InvalidRequest,
    LockedOut,
    ModelFailed,
    RunAborted,
    RunTimedOut,
    SessionBusy,
    ShuttingDown,
    StoreFailed,
    Unauthenticated,
    UnknownAgent,
    UnknownRun,
)
from .json_text import dumps

_STATUS: Mapping[type[GatewayError], int] = {
    Unauthenticated: 401,
    LockedOut: 429,
    Forbidden: 403,
    InvalidRequest: 400,
    UnknownAgent: 404,
    SessionBusy: 429,
    GatewayBusy: 503,
    ShuttingDown: 503,
    UnknownRun: 404,
    EventsExpired: 503,
    StoreFailed: 503,
    RunTimedOut: 504,
    RunAborted: 409,
    GatewayError: 500,
}

_MODEL_FAILURES: Mapping[FailureKind, tuple[int, str]] = {
    FailureKind.AUTH: (502, "provider_auth"),
    FailureKind.RATE_LIMIT: (429, "rate_limit_exceeded"),
    FailureKind.BILLING: (502, "provider_billing"),
    FailureKind.TIMEOUT: (504, "provider_timeout"),
    FailureKind.OVERLOADED: (502, "provider_overloaded"),
    FailureKind.BAD_REQUEST: (400, "provider_bad_request"),
    FailureKind.CONTEXT_TOO_LONG: (400, "context_length_exceeded"),
    FailureKind.BAD_RESPONSE: (502, "provider_bad_response"),
    FailureKind.UNREACHABLE: (502, "provider_unreachable"),
}

# OpenAI's clients try again after 408, 409, 429 and 5xx unless told not to. These do not pass by
# themselves, or would cost the same again.
_RETRY_IS_NO_USE = (LockedOut, RunAborted, RunTimedOut)
_RETRY_IS_NO_USE_KINDS = frozenset({FailureKind.AUTH, FailureKind.BILLING})

_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    409: "conflict_error",
    429: "rate_limit_error",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as HTTP tells it. `retry_after`: seconds; `retry`: False where it is of no use."""

    status: int
    message: str
    code: str
    param: str | None = None
    retry_after: float | None = None
    retry: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def type(self) -> str:
        """OpenAI's word for this kind of error."""
        return _TYPES.get(
            self.status, "invalid_request_error" if self.status < 500 else "server_error"
        )

    @property
    def envelope(self) -> dict[str, object]:
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }


class Refused(Exception):
    """A request that HTTP itself refuses, before the Gateway is asked: no route, too large, ..."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


INTERNAL_ERROR = Problem(500, "The Gateway failed because of an internal error.", "internal_error")


def problem_of(error: GatewayError) -> Problem:
    """How HTTP tells of `error`."""
    param = getattr(error, "param", None)
    if isinstance(error, ModelFailed):
        status, code = _MODEL_FAILURES[error.kind]
        retry = error.kind not in _RETRY_IS_NO_USE_KINDS
        return Problem(status, error.message, code, param, error.retry_after, retry)
    status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    retry = not isinstance(error, _RETRY_IS_NO_USE)
    return Problem(status, error.message, error.code, param, error.retry_after, retry, headers)


def answer(problem: Problem) -> Response:
    """The response that tells of `problem`."""
    response = Response(dumps(problem.envelope), problem.status, content_type="application/json")
    response.headers.update(problem.headers)
    if problem.retry_after is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after)))
    if not problem.retry:
        response.headers["X-Should-Retry"] = "false"
    return response

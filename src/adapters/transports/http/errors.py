"""One table from errors to HTTP, and the envelope that errors are sent in.

The envelope is OpenAI's: `{"error": {"message", "type", "param", "code"}}`. Clients of Anthropic's
Messages API get that API's envelope, with `param` where a field is at fault.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from quart import Response

from ....domain import errors
from ....domain.errors import FailureKind, GatewayError, ModelFailed
from ....domain.ports.configuration import ConfigConflict, ConfigUnwritable
from ....domain.ports.sandbox import SandboxUnavailable
from ....domain.ports.workspaces import WorkspaceFailed
from .json_text import dumps

_STATUS: Mapping[type[GatewayError], int] = {
    errors.Unauthenticated: 401,
    errors.LockedOut: 429,
    errors.Forbidden: 403,
    errors.InvalidRequest: 400,
    errors.UnknownAgent: 404,
    errors.UnknownModel: 404,
    errors.RateLimited: 429,
    errors.KeyReused: 409,
    errors.SessionBusy: 429,
    errors.GatewayBusy: 503,
    errors.ShuttingDown: 503,
    errors.UnknownResponse: 404,
    errors.UnknownConversation: 404,
    errors.ConversationLocked: 409,
    errors.UnknownRun: 404,
    errors.UnknownKey: 404,
    errors.UnknownSession: 404,
    errors.UnknownApproval: 404,
    errors.ApprovalDecided: 409,
    errors.UnknownTool: 404,
    errors.Unavailable: 501,
    ConfigConflict: 409,
    ConfigUnwritable: 503,
    WorkspaceFailed: 503,
    SandboxUnavailable: 503,
    errors.EventsExpired: 410,
    errors.LeaseLost: 503,
    errors.StoreFailed: 503,
    errors.RunTimedOut: 504,
    errors.RunAborted: 409,
    errors.RunInterrupted: 503,
    errors.InvalidStructuredOutput: 502,
    errors.AgentFailed: 502,
    errors.RunFailed: 500,
    GatewayError: 500,
}
"""The status of an error is that of its nearest class in here; only the root itself has the last.
A failed model call has one for each of its kinds instead."""

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

_OF_HTTP: Mapping[int, tuple[str, ...]] = {
    400: ("invalid_request",),
    403: ("origin_not_allowed",),
    404: ("endpoint_disabled", "not_found"),
    405: ("method_not_allowed",),
    408: ("request_timeout",),
    413: ("request_too_large",),
    415: ("unsupported_content_encoding", "unsupported_media_type"),
}
"""The codes of HttpRejection."""

# OpenAI's clients try again after 408, 409, 429 and 5xx unless a header forbids it. These do not
# pass by themselves, or would cost the same again.
_RETRY_IS_NO_USE = (
    errors.LockedOut,
    errors.QuotaExceeded,
    errors.KeyReused,
    errors.InvalidStructuredOutput,
    errors.RunAborted,
    errors.RunTimedOut,
    errors.Unavailable,
    ConfigConflict,
)
_RETRY_IS_NO_USE_KINDS = frozenset({FailureKind.AUTH, FailureKind.BILLING})

_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
ANTHROPIC_OVERLOADED = 529
"""The status of that API where a provider is overloaded."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as an HTTP answer. `retry_after`: seconds; `retry`: False where it is of no use."""

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

    @property
    def anthropic_status(self) -> int:
        """The status for clients of Anthropic's API."""
        return ANTHROPIC_OVERLOADED if self.code == "provider_overloaded" else self.status

    def anthropic_envelope(self, request_id: str) -> dict[str, object]:
        """https://platform.claude.com/docs/en/api/errors"""
        kind = _ANTHROPIC_TYPES.get(
            self.anthropic_status, "invalid_request_error" if self.status < 500 else "api_error"
        )
        error = {"type": kind, "message": self.message}
        if self.param is not None:
            error["param"] = self.param
        return {"type": "error", "error": error, "request_id": request_id}


class HttpRejection(Exception):
    """A request that HTTP itself refuses, before the Gateway is called: no route, too large, ..."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


INTERNAL_ERROR = Problem(500, "The Gateway failed because of an internal error.", "internal_error")


def problem_of(error: GatewayError) -> Problem:
    """The HTTP answer for `error`."""
    param = getattr(error, "param", None)
    if isinstance(error, ModelFailed):
        status, code = _MODEL_FAILURES[error.kind]
        retry = error.kind not in _RETRY_IS_NO_USE_KINDS
        return Problem(status, error.message, code, param, error.retry_after, retry)
    status = _status_of(type(error))
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    retry = not isinstance(error, _RETRY_IS_NO_USE)
    return Problem(status, error.message, error.code, param, error.retry_after, retry, headers)


def _status_of(kind: type[GatewayError]) -> int:
    return next(_STATUS[base] for base in kind.__mro__ if base in _STATUS)


def codes_by_status() -> dict[int, set[str]]:
    """The codes of all errors of the Gateway, by their statuses."""
    pairs = [(status, code) for status, codes in _OF_HTTP.items() for code in codes]
    kinds = [
        k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, GatewayError)
    ]
    pairs += [(_status_of(k), k.code) for k in (*kinds, *_STATUS) if k is not ModelFailed]
    pairs += _MODEL_FAILURES.values()
    return {at: {code for status, code in pairs if status == at} for at, _ in sorted(pairs)}


def answer(problem: Problem) -> Response:
    """The response that reports `problem`."""
    return _response(problem, problem.envelope, problem.status)


def anthropic_answer(problem: Problem, request_id: str) -> Response:
    """The same in the envelope of Anthropic's API."""
    envelope = problem.anthropic_envelope(request_id)
    return _response(problem, envelope, problem.anthropic_status)


def _response(problem: Problem, envelope: dict[str, object], status: int) -> Response:
    response = Response(dumps(envelope), status, content_type="application/json")
    response.headers.update(problem.headers)
    if problem.retry_after is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after)))
    if not problem.retry:
        response.headers["X-Should-Retry"] = "false"
    return response

"""Errors of the control protocol, the conversion of domain errors into them, and the validation of
parameters.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from .....domain import errors
from .....domain.errors import Forbidden, GatewayError, InvalidRequest
from .frames import ErrorShape

INVALID_REQUEST = "INVALID_REQUEST"
UNAVAILABLE = "UNAVAILABLE"
NOT_PAIRED = "NOT_PAIRED"
FORBIDDEN = "FORBIDDEN"
APPROVAL_NOT_FOUND = "APPROVAL_NOT_FOUND"

_MOST_PROBLEMS = 5
"""Validation errors listed in one message."""
_LONGEST_KEY = 64
_LONGEST_REASON = 120
"""Bytes of a close reason; a close frame has room for 123."""


class ConnectRejection(Exception):
    """The rejection of a connection: an error response if there is a request, then a close.
    `reason` is the text of the close frame; by default the message."""

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
    """`text`, cut to the size of a close frame at a character boundary."""
    data = text.encode("utf-8", "replace")
    return data[:_LONGEST_REASON].decode("utf-8", "ignore")


def validation_text(error: ValidationError) -> str:
    """The first validation errors, each with its location."""
    found = error.errors(include_url=False, include_input=False)
    # The variants of a union may report the same error.
    examined = found[: 4 * _MOST_PROBLEMS]
    texts = list(dict.fromkeys(_error_text(dict(one)) for one in examined))
    more = len(texts) > _MOST_PROBLEMS or len(found) > len(examined)
    tail = [f"and more, {len(found)} problems in all"] if more else []
    return "; ".join([*texts[:_MOST_PROBLEMS], *tail])


def invalid_params(method: str, error: ValidationError) -> InvalidRequest:
    """The error for parameters that do not match the method's model."""
    return InvalidRequest(f"invalid {method} params: {validation_text(error)}")


def error_of(error: GatewayError, *, protocol: int) -> ErrorShape:
    """`error` in the form of protocol version `protocol`."""
    if isinstance(error, Forbidden):
        return _forbidden(error, protocol)
    code = INVALID_REQUEST if isinstance(error, _REQUEST_AT_FAULT) else UNAVAILABLE
    if isinstance(error, errors.UnknownApproval) and protocol >= 4:
        code = APPROVAL_NOT_FOUND
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

_REQUEST_AT_FAULT = (
    InvalidRequest,
    errors.Unauthenticated,
    errors.UnknownApproval,
    errors.UnknownKey,
    errors.UnknownRun,
    errors.UnknownSession,
    errors.ApprovalDecided,
)
_PASSES = (
    errors.RateLimited,
    errors.SessionBusy,
    errors.GatewayBusy,
    errors.ShuttingDown,
    errors.LockedOut,
)
_DETAILS: Mapping[type[GatewayError], str] = {errors.UnknownAgent: "UNKNOWN_AGENT_ID"}


def _forbidden(error: Forbidden, protocol: int) -> ErrorShape:
    """Protocol 3 has no separate code for it."""
    if error.scope is None:
        return ErrorShape(code=INVALID_REQUEST, message=error.message)
    scope = str(error.scope)
    details = {"code": "MISSING_SCOPE", "missingScope": scope, "requiredScopes": [scope]}
    code = INVALID_REQUEST if protocol < 4 else FORBIDDEN
    return ErrorShape(code=code, message=error.message, details=details)


def _error_text(found: dict[str, Any]) -> str:
    location: tuple[str | int, ...] = tuple(found["loc"])
    match found["type"]:
        case "extra_forbidden":
            return f"at {_location(location[:-1])}: unexpected property '{_key(location[-1])}'"
        case "missing":
            return f"at {_location(location[:-1])}: must have required property '{location[-1]}'"
        case "literal_error" | "enum":
            allowed = found.get("ctx", {}).get("expected", "")
            return (
                f"at {_location(location)}: must be equal to one of the allowed values ({allowed})"
            )
        case "value_error":
            return f"at {_location(location)}: {found['ctx']['error']}"
        case _:
            return f"at {_location(location)}: {found['msg'][:1].lower()}{found['msg'][1:]}"


def _location(keys: Iterable[str | int]) -> str:
    joined = "".join(f"/{_key(key)}" for key in keys)
    return joined or "root"


def _key(key: str | int) -> str:
    """A key chosen by a client, cut to a readable length."""
    text = str(key)
    return text if len(text) <= _LONGEST_KEY else text[:_LONGEST_KEY] + "..."


logger = logging.getLogger(__name__)

_LOGGED = 512
"""Limit of logged properties over all methods, because clients choose their names."""
_LONGEST_NAME = 64


class UnknownProperties:
    """Validates parameters and logs each ignored property once."""

    def __init__(self, most: int = _LOGGED) -> None:
        self._logged: set[tuple[str, str]] = set()
        self._most = most

    def lenient(self, method: str, model: type[BaseModel], params: object) -> BaseModel:
        """Validate `params`, ignoring properties that `model` lacks, at any depth.

        Raises ValidationError for all other errors.
        """
        try:
            return model.model_validate(params)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)
            unknown = [found["loc"] for found in errors if _is_unknown(found)]
            if not unknown:
                raise
        validated = model.model_validate(params, extra="ignore")
        for place in unknown:
            # Cut each step first: a name may have millions of characters.
            steps = (str(step)[:_LONGEST_NAME] for step in place)
            self._log(method, ".".join(steps)[:_LONGEST_NAME])
        return validated

    def _log(self, method: str, name: str) -> None:
        if (method, name) in self._logged or len(self._logged) >= self._most:
            return
        self._logged.add((method, name))
        extra = {"method": method, "property": name}
        logger.info("a request has a property that is not known and is ignored", extra=extra)
        if len(self._logged) == self._most:
            logger.info("further properties that are not known are ignored without a line here")


def _is_unknown(found: Any) -> bool:
    return bool(found["type"] == "extra_forbidden")

"""Classifies a provider's error.

Providers of this API differ here: the kind is derived from the HTTP status, the codes of the error
object and, if those are vague, the words of its message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ....domain.errors import FailureKind
from .errors import ProviderError


def kind_of(error: ProviderError, status: int | None) -> FailureKind:
    """`status`: of the response, None for an error within a stream."""
    status = status or error.status
    words = f"{error.codes} {error.message.lower()}"
    if status == 402 or _BILLING.search(words) or (status == 403 and _MONEY.search(words)):
        return FailureKind.BILLING
    if status == 429 or "rate_limit" in error.codes:
        return FailureKind.RATE_LIMIT
    if status in (401, 403):
        return FailureKind.AUTH
    if _TOO_LONG.search(words):
        return FailureKind.CONTEXT_TOO_LONG
    if status in (None, 400) and _WRONG_KEY.search(words):
        return FailureKind.AUTH
    if names_unknown_model(error, status):
        return FailureKind.BAD_RESPONSE
    if status is not None:
        return _BY_STATUS.get(status, FailureKind.BAD_RESPONSE)
    matches = [kind for pattern, kind in _BY_CODE if pattern.search(error.codes)]
    matches += [kind for pattern, kind in _BY_WORDS if pattern.search(words)]
    return matches[0] if matches else FailureKind.BAD_RESPONSE


def names_unknown_model(error: ProviderError, status: int | None) -> bool:
    """Whether the provider does not know the model, which is an error of the configuration."""
    if "model_not_found" in error.codes:
        return True
    return status == 404 and "model" in error.message.lower()


_BILLING = re.compile(
    r"insufficient[ _](?:quota|credit|balance|fund)|billing_(?:hard_limit|not_active)"
    r"|billing hard limit|credit balance|out of credits|payment[ _]required"
)
_MONEY = re.compile(r"billing|credit|payment|quota|balance")
_WRONG_KEY = re.compile(
    r"(?:invalid|incorrect)[ _]api[ _]key|api key not valid|authentication_?error|unauthorized"
)
_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|maximum (?:context|prompt) length"
    r"|exceed[a-z]{0,4}[^.]{0,60} context[ _](?:length|window|size|limit)"
    r"|context[ _](?:length|window|size|limit)[^.]{0,60} exceed"
    r"|(?:prompt|input) is too long|prompt too long|too many input tokens"
    r"|input token count[^.]{0,60} exceed|reduce the length of the (?:messages|prompt|input)"
    r"|exceeded model token limit"  # Moonshot
    r"|range of input length should be"  # DashScope
    r"|(?:prompt|input)(?: tokens?)? (?:exceeds|exceeded|too long)"  # Zhipu, Baidu
)
_BY_STATUS: Mapping[int, FailureKind] = {
    400: FailureKind.BAD_REQUEST,
    413: FailureKind.BAD_REQUEST,
    422: FailureKind.BAD_REQUEST,
    449: FailureKind.RATE_LIMIT,  # iFlow
    408: FailureKind.TIMEOUT,
    504: FailureKind.TIMEOUT,
    522: FailureKind.TIMEOUT,  # 52x: what Cloudflare says of the server behind it
    524: FailureKind.TIMEOUT,
    500: FailureKind.OVERLOADED,
    502: FailureKind.OVERLOADED,
    503: FailureKind.OVERLOADED,
    520: FailureKind.OVERLOADED,
    521: FailureKind.OVERLOADED,
    523: FailureKind.OVERLOADED,
    529: FailureKind.OVERLOADED,  # Anthropic's "overloaded"
}
_BY_CODE = (
    (re.compile("timeout"), FailureKind.TIMEOUT),
    (re.compile("overload|server|internal|unavailable|api_error"), FailureKind.OVERLOADED),
    (re.compile("auth|permission"), FailureKind.AUTH),
    (re.compile("invalid|badrequest|bad_request"), FailureKind.BAD_REQUEST),
)
_BY_WORDS = (
    (re.compile(r"rate.?limit|request limit|too many requests|throttl"), FailureKind.RATE_LIMIT),
    (re.compile(r"timed? ?out"), FailureKind.TIMEOUT),
    (re.compile(r"overload|unavailable|internal (?:server )?error"), FailureKind.OVERLOADED),
)
"""For an error that names neither a status nor a known code."""

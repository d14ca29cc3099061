"""What a provider's refusal says, and which kind of failure that is.

Providers of one API agree on little here: the kind is read from the HTTP status, the error object
and, where those are vague, from the words of its message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

import orjson

from ...domain.errors import FailureKind

_MAX_WORDS = 600
_STATUSES = range(100, 600)


@dataclass(frozen=True, slots=True)
class Said:
    """What a provider said in an error; every field as it stands there, possibly with secrets."""

    message: str = ""
    slugs: str = ""
    """The codes and types it gave, in lower case."""
    param: str | None = None
    status: int | None = None
    """An HTTP status named inside the error object (errors within a stream have no other)."""


def read_error(document: object) -> Said | None:
    """The error that a decoded body or chunk tells of; None when it tells of none.

    Shapes: OpenAI's `{"error": {...}}`, the same in a list (Gemini), `{"error": "text"}` (Ollama),
    `{"object": "error", ...}` (vLLM, Mistral), `{"detail": ...}` (FastAPI).
    """
    if isinstance(document, list) and document:
        document = document[0]
    if not isinstance(document, dict):
        return None
    error = document.get("error")
    if isinstance(error, dict):
        return _from_object(error)
    if error:
        return Said(message=_words(error))
    if document.get("object") == "error":
        return _from_object(document)
    return None


def read_body(body: bytes) -> Said:
    """The error that the body of a refusal tells of, whatever its shape."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body.decode("utf-8", "replace").strip()
        return Said() if text.startswith("<") else Said(message=_words(text))
    said = read_error(document)
    if said is None and isinstance(document, dict):
        said = _from_object({"message": document.get("detail"), **document})
    return said or Said()


def kind_of(said: Said, status: int | None) -> FailureKind:
    """The kind of failure. `status` is the answer's own, None for an error within a stream."""
    status = status or said.status
    words = f"{said.slugs} {said.message.lower()}"
    if status == 402 or _BILLING.search(words) or (status == 403 and _MONEY.search(words)):
        return FailureKind.BILLING
    if status == 429 or "rate_limit" in said.slugs:
        return FailureKind.RATE_LIMIT
    if status in (401, 403):
        return FailureKind.AUTH
    if _TOO_LONG.search(words):
        return FailureKind.CONTEXT_TOO_LONG
    if status in (None, 400) and _WRONG_KEY.search(words):
        return FailureKind.AUTH
    if names_unknown_model(said, status):
        return FailureKind.BAD_RESPONSE
    if status is not None:
        return _BY_STATUS.get(status, FailureKind.BAD_RESPONSE)
    matches = (kind for pattern, kind in _BY_SLUG if pattern.search(said.slugs))
    return next(matches, FailureKind.BAD_RESPONSE)


def names_unknown_model(said: Said, status: int | None) -> bool:
    """Whether the provider says that it has no such model: a fault of configuration."""
    if "model_not_found" in said.slugs:
        return True
    return status == 404 and "model" in said.message.lower()


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `Retry-After` (RFC 9110: seconds or a date).

    `headers` are looked up by lower-case names; `now` is Unix time. None: nothing usable is said.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "")
    seconds = _number(value)
    if seconds is not None:
        return seconds
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.fromtimestamp(now, UTC)).total_seconds())


def _from_object(error: dict[str, Any]) -> Said:
    slugs = [error.get(name) for name in ("code", "type", "status")]
    param = error.get("param")
    return Said(
        message=_words(error.get("message")),
        slugs=" ".join(str(slug) for slug in slugs if isinstance(slug, str | int)).lower(),
        param=param if isinstance(param, str) and param else None,
        status=next((number for slug in slugs if (number := _status(slug))), None),
    )


def _words(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return " ".join(text.split())


def shorten(text: str) -> str:
    """`text`, cut where it is too long to be shown to a person."""
    return text if len(text) <= _MAX_WORDS else text[:_MAX_WORDS] + "..."


def _status(slug: object) -> int | None:
    if isinstance(slug, str) and slug.isdecimal():
        slug = int(slug[:4])
    return slug if isinstance(slug, int) and slug in _STATUSES else None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return max(0.0, number) if isfinite(number) else None


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
    r"|exceed[a-z]*[^.]{0,60} context[ _](?:length|window|size|limit)"
    r"|context[ _](?:length|window|size|limit)[^.]{0,60} exceed"
    r"|(?:prompt|input) is too long|prompt too long|too many input tokens"
    r"|input token count[^.]{0,60} exceed|reduce the length of the (?:messages|prompt|input)"
)
_BY_STATUS: Mapping[int, FailureKind] = {
    400: FailureKind.BAD_REQUEST,
    413: FailureKind.BAD_REQUEST,
    422: FailureKind.BAD_REQUEST,
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
_BY_SLUG = (
    (re.compile("timeout"), FailureKind.TIMEOUT),
    (re.compile("overload|server|internal|unavailable|api_error"), FailureKind.OVERLOADED),
    (re.compile("auth|permission"), FailureKind.AUTH),
    (re.compile("invalid|badrequest|bad_request"), FailureKind.BAD_REQUEST),
)

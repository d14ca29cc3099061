"""Reads a provider's error: its message, its kind, and how long to wait before the next call.

Providers of this API differ in all three.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

from ....domain.errors import FailureKind
from . import json as json_text

_MAX_LENGTH = 600
_STATUSES = range(100, 600)
_SUCCESS_STATUSES = range(300)
"""Codes of a document that mean success."""
_SUCCESS_WORDS = frozenset({"", "0", "200", "none", "null", "ok", "success", "no error"})
_CODES = ("code", "type", "status", "error_code", "errcode", "status_code", "statusCode")
_MESSAGES = ("message", "msg", "error_msg", "errmsg", "error_message", "status_msg", "detail")
_SIGNS = frozenset({"error", "errors", "x_groq", "base_resp", "type", *_MESSAGES})
"""Every document with an error has one of these fields, or its `object` is "error"."""
_STATUS_OF_MINIMAX: Mapping[int, int] = {
    1000: 500,
    1001: 504,
    1002: 429,
    1004: 401,
    1008: 402,
    1013: 500,
    1024: 500,
    1026: 400,
    1027: 400,
    1033: 500,
    1039: 429,
    1041: 429,
    2013: 400,
    2049: 401,
    2056: 429,
}
"""The equivalent HTTP statuses of MiniMax's codes."""
_BILLING = re.compile(
    r"insufficient[ _](?:quota|credit|balance|fund)|billing_(?:hard_limit|not_active|error)"
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
    r"|request_too_large"  # Anthropic: the body, which history and pictures fill
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
_LONGEST_WAIT = 86_400.0
"""Seconds. Longer waits are cut to a day."""
_WAIT_FIELDS = ("retry_after", "retry_after_seconds", "retryAfter", "retryDelay")
_UNITS = {"ms": 0.001, "m": 60.0, "h": 3600.0, "s": 1.0}
_WAIT_WORDS = re.compile(
    r"(?:try again|retry|wait)(?: (?:in|after|for))? "
    r"(?P<time>(?:\d+(?:\.\d+)? ?(?:ms|h|m|s)[a-z]* ?)+)"
)
_TIME = re.compile(r"(?<![\d.])(\d++(?:\.\d++)?) ?(ms|h|m|s)")


@dataclass(frozen=True, slots=True)
class ProviderError:
    """An error as the provider wrote it; the texts may contain secrets."""

    message: str = ""
    codes: str = ""
    """The codes and types in the error object, in lower case."""
    param: str | None = None
    status: int | None = None
    """The HTTP status in the error object; errors within a stream have no other."""
    retry_after: float | None = None
    """Seconds to wait, from the error object or its message."""


def read_error(document: object, *, named: bool = False) -> ProviderError | None:
    """The error in a decoded body or chunk, or None.

    `named`: the event or line was named "error", so that a bare error object counts.

    Shapes: OpenAI's `{"error": {...}}`, the same in a list (Gemini), `{"error": "text"}` (Ollama),
    `{"errors": [{...}]}` (Cloudflare), `{"object": "error", ...}` (vLLM, Mistral),
    `{"code": 400, "msg": ...}`, and the `base_resp` of MiniMax. An `error`
    without content, and a code that means success, do not count.
    """
    if isinstance(document, list) and document:
        document = document[0]
    if named and isinstance(document, str) and not _means_no_error(document):
        return ProviderError(message=_words(document))
    if not isinstance(document, dict):
        return None
    if _SIGNS.isdisjoint(document) and document.get("object") != "error" and not named:
        return None
    for holder in (document, document.get("x_groq")):
        error = holder.get("error") if isinstance(holder, dict) else None
        if not _means_no_error(error):
            return _from_object(error if isinstance(error, dict) else _flat(document, error))
    errors = document.get("errors")
    if not _means_no_error(errors) and not document.get("choices"):
        return read_error({"error": errors[0] if isinstance(errors, list) else errors})
    base = document.get("base_resp")
    if isinstance(base, dict) and not _means_no_error(base.get("status_code")):
        return _from_minimax(base)
    return _from_object(document) if _is_bare_error(document, named) else None


def read_body(body: bytes) -> ProviderError:
    """The error in the body of an error response."""
    document = json_text.loads(body)
    if document is None:
        text = body.decode("utf-8", "replace").strip()
        return (
            ProviderError()
            if text.startswith("<") or text == "null"
            else ProviderError(message=_words(text))
        )
    error_object = read_error(document)
    if error_object is None and isinstance(document, dict):
        error_object = _from_object(document)
    return error_object or ProviderError()


def read_remark(document: dict[str, Any]) -> ProviderError | None:
    """The message of a document that is neither an answer nor an error."""
    if any(isinstance(text := document.get(name), str | list) and text for name in _MESSAGES):
        return _from_object(document)
    return None


def _means_no_error(value: object) -> bool:
    """Whether a value of an error field, or of its code, means that there is no error."""
    if isinstance(value, dict):
        return all(map(_means_no_error, value.values()))
    if isinstance(value, str):
        return value.strip().rstrip(".!").lower() in _SUCCESS_WORDS
    return not value or value == 200


def _is_bare_error(document: dict[str, Any], named: bool) -> bool:
    """Whether the document itself is an error object."""
    if named:
        return not _means_no_error(document)
    kind = document.get("type")
    if document.get("object") == "error" or str(kind).lower().endswith("error"):
        return True
    if all(_means_no_error(document.get(name)) for name in _MESSAGES):
        return False
    codes = [document.get(name) for name in _CODES if name != "type"]
    if document.get("choices"):
        return any((_status(code) or 0) >= 400 for code in codes)
    return any(map(_is_error_code, codes[:1] + codes[2:])) or (_status(codes[1]) or 0) >= 400


def _is_error_code(code: object) -> bool:
    if isinstance(code, str) and code.strip().isdecimal():
        code = int(code.strip()[:9])
    if isinstance(code, int):
        return code not in _SUCCESS_STATUSES
    return isinstance(code, str) and not _means_no_error(code)


def _from_object(error: dict[str, Any]) -> ProviderError:
    codes = [error.get(name) for name in _CODES]
    param = error.get("param")
    return ProviderError(
        message=_message(error),
        codes=" ".join(str(code) for code in codes if isinstance(code, str | int)).lower(),
        param=json_text.repaired(param) if isinstance(param, str) and param else None,
        status=next((number for code in codes if (number := _status(code))), None),
        retry_after=advised_wait(error, _message(error)),
    )


def _flat(document: dict[str, Any], error: object) -> dict[str, Any]:
    """An error object made of a document whose `error` is a text, a number or true."""
    if any(document.get(name) for name in _MESSAGES):
        fields = {name: document.get(name) for name in (*_CODES, *_MESSAGES)}
        return {**fields, "type": error, "error_code": document.get("error_code") or error}
    return {**document, "message": error}


def _from_minimax(base: dict[str, Any]) -> ProviderError:
    error_object = _from_object(base)
    code = base.get("status_code")
    number = int(code) if isinstance(code, str) and code.isdecimal() else code
    status = _STATUS_OF_MINIMAX.get(number) if isinstance(number, int) else None
    return replace(error_object, status=status or error_object.status)


def _message(error: dict[str, Any]) -> str:
    values = (error.get(name) for name in _MESSAGES)
    words = _words(next((value for value in values if value not in (None, "")), None))
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if isinstance(raw, str) and raw:  # OpenRouter: the message of the provider behind it.
        return f"{words}: {_words(raw)}" if words else _words(raw)
    return words


def _words(value: object) -> str:
    if value is None:
        return ""
    text = json_text.repaired(value) if isinstance(value, str) else json_text.shown(value)
    return " ".join(text.split())


def shorten(text: str) -> str:
    """`text`, cut to a readable length."""
    return text if len(text) <= _MAX_LENGTH else text[:_MAX_LENGTH] + "..."


def _status(code: object) -> int | None:
    if isinstance(code, str) and code.isdecimal():
        code = int(code[:4])
    return code if isinstance(code, int) and code in _STATUSES else None


def kind_of(error: ProviderError, status: int | None) -> FailureKind:
    """The kind of an error, by its status, its codes and, if those are vague, its words.

    `status`: of the response, None for an error within a stream.
    """
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


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `Retry-After` (RFC 9110: seconds or a date).

    `headers` have lower-case names; `now` is Unix time. None if there is no usable value.
    """
    return _bounded(_wait_of_headers(headers, now))


def _wait_of_headers(headers: Mapping[str, str], now: float) -> float | None:
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


def advised_wait(error: dict[str, Any], message: str) -> float | None:
    """Seconds to wait, from the fields of an error object or its message."""
    return _bounded(_wait_of_error(error, message))


def _bounded(seconds: float | None) -> float | None:
    return None if seconds is None else min(seconds, _LONGEST_WAIT)


def _wait_of_error(error: dict[str, Any], message: str) -> float | None:
    details = error.get("details")
    metadata = error.get("metadata")
    holders = [error, metadata, *(details if isinstance(details, list) else ())]
    if isinstance(metadata, dict) and isinstance(headers := metadata.get("headers"), dict):
        # OpenRouter: the headers of the provider behind it.
        lower = {str(name).lower(): value for name, value in headers.items()}
        holders.append({"retry_after": lower.get("retry-after")})
    for holder in holders:
        if isinstance(holder, dict) and (seconds := _wait_of_fields(holder)) is not None:
            return seconds
    words = _WAIT_WORDS.search(message.lower())
    return None if words is None else _from_time(words["time"])


def _wait_of_fields(holder: dict[str, Any]) -> float | None:
    if (milliseconds := _number(str(holder.get("retry_after_ms")))) is not None:
        return milliseconds / 1000
    for name in _WAIT_FIELDS:
        value = str(holder.get(name))  # Google's is spelled "34s".
        if (seconds := _number(value.removesuffix("s"))) is not None:
            return seconds
    return None


def _from_time(text: str) -> float:
    return sum(float(number) * _UNITS[unit] for number, unit in _TIME.findall(text))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return max(0.0, number) if isfinite(number) else None

"""Reads how long to wait before the next call, from headers or an error object."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

_LONGEST = 86_400.0
"""Seconds. Longer waits are cut to a day."""
_SECONDS = ("retry_after", "retry_after_seconds", "retryAfter", "retryDelay")
_UNITS = {"ms": 0.001, "m": 60.0, "h": 3600.0, "s": 1.0}
_WORDS = re.compile(
    r"(?:try again|retry|wait)(?: (?:in|after|for))? "
    r"(?P<time>(?:\d+(?:\.\d+)? ?(?:ms|h|m|s)[a-z]* ?)+)"
)
_TIME = re.compile(r"(?<![\d.])(\d++(?:\.\d++)?) ?(ms|h|m|s)")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `Retry-After` (RFC 9110: seconds or a date).

    `headers` have lower-case names; `now` is Unix time. None if there is no usable value.
    """
    return _bounded(_from_headers(headers, now))


def _from_headers(headers: Mapping[str, str], now: float) -> float | None:
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


def advice(error: dict[str, Any], message: str) -> float | None:
    """Seconds to wait, from the fields of an error object or its message."""
    return _bounded(_from_error(error, message))


def _bounded(seconds: float | None) -> float | None:
    return None if seconds is None else min(seconds, _LONGEST)


def _from_error(error: dict[str, Any], message: str) -> float | None:
    details = error.get("details")
    metadata = error.get("metadata")
    holders = [error, metadata, *(details if isinstance(details, list) else ())]
    if isinstance(metadata, dict) and isinstance(headers := metadata.get("headers"), dict):
        # OpenRouter: the headers of the provider behind it.
        lower = {str(name).lower(): value for name, value in headers.items()}
        holders.append({"retry_after": lower.get("retry-after")})
    for holder in holders:
        if isinstance(holder, dict) and (seconds := _from_fields(holder)) is not None:
            return seconds
    words = _WORDS.search(message.lower())
    return None if words is None else _from_time(words["time"])


def _from_fields(holder: dict[str, Any]) -> float | None:
    if (milliseconds := _number(str(holder.get("retry_after_ms")))) is not None:
        return milliseconds / 1000
    for name in _SECONDS:
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

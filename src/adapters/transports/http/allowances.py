"""The `x-ratelimit-*` headers: what an API key has left, by OpenAI's names."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ....domain.services import Allowance, Allowances

_LIMITED = {
    "requests": "requests per minute",
    "tokens": "tokens of the day or of the month, whichever has less left",
    "cost": "US dollars of the month",
    "runs": "runs at once",
}
ALLOWANCE_HEADERS = {
    **{f"x-ratelimit-limit-{name}": f"Limit: {what}." for name, what in _LIMITED.items()},
    **{f"x-ratelimit-remaining-{name}": f"Left: {what}." for name, what in _LIMITED.items()},
    **{
        f"x-ratelimit-reset-{name}": f"Time until all is there again, such as `6m0s`: {what}."
        for name, what in _LIMITED.items()
        if name != "runs"
    },
}
"""What each header means. An answer has those of the limits that its key has."""


def allowance_headers(left: Allowances) -> Mapping[str, str]:
    """The headers of the limits that there are."""
    return {
        **_headers("requests", left.requests),
        **_headers("tokens", left.tokens),
        **_headers("cost", left.cost),
        **_headers("runs", left.runs),
    }


def _headers(what: str, allowance: Allowance | None) -> Mapping[str, str]:
    if allowance is None:
        return {}
    headers = {
        f"x-ratelimit-limit-{what}": _number(allowance.limit),
        f"x-ratelimit-remaining-{what}": _number(allowance.remaining),
    }
    if allowance.reset is not None:
        headers[f"x-ratelimit-reset-{what}"] = duration(allowance.reset)
    return headers


def _number(value: float) -> str:
    """Dollars are rounded down, so that what is left is never more than that."""
    if value == int(value):
        return str(int(value))
    return f"{math.floor(value * 1_000_000) / 1_000_000:.6f}".rstrip("0").rstrip(".")


def duration(seconds: float) -> str:
    """Seconds in the form of OpenAI's headers: 750ms, 12s, 6m0s, 3h25m0s."""
    if 0 < seconds < 1:
        return f"{math.ceil(seconds * 1_000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"

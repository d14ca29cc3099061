"""What is left of a key's limits, in the form of OpenAI's headers."""

from __future__ import annotations

import pytest

from opensoul.adapters.transports.http.allowances import allowance_headers, duration
from opensoul.domain.services import Allowance, Allowances


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0004, "1ms"),
        (0.75, "750ms"),
        (1, "1s"),
        (12.2, "13s"),
        (60, "1m0s"),
        (360, "6m0s"),
        (12_300, "3h25m0s"),
        (86_400, "24h0m0s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_only_limits_that_there_are_have_headers() -> None:
    assert allowance_headers(Allowances()) == {}
    assert allowance_headers(Allowances(requests=Allowance(60, 59, 1.0))) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
    }
    assert allowance_headers(Allowances(tokens=Allowance(9, 0, 90.0))) == {
        "x-ratelimit-limit-tokens": "9",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1m30s",
    }
    assert allowance_headers(
        Allowances(cost=Allowance(20.0, 0.1234567, 1.0), runs=Allowance(2, 1))
    ) == {
        "x-ratelimit-limit-cost": "20",
        "x-ratelimit-remaining-cost": "0.123456",
        "x-ratelimit-reset-cost": "1s",
        "x-ratelimit-limit-runs": "2",
        "x-ratelimit-remaining-runs": "1",
    }

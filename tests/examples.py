"""How many examples the property tests try."""

from __future__ import annotations

from hypothesis import settings

_USUAL = 50


def register_profiles() -> None:
    """The profiles of `make test`, and of `make test-all`, which has time for more examples.

    No test asserts on time: how long an example takes depends on what else the machine does.
    """
    settings.register_profile("tests", deadline=None, max_examples=20)
    settings.register_profile("thorough", deadline=None, max_examples=200)
    settings.load_profile("tests")


def examples(usual: int) -> int:
    """The number of examples in the chosen profile, for a test that needs more or fewer than
    others: `usual` where others try 50."""
    return max(1, usual * settings().max_examples // _USUAL)

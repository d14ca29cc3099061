"""The optional package that the endpoint needs."""

from __future__ import annotations

from importlib.util import find_spec

PROBLEM = "The A2A endpoint is switched on, but the package a2a-sdk is not installed."
ADVICE = "Install it: pip install 'opensoul[a2a]'"


def is_installed() -> bool:
    """Whether a2a-sdk is there. Does not import it."""
    return find_spec("a2a") is not None

"""The optional package that the endpoint needs."""

from __future__ import annotations

from importlib.util import find_spec

MISSING = (
    "The A2A endpoint needs the package a2a-sdk, which is not installed. Install it with: "
    "pip install 'opensoul[a2a]'"
)


def is_installed() -> bool:
    """Whether a2a-sdk is there. Does not import it."""
    return find_spec("a2a") is not None

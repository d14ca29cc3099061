"""The version of the Gateway."""

from __future__ import annotations

from functools import cache


def version_line() -> str:
    """`opensoul <version>`."""
    return f"opensoul {version()}"


@cache
def version() -> str:
    """The installed version; `unknown` if the package is not installed."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("opensoul")
    except PackageNotFoundError:
        return "unknown"

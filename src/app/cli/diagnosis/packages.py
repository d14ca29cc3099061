"""Checks of optional packages that the configuration needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from . import Finding

if TYPE_CHECKING:
    from ....domain.settings import Settings


def missing(settings: Settings) -> Iterator[Finding]:
    """The packages that endpoints need which are switched on."""
    from ....adapters.transports import a2a

    if settings.endpoints.a2a and not a2a.is_installed():
        yield Finding("package_missing", a2a.PROBLEM, a2a.ADVICE)

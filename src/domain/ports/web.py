"""Resources of the public internet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class WebFailed(Exception):
    """A resource cannot be fetched, or not from there; the message says why."""


@dataclass(frozen=True, slots=True)
class WebLimits:
    """`max_bytes`: of the body, before and after decompression. `seconds`: for everything."""

    max_bytes: int
    max_redirects: int
    seconds: float
    accept: str = "*/*"
    """The header of the request."""


@dataclass(frozen=True, slots=True)
class WebResource:
    url: str
    """After redirects."""
    host: str
    status: int
    content_type: str
    charset: str
    body: bytes
    """Decompressed."""
    is_whole: bool
    """False where the body is longer than the limit: then this is its beginning."""


class WebClient(Protocol):
    """Fetches from hosts of the public internet and no others, whatever a URL, a name server or a
    redirect says. No credential, cookie or proxy is used."""

    async def get(
        self, url: str, limits: WebLimits, is_wanted: Callable[[str], bool]
    ) -> WebResource:
        """The resource, whatever its status is. `is_wanted` decides about content types: the body
        of others is not read. Raises WebFailed, TimeoutError."""
        ...

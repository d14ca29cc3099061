"""An HTTP client that does not read answers of any size."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2

from .errors import MOST_BYTES


class _Limited(httpx2.AsyncByteStream):
    """The stream of a response; it fails after MOST_BYTES."""

    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MOST_BYTES
        async for chunk in self._inner:
            left -= len(chunk)
            if left < 0:
                raise httpx2.DecodingError(f"The answer has more than {MOST_BYTES} bytes.")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _limit(response: httpx2.Response) -> None:
    # A stream of events may last for days; the transport limits each event.
    kind = response.headers.get("content-type", "")
    if not kind.startswith("text/event-stream") and isinstance(
        response.stream, httpx2.AsyncByteStream
    ):
        response.stream = _Limited(response.stream)


def limited_client(
    headers: dict[str, str] | None = None,
    timeout: httpx2.Timeout | None = None,
    auth: httpx2.Auth | None = None,
) -> httpx2.AsyncClient:
    """Redirects are followed by the transports of `mcp`, within the origin of the URL only."""
    return httpx2.AsyncClient(
        headers=headers, timeout=timeout, auth=auth, event_hooks={"response": [_limit]}
    )

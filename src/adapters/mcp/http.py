"""An HTTP client that does not read answers of any size."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

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


def noting_errors(note: Callable[[bytes], None]) -> Callable[[httpx2.Response], Awaitable[None]]:
    """A hook that notes the status of refused requests: errors of `mcp` do not name it."""

    async def hook(response: httpx2.Response) -> None:
        if response.request.method == "POST" and response.is_error:
            note(f"HTTP {response.status_code} {response.reason_phrase}\n".encode())

    return hook


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

"""An HTTP client connection with limits on everything around the response body.

aiohttp limits the number and size of headers, and pauses reading while a body is not consumed. It
has no limit for other data: interim responses, empty lines before the headers, chunk extensions,
and unsolicited data on a pooled connection.
"""

from __future__ import annotations

from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

MAX_HEAD_BYTES = 1024 * 1024
"""The headers of a response together with its interim responses."""
MAX_FRAMING_BYTES = 1024 * 1024
"""Bytes of chunk framing allowed in addition to the size of the body."""
_SHARE = 2
MAX_INTERIM = 32
"""Interim responses (1xx) before a response."""
EXCESS_BEFORE_HEAD = "Too much before the head of the answer"
_HEAD = b"\nHTTP/1."


class EmptyFraming(aiohttp.ClientPayloadError):
    """A response consists almost entirely of chunk framing."""


class BoundedConnection(ResponseHandler):
    """Aborts the connection when the data around the body exceeds the limits."""

    def set_response_params(self, **settings: Any) -> None:
        """aiohttp calls this before each response."""
        self._received = self._heads = 0
        self._former = self._payload
        super().set_response_params(**settings)

    def data_received(self, data: bytes) -> None:
        """Bytes from the provider; empty when aiohttp resumes with buffered data."""
        if not data:
            super().data_received(data)
            return
        payload = self._payload
        before_head = payload is self._former or payload is aiohttp.EMPTY_PAYLOAD
        self._received += len(data)
        if before_head:
            self._heads += data.count(_HEAD)
            if self._received > MAX_HEAD_BYTES or self._heads > MAX_INTERIM:
                self.set_exception(HttpProcessingError(code=400, message=EXCESS_BEFORE_HEAD))
                self._end()
                return
        elif payload is None or payload.is_eof():
            # Unsolicited data after a complete response.
            self._end()
            return
        elif self._received - _SHARE * payload.total_bytes > MAX_FRAMING_BYTES:
            # The body itself is limited by its reader.
            payload.set_exception(EmptyFraming("The response is almost only chunk framing."))
            self._end()
            return
        super().data_received(data)

    def _end(self) -> None:
        # Detached, because aiohttp would replace the body's error by that of a lost connection.
        self._payload = None
        self.force_close()
        if self.transport is not None:
            self.transport.abort()

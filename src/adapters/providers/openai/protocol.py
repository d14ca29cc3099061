"""The client's side of one connection, with bounds on what stands around an answer's body.

The HTTP library limits each header and their number, and stops reading while a body waits for its
reader. It reads without a limit what makes no body: interim responses, empty lines before the
head, chunk extensions, and answers that nobody asked for on a connection that is kept.
"""

from __future__ import annotations

from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

MAX_HEAD_BYTES = 1024 * 1024
"""All headers of an answer and of the interim responses before it."""
MAX_FRAMING_BYTES = 1024 * 1024
"""What the chunks of an answer may have around the body, beyond as much as the body itself."""
_SHARE = 2
MAX_INTERIM = 32
"""Interim responses (1xx) before an answer."""
EXCESS_BEFORE_HEAD = "Too much before the head of the answer"
_HEAD = b"\nHTTP/1."


class EmptyFraming(aiohttp.ClientPayloadError):
    """An answer holds little but the framing of its chunks."""


class BoundedConnection(ResponseHandler):
    """Ends the connection when the provider sends more than an answer may have."""

    def set_response_params(self, **settings: Any) -> None:
        """The next answer on this connection is expected."""
        self._received = self._heads = 0
        self._former = self._payload
        super().set_response_params(**settings)

    def data_received(self, data: bytes) -> None:
        """Bytes from the provider; empty when the library goes on with what it kept."""
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
            # Nobody asked for more: what comes now belongs to no request.
            self._end()
            return
        elif self._received - _SHARE * payload.total_bytes > MAX_FRAMING_BYTES:
            # The body itself is counted by its reader, and waits for it.
            payload.set_exception(EmptyFraming("The answer holds little but framing."))
            self._end()
            return
        super().data_received(data)

    def _end(self) -> None:
        # The library would replace the error of the body by that of a lost connection.
        self._payload = None
        self.force_close()
        if self.transport is not None:
            self.transport.abort()

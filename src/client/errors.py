"""The errors of the client.

ClientError
├── ConnectFailed       no Gateway answers at the address
├── HandshakeRefused    the Gateway rejected the handshake; the message is the Gateway's
├── ConnectionLost      the connection ended while a caller waited for it
├── CallFailed          the Gateway rejected a request, or it failed; the message is the Gateway's
├── TimedOut            no response within the timeout
└── ReaderTooSlow       a reader of events exceeded its buffer
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Base class. The message is meant for a person."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConnectFailed(ClientError):
    """No Gateway answers at the address."""


class HandshakeRefused(ClientError):
    """`details` is machine-readable; `retryable`: the same request may be accepted later."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        details: Mapping[str, Any] | None = None,
        close_code: int | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.details = dict(details or {})
        self.close_code = close_code
        self.retryable = retryable
        self.retry_after = retry_after


class ConnectionLost(ClientError):
    """`code` and `reason` come from the close frame, if one arrived."""

    def __init__(self, message: str, *, code: int | None = None, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class CallFailed(ClientError):
    """`code` is the protocol's error code; `payload` accompanied the error; `retry_after` is in
    seconds."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        details: object = None,
        retryable: bool = False,
        retry_after: float | None = None,
        payload: object = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.details = details
        self.retryable = retryable
        self.retry_after = retry_after
        self.payload = payload

    @property
    def reason(self) -> str:
        """The code within the details if they have one, else `code`."""
        detail = self.details.get("code") if isinstance(self.details, dict) else None
        return detail if isinstance(detail, str) else self.code


class TimedOut(ClientError, TimeoutError):
    """The Gateway may still execute the request."""


class ReaderTooSlow(ClientError):
    """A reader of events had `MAX_UNREAD` unread events, so later ones were dropped."""

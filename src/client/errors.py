"""What can go wrong for a client, as one tree.

ClientError
├── ConnectFailed       nobody answers at that address
├── HandshakeRefused    the Gateway answers, and lets nobody like this in; its own words
├── ConnectionLost      the connection ended, and with it whatever waited on it
├── CallFailed          the Gateway refused a request, or it failed; its own words
├── TimedOut            no answer within the time that was given
└── ReaderTooSlow       more events than were read
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Root of the tree. The message is for a person."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConnectFailed(ClientError):
    """Nobody answers at the address, or no Gateway does."""


class HandshakeRefused(ClientError):
    """`details` says more for programs; `retryable`: the same may be let in later."""

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
    """`code` and `reason` are those of the close frame, where there was one."""

    def __init__(self, message: str, *, code: int | None = None, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class CallFailed(ClientError):
    """`code` is the protocol's; `payload` what came beside the error; `retry_after` in seconds."""

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
        """The finer code within the details, where there is one; else the code."""
        finer = self.details.get("code") if isinstance(self.details, dict) else None
        return finer if isinstance(finer, str) else self.code


class TimedOut(ClientError, TimeoutError):
    """What was asked for may still happen."""


class ReaderTooSlow(ClientError):
    """A reader of events left so many unread that some had to be dropped."""

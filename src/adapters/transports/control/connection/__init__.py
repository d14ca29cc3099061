"""One connection: its requests, its outbox and its loop."""

from .connection import (
    ANSWERED,
    RESTART,
    AnswerFailed,
    Call,
    Connection,
    Handler,
    Handlers,
    NoParams,
    Params,
)
from .dispatcher import MAX_VALUES, BadFrame, Requests, check_handlers, read_frame
from .half_open import MAX_HALF_OPEN, MAX_PER_ADDRESS, HalfOpen, HalfOpenConnections
from .inbound import BoundedConnection
from .outbox import MAX_BUFFERED, error_frame, event_frame, response_frame
from .serving import serve

__all__ = [
    "ANSWERED",
    "MAX_BUFFERED",
    "MAX_HALF_OPEN",
    "MAX_PER_ADDRESS",
    "MAX_VALUES",
    "RESTART",
    "AnswerFailed",
    "BadFrame",
    "BoundedConnection",
    "Call",
    "Connection",
    "HalfOpen",
    "HalfOpenConnections",
    "Handler",
    "Handlers",
    "NoParams",
    "Params",
    "Requests",
    "check_handlers",
    "error_frame",
    "event_frame",
    "read_frame",
    "response_frame",
    "serve",
]

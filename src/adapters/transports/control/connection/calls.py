"""The interface of method handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from .....domain.access import Principal
from .....domain.byte_budget import NO_CHARGE, Charge
from ..protocol import ErrorShape, Frame
from .connection import Connection

P = TypeVar("P", bound=BaseModel)


class Params(Frame):
    """Base class of parameters: a closed object in camel case."""


class NoParams(Params):
    """A method without parameters."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `answer` sends a first response; the handler's return value is the last one."""

    method: str
    connection: Connection
    answer: Callable[[object], None]
    charge: Charge = NO_CHARGE
    """The charge for the request's bytes; a Run started by it must hold it too."""

    @property
    def principal(self) -> Principal:
        return self.connection.principal


@dataclass(frozen=True, slots=True)
class Handler(Generic[P]):
    """A method's parameter model and its function.

    `run` gets the call and the parameters and returns the payload, which must be encodable as
    JSON. It raises GatewayError, or AnswerFailed for an error with a payload.
    """

    params: type[P]
    run: Callable[[Call, P], Awaitable[object]]


Handlers = Mapping[str, Handler[Any]]

ANSWERED = object()
"""Returned by a handler whose first response was the last one."""


class AnswerFailed(Exception):
    """An error response with a payload."""

    def __init__(self, error: ErrorShape, payload: object) -> None:
        super().__init__(error.message)
        self.error = error
        self.payload = payload

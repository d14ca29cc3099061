"""What a method's handler gets to work with, and how it answers."""

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
    """What the parameters of all methods share: a closed object in camel case."""


class NoParams(Params):
    """A method without parameters."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a client. `answer` sends a first answer; what the handler returns is the
    last."""

    method: str
    connection: Connection
    answer: Callable[[object], None]
    charge: Charge = NO_CHARGE
    """For the bytes of the request; a Run that begins by it has to hold it, too."""

    @property
    def principal(self) -> Principal:
        """Who asks."""
        return self.connection.principal


@dataclass(frozen=True, slots=True)
class Handler(Generic[P]):
    """The shape of a method's parameters, and what answers it.

    `run` gets the call and its parameters, and returns the payload: whatever is JSON. It raises
    GatewayError for what is refused, and AnswerFailed for a failure that has a payload.
    """

    params: type[P]
    run: Callable[[Call, P], Awaitable[object]]


Handlers = Mapping[str, Handler[Any]]

ANSWERED = object()
"""What a handler returns whose first answer was the last."""


class AnswerFailed(Exception):
    """An answer that tells of a failure and has a payload too."""

    def __init__(self, error: ErrorShape, payload: object) -> None:
        super().__init__(error.message)
        self.error = error
        self.payload = payload

"""The base of the classes that answer methods."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import BaseModel

from ..broadcast import Hub
from ..connection import Call, Handler, Handlers
from ..dependencies import Dependencies
from .outcomes import Outcomes
from .rows import Rows

S = TypeVar("S")
P = TypeVar("P", bound=BaseModel)
R = TypeVar("R")

_ANSWERED = "answered_method"


def answers(
    method: str, params: type[P]
) -> Callable[[Callable[[S, Call, P], Awaitable[R]]], Callable[[S, Call, P], Awaitable[R]]]:
    """Mark a function of a ControlService as the one that answers `method`."""

    def mark(
        function: Callable[[S, Call, P], Awaitable[R]],
    ) -> Callable[[S, Call, P], Awaitable[R]]:
        setattr(function, _ANSWERED, (method, params))
        return function

    return mark


class ControlService:
    """What the functions that answer methods use."""

    def __init__(self, dependencies: Dependencies, hub: Hub) -> None:
        self.dependencies = dependencies
        self.gateway = dependencies.gateway
        self.session_service = dependencies.session_service
        self.clock = dependencies.clock
        self.hub = hub
        self.rows = Rows(self.gateway, self.session_service)
        self.outcomes = Outcomes(self.gateway, self.session_service, hub)

    def handlers(self) -> Handlers:
        """The marked functions of this class, without those that it inherits."""
        marked = {
            name: getattr(function, _ANSWERED)
            for name, function in vars(type(self)).items()
            if hasattr(function, _ANSWERED)
        }
        return {
            method: Handler(params, getattr(self, name))
            for name, (method, params) in marked.items()
        }

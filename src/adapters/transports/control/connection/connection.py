"""The state of one connection, and the interface of the handlers of its requests."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from .....domain.access import Principal, Scope
from .....domain.byte_budget import NO_CHARGE, Charge
from .....domain.sessions import SessionKey
from ..protocol import ClientInfo, ErrorShape, Frame, close_reason
from .outbox import Outbox

RESTART = 1012
"""The close code when the Gateway stops; queued frames are sent first."""


@dataclass(slots=True, eq=False)
class Connection:
    """After the handshake."""

    id: str
    principal: Principal
    role: str
    protocol: int
    client: ClientInfo
    caps: frozenset[str]
    address: str
    connected_at: float
    """Unix seconds."""
    device_id: str | None = None
    outbox: Outbox = field(default_factory=Outbox)
    sessions: set[SessionKey] = field(default_factory=set)
    """Sessions that it is subscribed to; maintained by the Hub."""
    reserved_sessions: Counter[SessionKey] = field(default_factory=Counter)
    """Reserved subscriptions: the number of requests in progress for each Session."""
    following: set[str] = field(default_factory=set)
    """Runs that it follows, whose broadcast therefore excludes it."""
    followed: set[str] = field(default_factory=set)
    """Runs that it has followed to their end, while their broadcast is still in progress."""
    is_gone: bool = False
    """The client has disconnected; set by the Hub."""
    _close: tuple[int, str] | None = None
    _closing: asyncio.Event = field(default_factory=asyncio.Event)

    def close(self, code: int, reason: str) -> None:
        """Request the end of the connection. Only the first call has an effect."""
        if self._close is None:
            self._close = (code, close_reason(reason))
            self._closing.set()

    @property
    def is_closing(self) -> bool:
        return self._close is not None

    async def closed(self) -> tuple[int, str]:
        """Wait for `close`; its code and reason."""
        await self._closing.wait()
        assert self._close is not None  # noqa: S101 - set before the event
        return self._close

    def follows(self, run_id: str) -> bool:
        """Whether a broadcast of the Run would send its events to this client twice."""
        return run_id in self.following or run_id in self.followed

    def may_see(self, scope: Scope | None) -> bool:
        """Whether this client may receive events of a scope; None: every client may. Events with a
        scope concern the whole Gateway, so that a client restricted to agents gets none of them."""
        if scope is None:
            return True
        return self.role == "operator" and not self.is_restricted and self.principal.may(scope)

    @property
    def is_restricted(self) -> bool:
        """Whether the client may use some agents only."""
        return self.principal.agents is not None


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

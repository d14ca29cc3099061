"""Dispatches requests: decoding, method lookup, authorization, parameters, handler."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic import BaseModel, ValidationError

from .....domain.access import authorize
from .....domain.byte_budget import Charge, InFlight
from .....domain.concurrency import LARGE, off_loop
from .....domain.errors import Forbidden, GatewayBusy, GatewayError, InvalidRequest, Unavailable
from ...http.json_text import read_bounded
from ..protocol import (
    BEGINNING,
    FOR_AGENTS,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    METHODS,
    UNAVAILABLE,
    ErrorShape,
    Method,
    RequestFrame,
    UnknownProperties,
    error_of,
    invalid_params,
    validation_text,
)
from .connection import ANSWERED, AnswerFailed, Call, Connection, Handler, Handlers
from .outbox import error_frame, response_frame

logger = logging.getLogger(__name__)

_MAX_REQUESTS = 256
"""Concurrent requests of one connection, including those that wait for a run."""
_MAX_REQUEST_BYTES = 64 * 1024 * 1024
"""Bytes of the concurrent requests of one connection."""
MAX_VALUES = 5_000
"""Keys and values in one message. Methods need a few hundred at most: texts, configuration files
and images are strings."""
_SIZEABLE = 1_024
"""Characters of a message that may take a millisecond to read and to check."""
_ID = re.compile(
    rb'\A\s*+\{(?:\s*"[^"\\]{0,64}"\s*:\s*"[^"\\]{0,256}"\s*,)*?\s*"id"\s*:\s*"([^"\\]{1,256})"'
)
"""Finds the id in the beginning of a message that is not decoded, if only short strings precede
it."""
_IDENTIFIER_NAMES = """
agentId auth baseHash cursor device deviceId expectedSessionId id idempotencyKey instanceId key
keys messageId method model parentSessionKey provider requestId runId sessionId sessionKey
spawnedBy
"""
_IDENTIFIERS = frozenset(_IDENTIFIER_NAMES.split())
"""Fields that are compared: lone surrogates in them are rejected instead of replaced."""
_MAX_ROLE_ERRORS = 10
"""Calls of another role's methods after which a connection is closed."""

_BUSY = ErrorShape(
    code=UNAVAILABLE,
    message=f"This connection has reached its limit of {_MAX_REQUESTS} concurrent requests or "
    f"{_MAX_REQUEST_BYTES} bytes of requests. Wait for responses before sending more.",
    retryable=True,
    retry_after_ms=1_000,
)


class BadFrame(Exception):
    """A message that is not a valid request. `request_id`: its id as far as it could be read."""

    def __init__(self, message: str, request_id: str = "invalid") -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id


def read_frame(message: str | bytes) -> RequestFrame:
    """Decode a request. Raises BadFrame."""
    if isinstance(message, bytes):
        raise BadFrame("invalid request frame: expected a text message, got a binary one")
    text = message.encode("utf-8", "surrogatepass")
    try:
        value = read_bounded(text, identifiers=_IDENTIFIERS, most=MAX_VALUES)
    except InvalidRequest as error:
        raise BadFrame(f"invalid request frame: {error.message}", _id_in(text)) from None
    known = value.get("id") if isinstance(value, dict) else None
    request_id = known if isinstance(known, str) and known else "invalid"
    try:
        return RequestFrame.model_validate(value)
    except ValidationError as error:
        problem = f"invalid request frame: {validation_text(error)}"
        raise BadFrame(problem, request_id[:256]) from None


def _id_in(text: bytes) -> str:
    found = _ID.match(text[:BEGINNING])
    return found[1].decode("utf-8", "replace")[:256] if found else "invalid"


def check_handlers(handlers: Mapping[str, object]) -> None:
    """Raises ValueError unless the handlers are exactly those of the route table."""
    expected = {method.name for method in METHODS.values() if method.implemented}
    if expected != set(handlers):
        difference = sorted(expected.symmetric_difference(handlers))
        raise ValueError(f"the route table and the handlers differ in: {', '.join(difference)}")


@dataclass(slots=True, eq=False)
class Requests:
    """The requests of one connection; each runs in its own task, so responses may be reordered.

    Large requests are partly processed in threads. The next request is not read until the large
    one has its first response, so that it cannot overtake it on the way to a session's lane.
    """

    connection: Connection
    handlers: Handlers
    in_flight: InFlight
    unknown: UnknownProperties = field(default_factory=UnknownProperties)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _bytes: int = 0
    _role_errors: int = 0

    async def take(self, message: str | bytes) -> None:
        """Start the request in a message; responses go to the connection's outbox."""
        charge = self.in_flight.charge()
        refusal: ErrorShape | None = None
        try:
            charge.add(sys.getsizeof(message))
        except GatewayBusy as busy:
            refusal = error_of(busy, protocol=self.connection.protocol)
        try:
            if len(message) >= _SIZEABLE:
                # Messages that are here already would all be handled in one turn of the loop.
                await asyncio.sleep(0)
            frame = await off_loop(len(message), partial(read_frame, message))
            if len(self._tasks) >= _MAX_REQUESTS or self._bytes + len(message) > _MAX_REQUEST_BYTES:
                refusal = _BUSY
            if refusal is not None:
                self.connection.outbox.put(error_frame(frame.id, refusal))
                return
            answered = self._begin(frame, len(message), charge)
        except BadFrame as bad:
            error = ErrorShape(code=INVALID_REQUEST, message=bad.message)
            self.connection.outbox.put(error_frame(bad.request_id, error))
            return
        finally:
            charge.release()
        if len(message) >= LARGE:
            await answered.wait()

    def refuse(self, beginning: str | bytes) -> None:
        """Reject a truncated message, because the byte budget of all requests is exhausted."""
        text = beginning if isinstance(beginning, bytes) else beginning.encode()
        error = error_of(self.in_flight.busy(), protocol=self.connection.protocol)
        self.connection.outbox.put(error_frame(_id_in(text), error))

    def _begin(self, frame: RequestFrame, size: int, charge: Charge) -> asyncio.Event:
        """Start a request. The event is set when it has its first response."""
        charge.keep()
        self._bytes += size
        answered = asyncio.Event()
        task = asyncio.create_task(self._answer(frame, answered, charge))
        self._tasks.add(task)
        task.add_done_callback(partial(self._answered, size, charge))
        return answered

    def _answered(self, size: int, charge: Charge, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._bytes -= size
        charge.release()

    async def done(self, patience: float) -> None:
        """Wait until all requests have their responses, at most `patience` seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience)

    async def stop(self) -> None:
        """Cancel the requests in progress. Their runs continue."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, frame: RequestFrame, answered: asyncio.Event, charge: Charge) -> None:
        outbox, protocol = self.connection.outbox, self.connection.protocol

        def first(payload: object) -> None:
            outbox.put(response_frame(frame.id, payload))
            answered.set()

        try:
            call = Call(frame.method, self.connection, first, charge)
            payload = await self._handle(frame, call)
        except AnswerFailed as failed:
            outbox.put(error_frame(frame.id, failed.error, failed.payload))
        except GatewayError as error:
            outbox.put(error_frame(frame.id, error_of(error, protocol=protocol)))
        except Exception:
            # The outermost handler of a request: the error is logged, not sent to the client.
            extra = {"connection": self.connection.id, "method": frame.method[:64]}
            logger.exception("a request failed unexpectedly", extra=extra)
            outbox.put(error_frame(frame.id, INTERNAL_ERROR))
        else:
            if payload is not ANSWERED:
                outbox.put(response_frame(frame.id, payload))
        finally:
            answered.set()

    async def _handle(self, frame: RequestFrame, call: Call) -> object:
        if frame.method == "connect":
            raise InvalidRequest("connect is only valid as the first request of a connection")
        method = METHODS.get(frame.method)
        if method is None:
            raise InvalidRequest(f"unknown method: {frame.method}")
        self._authorize(method, frame.params)
        if method.missing is not None:
            raise Unavailable(method.missing)
        if method.empty is not None:
            return method.empty
        handler: Handler[Any] = self.handlers[method.name]
        return await handler.run(call, self._params(method, handler.params, frame.params))

    def _params(self, method: Method, model: type[BaseModel], params: object) -> BaseModel:
        """Raises InvalidRequest."""
        params = {} if params is None else params
        try:
            if method.reads:
                return self.unknown.lenient(method.name, model, params)
            return model.model_validate(params)
        except ValidationError as error:
            raise invalid_params(method.name, error) from None

    def _authorize(self, method: Method, params: object) -> None:
        """Raises Forbidden."""
        role = self.connection.role
        if role != method.role:
            self._role_errors += 1
            if self._role_errors > _MAX_ROLE_ERRORS:
                self.connection.close(1008, "repeated unauthorized calls")
            raise Forbidden(f"unauthorized role: {role}")
        if self.connection.is_restricted and method.name not in FOR_AGENTS:
            raise Forbidden(f"{method.name} is not for a credential that is restricted to agents")
        if method.scope is not None:
            authorize(self.connection.principal, method.scope)
        if method.harder is not None and isinstance(params, dict):
            raised_scope = method.harder(params)
            if raised_scope is not None:
                authorize(self.connection.principal, raised_scope)

"""Direct calls of tools, and the result that a repeated one gets."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum

from ..concurrency import shielded
from ..errors import GatewayBusy, KeyReused, StoreFailed, UnknownTool
from ..ports import CallBook, Clock, KeyedCall, NodeBus

logger = logging.getLogger(__name__)

_MOST_KEYS = 128
_KEPT_SECONDS = 300.0
"""How long the result of a call with an idempotency key is kept."""
_LOOK_SECONDS = 1.0
"""Seconds between two looks for the result of a call at another node, of which no message came."""
_TOPIC = "direct_calls"
STOPPED = "The call was stopped; it is not known what took effect."


@dataclass(frozen=True, slots=True)
class DirectCall:
    """A call as a client sent it. `action` becomes the argument of that name where the tool has
    such a parameter and `arguments` do not set it. `session_key`: by default the main session of
    the agent, by default the default one. `dry_run`: check the call, and do not run it. `source`
    names the protocol, for the log."""

    tool: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    action: str | None = None
    session_key: str | None = None
    agent_id: str | None = None
    idempotency_key: str | None = None
    """A repeated call of the principal under this key gets the result of the first."""
    dry_run: bool = False
    source: str = ""


class CallOutcome(StrEnum):
    """How a direct call has ended."""

    DONE = "done"
    CHECKED = "checked"
    """It could be run, and was not, because it is a dry run."""
    FAILED = "failed"
    APPROVAL_REQUIRED = "approval required"
    """Calls outside of a Run cannot wait for an approval, so it was not run. (One that was allowed
    for always is run.)"""


@dataclass(frozen=True, slots=True)
class CallResult:
    """`text`: the tool's result, or why there is none."""

    outcome: CallOutcome
    text: str = ""


@dataclass(frozen=True, slots=True)
class _Keyed:
    """A call with an idempotency key. `at`: when it was begun."""

    call: DirectCall
    at: float
    result: asyncio.Future[CallResult]


class KeyedCalls:
    """Runs each call with an idempotency key once.

    `book`: of the nodes that share the keys, with their `bus`; without one the keys are those of
    this process. `monotonic` measures time.
    """

    def __init__(self, *, book: CallBook | None, bus: NodeBus, monotonic: Clock) -> None:
        self._book = book
        self._bus = bus
        self._monotonic = monotonic
        self._keyed: dict[tuple[str, str], _Keyed] = {}
        """By the principal and the key, oldest first."""
        self._ended = asyncio.Event()
        """Is set, and replaced, when calls have ended."""
        bus.subscribe(_TOPIC, lambda _: self._wake())

    async def once(
        self,
        principal_id: str,
        call: DirectCall,
        seconds: float,
        run: Callable[[], Awaitable[CallResult]],
    ) -> CallResult:
        """The result of `run`, or that of an earlier call under the key. `seconds`: how long `run`
        takes at most. Raises KeyReused, StoreFailed."""
        if call.idempotency_key is None:
            return await run()
        key = (principal_id, call.idempotency_key)
        self._forget_keys()
        earlier = self._keyed.get(key)
        if earlier is not None:
            if earlier.call != call:
                raise _reused(key[1])
            return await shielded(earlier.result)
        if self._book is not None:
            result = await self._at_other_node(self._book, key, call, seconds)
            if result is not None:
                return result
        keyed = self._keyed[key] = _Keyed(
            call, self._monotonic(), asyncio.get_running_loop().create_future()
        )
        try:
            keyed.result.set_result(await run())
        except (UnknownTool, GatewayBusy) as refused:  # The tool was not begun.
            self._keyed.pop(key, None)
            keyed.result.set_exception(refused)
            keyed.result.exception()  # There may be no repeated call that retrieves it.
            raise
        finally:
            if not keyed.result.done():
                keyed.result.set_result(CallResult(CallOutcome.FAILED, STOPPED))
            if self._book is not None:
                await shielded(self._end(self._book, key, keyed.result))
        return keyed.result.result()

    async def _at_other_node(
        self, book: CallBook, key: tuple[str, str], call: DirectCall, seconds: float
    ) -> CallResult | None:
        """The result of the call that another node has begun under the key, once it has ended.
        None: this node begins it."""
        fingerprint = _fingerprint(call)
        while True:
            ended = self._ended
            earlier = await book.begin(*key, fingerprint, seconds)
            if earlier is None:
                return None
            if earlier.fingerprint != fingerprint:
                raise _reused(key[1])
            while earlier is not None and not earlier.outcome and not earlier.lost:
                try:
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await ended.wait()
                except TimeoutError:
                    pass  # The message may be lost.
                ended = self._ended
                earlier = await book.find(*key)
            if earlier is not None:
                return _result_of(earlier)
            # It was refused there.

    async def _end(
        self, book: CallBook, key: tuple[str, str], result: asyncio.Future[CallResult]
    ) -> None:
        try:
            if result.exception() is not None:
                await book.forget(*key)
            else:
                await book.end(*key, result.result().outcome, result.result().text)
        except StoreFailed as error:  # Then it counts as stopped at the other nodes.
            logger.warning("the result of a call was not kept", extra={"reason": error.message})
        self._bus.publish(_TOPIC)
        self._wake()

    def _wake(self) -> None:
        ended, self._ended = self._ended, asyncio.Event()
        ended.set()

    def _forget_keys(self) -> None:
        oldest = self._monotonic() - _KEPT_SECONDS
        for key, keyed in tuple(self._keyed.items()):
            if keyed.result.done() and (keyed.at < oldest or len(self._keyed) >= _MOST_KEYS):
                del self._keyed[key]


def _result_of(call: KeyedCall) -> CallResult:
    if call.lost:
        return CallResult(CallOutcome.FAILED, STOPPED)
    return CallResult(CallOutcome(call.outcome), call.result)


def _fingerprint(call: DirectCall) -> str:
    content = {one.name: getattr(call, one.name) for one in fields(call)}
    content["arguments"] = dict(call.arguments)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _reused(key: str) -> KeyReused:
    message = f"The idempotency key {key!r} stands for another call already."
    return KeyReused(message, param="idempotencyKey")

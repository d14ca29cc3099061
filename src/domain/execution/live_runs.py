"""A Run that this process executes, its timers, and the event that it ends with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field, replace
from typing import TypeVarTuple

from ..errors import GatewayError
from ..ports import OpenTurn, Spent
from ..runs import Aborted, Claim, Failed, Inbox, RunSpec, failed_event
from ..sessions import Span

logger = logging.getLogger(__name__)

Ts = TypeVarTuple("Ts")


@dataclass(slots=True, eq=False)
class LiveRun:
    """`task` executes the Run. Another task is a task that was abandoned: it may do nothing."""

    claim: Claim
    spec: RunSpec
    """With its history bound, without the messages that are stored already."""
    inbox: Inbox
    session_id: str = ""
    """The transcript that it adds to; empty for a new one."""
    history: Span | None = None
    """As in Turn."""
    runner: str = ""
    """The name of its agent's runner."""
    task: asyncio.Task[None] | None = None
    stopping: Aborted | Failed | None = None
    """The terminal event of a Run that is being stopped."""
    committing: bool = False
    """Its turn is being stored: it can no longer be stopped."""
    turn: OpenTurn | None = None
    """Its turn, once a step is stored."""
    spent: Spent = field(default_factory=Spent)
    _timer: asyncio.TimerHandle | None = None

    def set_timer(self, seconds: float, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        """One timer at a time: the time limit, or the patience with a runner that has to end."""
        self.clear_timer()
        loop = asyncio.get_running_loop()
        # Its context is empty, since asyncio keeps a cancelled timer until its time has come.
        self._timer = loop.call_at(loop.time() + seconds, callback, *args, context=Context())

    def clear_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def failure_event(live: LiveRun, error: Exception) -> Aborted | Failed:
    """The event that a Run ends with whose execution has raised `error`."""
    if not isinstance(error, GatewayError):
        logger.error("a run failed unexpectedly", exc_info=error, extra={"run": live.spec.id})
    if live.stopping is not None:
        return live.stopping  # The error is only how the runner stopped.
    if isinstance(error, GatewayError):
        return failed_event(error)
    return Failed(GatewayError.code, "The run failed because of an internal error.")


def abandoned_event(stopping: Aborted | Failed, patience: float) -> Aborted | Failed:
    """The event of a stopped Run whose runner was still going on when the patience ended."""
    why = f"Its runner did not stop within {patience:g} s and was abandoned."
    if isinstance(stopping, Aborted):
        return Aborted(f"{stopping.reason} {why}")
    return replace(stopping, message=f"{stopping.message} {why}")

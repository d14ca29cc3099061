"""Signals for Runs, whichever process executes them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from .....domain.errors import StoreFailed
from .....domain.messages import Message
from .....domain.runs import Aborted, ApprovalDecided, MessageInjected, Signal
from ...common import Undecodable, decode_signal, encode_events, encode_signal, text
from ..columns import data
from .bells import channel_of, owner_channel, session_channel
from .held import HeldRun
from .process import Process, load_spec
from .rows import STORED_OF_RUN, StoredRun, stored_of_row

logger = logging.getLogger(__name__)

PARENT_ENDED = "The run that started it has ended."

_ABORT = f"SELECT outcome, next, children, {STORED_OF_RUN} FROM run_abort(%s, %s, %s, %s)"  # noqa: S608 - no values in it
_SIGNAL = "SELECT * FROM run_signal(%s, %s)"
_SIGNALS = "SELECT run, id, body FROM signals WHERE run = ANY(%s) ORDER BY id"
_CALLED = "SELECT abort_reason FROM runs WHERE id = %s AND owner = %s AND attempt = %s"


class Signals:
    """Stores a signal, and has it delivered: here, or by a bell to the Run's owner."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._database = process.database
        self._held = process.held
        self._bells = process.bells

    async def abort(self, run_id: str, reason: str) -> bool:
        run = self._held.get(run_id)
        if run is not None:
            if run.finished or run.closing or not self._process.stop(run, reason):
                return False
            # If this process dies meanwhile, the next owner ends the Run.
            self._process.aside(self._abort(run_id, reason))
            return True
        return await self._abort(run_id, reason)

    async def _abort(self, run_id: str, reason: str) -> bool:
        ending = Aborted(reason)
        body = encode_events((ending,))
        values = (data(run_id), data(reason), body, self._process.events.clock())
        (row,) = await self._database.rows(_ABORT, values)
        outcome, next_turn, children = row[:3]
        if outcome == "none":
            return False
        stored = stored_of_row(row[3:])
        if outcome == "asked":
            owner = stored.record.owner
            if owner not in self._process.servers:
                self._bells.ring(owner_channel(owner), str(stored.number))
            return True
        if stored.record.attempt and (server := self._process.choose()) is not None:
            server.worker.closed(load_spec(stored), ending)
        seq = stored.record.last_seq + 1
        channel = session_channel(channel_of(data(str(stored.record.session_key))))
        self._bells.ring(channel, f"{stored.number} {seq} {seq} 1 ")
        self._process.settled(next_turn or "")
        await self.abort_children(children)
        return True

    async def abort_children(self, children: Sequence[bytes] | None) -> None:
        """Stop the Runs that a Run which has ended had started. Those that could not be stopped are
        found by PostgresWatchers.look."""
        try:
            for child in children or ():
                await self.abort(text(child), PARENT_ENDED)
        except StoreFailed as error:
            logger.debug("runs of an ended run are stopped later", extra={"reason": str(error)})

    async def resolve(self, run_id: str, approval_id: str, decision: str) -> bool:
        return await self._signal(run_id, ApprovalDecided(approval_id, decision))

    async def inject(self, run_id: str, message: Message) -> bool:
        return await self._signal(run_id, MessageInjected(message))

    async def _signal(self, run_id: str, signal: Signal) -> bool:
        values = (data(run_id), encode_signal(signal))
        (row,) = await self._database.rows(_SIGNAL, values, repeat=False)
        outcome, owner, number, next_turn = row
        if outcome == "none":
            return False
        if outcome == "held":
            run = self._held.get(run_id)
            if run is not None and not run.finished:
                await self.deliver(run)
            else:
                self._bells.ring(owner_channel(owner), str(number))
        self._process.settled(next_turn or "")
        return True

    async def deliver(self, run: HeldRun) -> None:
        """Give the attempt those signals that it does not have."""
        rows = await self._database.rows(_SIGNALS, ([run.number],))
        for _, number, body in rows:
            if number > (run.signals[-1] if run.signals else 0):
                signal = _load_signal(body)
                if signal is not None and run.server is not None and not run.gone:
                    run.signals.append(number)
                    run.server.worker.deliver(run.run_id, signal)

    async def stored(self, runs: Sequence[StoredRun]) -> dict[int, list[tuple[int, Signal]]]:
        """The signals of Runs that were claimed, by the Runs' numbers."""
        found: dict[int, list[tuple[int, Signal]]] = {}
        if runs:
            rows = await self._database.rows(_SIGNALS, ([run.number for run in runs],))
            for number, signal_id, body in rows:
                if (signal := _load_signal(body)) is not None:
                    found.setdefault(number, []).append((signal_id, signal))
        return found

    def heard(self, payload: str) -> None:
        """A bell for a Run that this process holds."""
        for run in tuple(self._held):
            if str(run.number) == payload:
                self._process.aside(self._attend(run))

    async def _attend(self, run: HeldRun) -> None:
        values = (data(run.run_id), run.owner, run.attempt)
        row = await self._database.row(_CALLED, values)
        if row is not None and row[0] is not None:
            self._process.stop(run, text(row[0]))
        await self.deliver(run)


def _load_signal(body: bytes) -> Signal | None:
    try:
        return decode_signal(body)
    except Undecodable:
        logger.exception("a stored signal cannot be read")
        return None

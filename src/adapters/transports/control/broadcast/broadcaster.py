"""Broadcasts the events of a Run to its subscribers; one reader serves all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from .....domain.concurrency import take_turns
from .....domain.errors import EventsExpired, GatewayError, ShuttingDown
from .....domain.models import ReasoningDelta, TextDelta
from .....domain.ports import Clock
from .....domain.runs import (
    CONTEXT_EVENTS,
    EVERY_KIND,
    TERMINAL,
    TOOL_EVENTS,
    Ending,
    Finished,
    NumberedEvent,
    Resumed,
    RunRecord,
    Started,
    StepDone,
    Waiting,
    consumes,
)
from .....domain.services import Events
from .....domain.sessions import KeptMessage
from ..connection import Connection
from .payloads import RunPayloads, chat_end, chat_event, message_of

logger = logging.getLogger(__name__)

CHAT_THROTTLE = 0.15
"""Minimum seconds between two `chat` deltas."""

Subscribers = Callable[[], Iterable[Connection]]
"""Returns the present subscribers; called for every event."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a broadcaster reads from."""

    record: RunRecord
    """The Run when the broadcast began."""
    events: Callable[[int], Events]
    """The events after a number; 0 for all."""
    now: Callable[[], Awaitable[RunRecord]]
    """The Run's present record."""
    answer: Callable[[], Awaitable[KeptMessage | None]]
    """The answer as stored in the Session, after the Run has finished."""
    order: asyncio.Lock
    """Shared by the Runs of a Session and held while a batch is delivered. Reading the answer
    suspends; without the lock, the next Run's events could overtake the end of this Run."""
    silent_until: int = 0
    """Events up to this number are read, because later payloads repeat the whole text, but not
    sent."""
    turn: Callable[[], Awaitable[None]] | None = None
    """Awaited before the first event is sent."""


class RunBroadcaster:
    """Reads the events of one Run and puts them into the outboxes of its subscribers.

    The cursor is the number of the last event read. Events expire from the store, so a slow reader
    can find that the next ones are gone; it then continues with the last event, which is always
    kept until the Run ends, and from there on the payloads no longer claim to have the whole text
    (`_has_all_text`). A slow subscriber never delays the reader: its outbox drops or overflows.
    """

    def __init__(self, source: Source, subscribers: Subscribers, clock: Clock) -> None:
        self._source = source
        self._subscribers = subscribers
        self._clock = clock
        self._payloads = RunPayloads(source.record)
        self._chat = _ChatEvents(source.record, self._payloads, self._send_chat)
        self._stored_answer: KeptMessage | None = None
        self._turn = source.turn
        self._has_all_text = True
        """No event was missed. Otherwise clients have to read the text from the Session."""
        self.ending: Ending | None = None
        """The Run's last event, if the whole Run was broadcast."""

    @property
    def text(self) -> str:
        """The text so far."""
        return self._payloads.text

    async def run(self) -> None:
        """Broadcast the Run to its end, skipping expired events."""
        cursor = 0
        try:
            while not await self._broadcast_after(cursor):
                previous, cursor = cursor, (await self._source.now()).last_seq - 1
                if cursor <= previous:
                    raise EventsExpired("The last event of the run has expired.")
        except ShuttingDown:
            logger.info("a run was handed back", extra={"run": self._source.record.id})
        except GatewayError as error:
            extra = {"run": self._source.record.id, "reason": error.message}
            logger.warning("a run could not be broadcast to its end", extra=extra)
        finally:
            self._chat.stop()
            # Breaks the reference cycle, which would wait for the garbage collector.
            del self._chat

    async def _broadcast_after(self, seq: int) -> bool:
        """Broadcast the events after `seq`; False if the next ones have expired."""
        try:
            async for batch in self._source.events(seq):
                if self._turn is not None:
                    turn, self._turn = self._turn, None
                    await turn()
                async with self._source.order:
                    if isinstance(batch.ending, Finished):
                        self._stored_answer = await self._answer()
                    for numbered in batch:
                        self._broadcast(numbered)
                await take_turns(len(batch.events))
        except EventsExpired:
            self._has_all_text = self._payloads.cumulative = False
            return False
        return True

    async def _answer(self) -> KeptMessage | None:
        """The stored answer; None if it cannot be read, and then the last event has no message
        id."""
        try:
            return await self._source.answer()
        except GatewayError as error:
            extra = {"run": self._source.record.id, "reason": error.message}
            logger.warning("the stored answer of a run cannot be read", extra=extra)
            return None

    @consumes(
        TextDelta,
        Resumed,
        *TERMINAL,
        ignores=(Started, ReasoningDelta, Waiting, *TOOL_EVENTS, *CONTEXT_EVENTS, StepDone),
    )
    def _broadcast(self, numbered: NumberedEvent) -> None:
        seq, event, now = numbered.seq, numbered.event, self._clock()
        self._payloads.note(event, now)
        is_sent = seq > self._source.silent_until
        if is_sent:
            self._send_agent(numbered, now)
        if isinstance(event, TextDelta) and self._has_all_text:
            if is_sent:
                self._chat.delta(seq, event.text)
        elif isinstance(event, Resumed) and event.void:
            self._chat.drop()
        elif isinstance(event, TERMINAL):
            text = self._payloads.text if self._has_all_text else ""
            self._chat.end(seq, event, text, now, self._stored_answer)
            self.ending = event if self._has_all_text else None

    @consumes(*EVERY_KIND)
    def _send_agent(self, numbered: NumberedEvent, at: float) -> None:
        """Each form of the payload is built at most once, and only if a client gets it: repeating
        the whole text with every delta costs the square of its length."""
        whole = brief = b""
        for connection in self._subscribers():
            # Clients that follow the run receive its events through `runs.follow`.
            if connection.follows(self._source.record.id):
                continue
            if connection.outbox.lags and isinstance(numbered.event, TextDelta):
                # A slow client gets the delta without the text so far.
                brief = brief or self._payloads.brief(numbered.seq, numbered.event.text, at)
                connection.outbox.event("agent", brief)
            else:
                whole = whole or self._payloads.payload(numbered.seq, numbered.event, at)
                connection.outbox.event("agent", whole)

    def _send_chat(self, seq: int, payload: bytes, lossy: bool) -> None:
        if seq > self._source.silent_until:
            for connection in self._subscribers():
                connection.outbox.event("chat", payload, may_be_lost=lossy)


class _ChatEvents:
    """Builds the `chat` events of a Run: throttled deltas, each with the whole text so far."""

    def __init__(
        self,
        record: RunRecord,
        payloads: RunPayloads,
        send: Callable[[int, bytes, bool], None],
    ) -> None:
        self._record = record
        self._payloads = payloads
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._due = 0.0
        self._pending: list[str] = []
        self._seq = 0
        self._timer: asyncio.TimerHandle | None = None

    def delta(self, seq: int, text: str) -> None:
        """Send at once, or when the interval is over."""
        self._seq = seq
        self._pending.append(text)
        wait = self._due - self._loop.time()
        if wait <= 0:
            self._flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(wait, self._flush)

    def drop(self) -> None:
        """Forget the text that waits: another attempt begins anew."""
        self.stop()
        self._pending.clear()

    def end(
        self,
        seq: int,
        event: Ending,
        text: str,
        at: float,
        stored: KeptMessage | None,
    ) -> None:
        """Send the pending delta, then the last event."""
        self._flush()
        payload = chat_end(self._record, seq, event, text, at, stored=stored)
        self._send(seq, payload, False)

    def stop(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush(self) -> None:
        self.stop()
        if not self._pending:
            return
        new, self._pending = "".join(self._pending), []
        self._due = self._loop.time() + CHAT_THROTTLE
        message = message_of(self._payloads.text, self._record.accepted_at)
        run_id, key = self._record.id, self._record.session_key
        payload = chat_event(run_id, key, self._seq, "delta", deltaText=new, message=message)
        self._send(self._seq, payload, True)

"""Tells the clients that want to know what happens in a Run: one reader, however many clients."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from .....domain.concurrency import take_turns
from .....domain.errors import EventsExpired, GatewayError
from .....domain.models import TextDelta
from .....domain.ports import Clock
from .....domain.runs import TERMINAL, Ending, Finished, NumberedEvent, Resumed, RunRecord
from .....domain.services import Events
from .....domain.sessions import KeptMessage
from ..connection import Connection
from .payloads import RunPayloads, chat_end, chat_event, message_of

logger = logging.getLogger(__name__)

CHAT_THROTTLE = 0.15
"""Seconds between the deltas of a chat."""

Audience = Callable[[], Iterable[Connection]]
"""The clients that want to know, asked anew for every event."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a teller reads: the Run as it stood when that began, and its events."""

    record: RunRecord
    events: Callable[[int], Events]
    """Those behind a number, 0 for all."""
    now: Callable[[], Awaitable[RunRecord]]
    """The Run as it stands."""
    answer: Callable[[], Awaitable[KeptMessage | None]]
    """The Run's answer as its Session has it, once the Run has finished."""
    order: asyncio.Lock
    """Held from the events of a Run to their delivery, by all Runs of a Session: reading the answer
    suspends, and the next Run's events must not be delivered before the end of this one."""
    silent_until: int = 0
    """Events up to this number are read, since later ones tell of all the text, but not told."""


class RunBroadcaster:
    """Reads one Run and tells its audience. Waits for nobody: who is slow loses or is closed."""

    def __init__(self, source: Source, audience: Audience, clock: Clock) -> None:
        self._source = source
        self._audience = audience
        self._clock = clock
        self._telling = RunPayloads(source.record)
        self._chat = _Chat(source.record, self._telling, self._tell_chat)
        self._kept: KeptMessage | None = None
        self._whole = True
        """The text is all there. Else a client has to look into the Session for it."""
        self.ending: Ending | None = None
        """The Run's last event, once all of the Run was told."""

    @property
    def text(self) -> str:
        """The answer so far."""
        return self._telling.text

    async def run(self) -> None:
        """Tell everything, to the end; what is no longer kept is left out."""
        behind = 0
        try:
            while not await self._tell_behind(behind):
                before, behind = behind, (await self._source.now()).last_seq - 1
                if behind <= before:
                    raise EventsExpired("The end of the run is no longer kept.")
        except GatewayError as error:
            extra = {"run": self._source.record.id, "reason": error.message}
            logger.warning("a run could not be told to its end", extra=extra)
        finally:
            self._chat.stop()
            # It refers to this: as a cycle they would stay until the garbage collector comes.
            del self._chat

    async def _tell_behind(self, seq: int) -> bool:
        """False where events that should come next are no longer kept."""
        try:
            async for told in self._source.events(seq):
                async with self._source.order:
                    if isinstance(told.ending, Finished):
                        self._kept = await self._answer()
                    for numbered in told:
                        self._tell(numbered)
                await take_turns(len(told.events))
        except EventsExpired:
            self._whole = self._telling.cumulative = False
            return False
        return True

    async def _answer(self) -> KeptMessage | None:
        """None where it cannot be read: then the last event names no message."""
        try:
            return await self._source.answer()
        except GatewayError as error:
            extra = {"run": self._source.record.id, "reason": error.message}
            logger.warning("the message of a run's answer is not named", extra=extra)
            return None

    def _tell(self, numbered: NumberedEvent) -> None:
        seq, event, now = numbered.seq, numbered.event, self._clock()
        self._telling.note(event, now)
        told = seq > self._source.silent_until
        if told:
            self._tell_agent(numbered, now)
        if isinstance(event, TextDelta) and self._whole:
            if told:
                self._chat.delta(seq, event.text)
        elif isinstance(event, Resumed) and event.void:
            self._chat.drop()
        elif isinstance(event, TERMINAL):
            text = self._telling.text if self._whole else ""
            self._chat.end(seq, event, text, now, self._kept)
            self.ending = event if self._whole else None

    def _tell_agent(self, numbered: NumberedEvent, at: float) -> None:
        """Each form of the event is made once, and only where a client gets it: all the text with
        each piece of a long answer costs the square of its length."""
        whole = brief = b""
        for connection in self._audience():
            # Who follows the run from a number on gets these events that way.
            if connection.follows(self._source.record.id):
                continue
            if connection.outbox.lags and isinstance(numbered.event, TextDelta):
                # All the text again with every piece would be too much for a slow client.
                brief = brief or self._telling.brief(numbered.seq, numbered.event.text, at)
                connection.outbox.event("agent", brief)
            else:
                whole = whole or self._telling.payload(numbered.seq, numbered.event, at)
                connection.outbox.event("agent", whole)

    def _tell_chat(self, seq: int, payload: bytes, lossy: bool) -> None:
        if seq > self._source.silent_until:
            for connection in self._audience():
                connection.outbox.event("chat", payload, may_be_lost=lossy)


class _Chat:
    """The same Run as a chat: deltas at intervals, each with all the text so far."""

    def __init__(
        self,
        record: RunRecord,
        telling: RunPayloads,
        tell: Callable[[int, bytes, bool], None],
    ) -> None:
        self._record = record
        self._telling = telling
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._due = 0.0
        self._pending: list[str] = []
        self._seq = 0
        self._timer: asyncio.TimerHandle | None = None

    def delta(self, seq: int, text: str) -> None:
        """Tell at once, or when the interval is over."""
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
        kept: KeptMessage | None,
    ) -> None:
        """What waits, then the end."""
        self._flush()
        payload = chat_end(self._record, seq, event, text, at, kept=kept)
        self._tell(seq, payload, False)

    def stop(self) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush(self) -> None:
        self.stop()
        if not self._pending:
            return
        new, self._pending = "".join(self._pending), []
        self._due = self._loop.time() + CHAT_THROTTLE
        message = message_of(self._telling.text, self._record.accepted_at)
        payload = chat_event(self._record, self._seq, "delta", deltaText=new, message=message)
        self._tell(self._seq, payload, True)

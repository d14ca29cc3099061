"""The sessions in use, kept in memory as they are stored, so that a turn need not read them again.

A store that is its file's only user may answer from here: what was read, plus what was appended
since, is what it would read now.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from .....domain.messages import Image, Message
from .....domain.ports import StoredSession, Transcript, Turn
from .....domain.sessions import SessionKey, estimate_all, fitting

Put = Callable[[StoredSession | None, int, int | None], None]
"""Keeps what was read, and the budget and `result_chars` that it was read with."""


_BYTES_PER_TOKEN = 6
_BYTES_PER_MESSAGE = 600
"""Roughly what a message takes in memory: its text, as it is and as a client encodes it."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A session whose tail holds at least the newest messages of `budget` tokens, with results that
    count as `result_chars` says."""

    session: StoredSession
    budget: int
    result_chars: int | None
    image_bytes: int
    """Of the tail; a few tokens stand for many of them."""

    @property
    def size(self) -> int:
        tail = self.session.tail
        text = _BYTES_PER_TOKEN * (tail.tokens or 0) + _BYTES_PER_MESSAGE * len(tail.messages)
        return text + self.image_bytes


class WorkingSet:
    """About `limit` bytes at most; the session longest unused goes first.

    Only what was read is kept: a session of a stateless request, which nobody reads, never is.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: OrderedDict[SessionKey, _Known] = OrderedDict()
        self._size = 0
        self._reading: dict[SessionKey, object] = {}
        self._writing: Counter[SessionKey] = Counter()
        """How many writes are on their way. What is read meanwhile may hold them or not."""

    def get(
        self, key: SessionKey, budget: int, result_chars: int | None = None
    ) -> StoredSession | None:
        """The session as `load` would read it, where that is known."""
        known = self._known.get(key)
        if known is None:
            return None
        session = known.session
        tail = session.tail
        if not tail.complete and (budget > known.budget or result_chars != known.result_chars):
            return None
        self._known.move_to_end(key)
        behind = 0 if tail.summary is None else tail.summary.through
        count = session.message_count - behind
        return replace(session, tail=fitting(tail, budget, count, result_chars))

    @contextmanager
    def reading(self, key: SessionKey) -> Iterator[Put]:
        """While the store reads a session: what is written meanwhile spoils what it reads."""
        mark = object()
        if key not in self._writing:
            self._reading[key] = mark

        def put(session: StoredSession | None, budget: int, result_chars: int | None) -> None:
            if session is not None and self._reading.get(key) is mark:
                images = _image_bytes(session.tail.messages)
                self._keep(_Known(session, budget, result_chars, images))

        try:
            yield put
        finally:
            if self._reading.get(key) is mark:
                del self._reading[key]

    def appending(self, turn: Turn, stored: asyncio.Future[int]) -> None:
        """A turn is being written; the result of `stored` is 0 where it was there already."""
        self._begin_writing(turn.key)
        # Told by the future itself, since who waits for it may be cancelled. Futures of writes
        # resolve in the order of the writes.
        stored.add_done_callback(partial(self._appended, turn))

    def changing(self, key: SessionKey, changed: asyncio.Future[Any]) -> None:
        """Something else is being written about a session, after which it is read again."""
        self._begin_writing(key)
        changed.add_done_callback(partial(self._changed, key))

    def pruning(self, pruned: asyncio.Future[Any]) -> None:
        """Sessions that nobody names are being deleted; the result is how many,
        and maybe of how many bytes."""
        pruned.add_done_callback(self._pruned)

    def _pruned(self, pruned: asyncio.Future[Any]) -> None:
        nothing = (0, (0, 0))
        if pruned.cancelled() or pruned.exception() is not None or pruned.result() not in nothing:
            self.clear()

    def _begin_writing(self, key: SessionKey) -> None:
        self._reading.pop(key, None)
        self._writing[key] += 1

    def _changed(self, key: SessionKey, changed: asyncio.Future[Any]) -> _Known | None:
        """A write has ended. Tells what was known before it; None where it failed, too."""
        self._writing[key] -= 1
        if not self._writing[key]:
            del self._writing[key]
        known = self._forget(key)
        return None if changed.cancelled() or changed.exception() is not None else known

    def _appended(self, turn: Turn, stored: asyncio.Future[int]) -> None:
        known = self._changed(turn.key, stored)
        if known is None:
            return  # What the file holds now is best read from there.
        if not stored.result():
            self._keep(known)
        elif known.session.session_id == turn.session_id:
            self._keep(_extended(known, turn))
        elif (branched := _branched(known, turn)) is not None:
            self._keep(_extended(branched, turn))

    def clear(self) -> None:
        self._known.clear()
        self._reading.clear()
        self._size = 0

    def _keep(self, known: _Known) -> None:
        self._forget(known.session.key)
        self._known[known.session.key] = known
        self._size += known.size
        while self._size > self._limit:
            self._forget(next(iter(self._known)))

    def _forget(self, key: SessionKey) -> _Known | None:
        known = self._known.pop(key, None)
        if known is not None:
            self._size -= known.size
        return known


def _extended(known: _Known, turn: Turn) -> _Known:
    session, tail = known.session, known.session.tail
    messages = (*tail.messages, *turn.messages)
    tokens = None if tail.tokens is None else tail.tokens + estimate_all(turn.messages)
    extended = replace(
        session,
        updated_at=turn.at,
        message_count=session.message_count + len(turn.messages),
        tail=Transcript(messages, tail.complete, tokens, tail.summary),
    )
    images = known.image_bytes + _image_bytes(turn.messages)
    return _Known(extended, known.budget, known.result_chars, images)


def _branched(known: _Known, turn: Turn) -> _Known | None:
    """The branch that the turn has begun, without the turn; None where it must be read."""
    session, tail, span = known.session, known.session.tail, turn.history
    if span is None or span.session_id != session.session_id or not tail.complete:
        return None
    behind = 0 if tail.summary is None else tail.summary.through
    if not behind <= span.through <= session.message_count:
        return None
    messages, cut = tail.messages[: span.through - behind], tail.messages[span.through - behind :]
    tokens = None if tail.tokens is None else tail.tokens - estimate_all(cut)
    left = Transcript(messages, True, tokens, tail.summary)
    branch = replace(session, session_id=turn.session_id, message_count=span.through, tail=left)
    return replace(known, session=branch, image_bytes=known.image_bytes - _image_bytes(cut))


def _image_bytes(messages: Iterable[Message]) -> int:
    """What images take in memory: as they are, and as a client encodes them."""
    parts = (part for message in messages for part in message.parts)
    return sum(2 * len(part.data) for part in parts if isinstance(part, Image))

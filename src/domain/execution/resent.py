"""The history of Runs whose clients resend the conversation."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

from ..concurrency import off_loop
from ..messages import Message
from ..ports import SessionCatalog, SessionStore, StoredSession
from ..runs import RunSpec
from ..sessions import (
    BoundBy,
    SessionKey,
    Span,
    StoredView,
    Transcript,
    answered_again,
    estimate_all,
    fitting,
    has_answer,
    reconciled,
    views_of,
)

_MAX_VIEWS = 50_000
"""Stored messages, of all transcripts together, whose views are kept: about 20 MB."""
_BYTES_PER_TOKEN = 3
_AT_ONCE = 500
"""Messages that are read at once."""


def is_whole(spec: RunSpec) -> bool:
    """Whether the messages of the Run are its whole conversation. Others follow what is stored."""
    return spec.bound_by is BoundBy.CONVERSATION or has_answer(spec.messages)


@dataclass(frozen=True, slots=True)
class Bound:
    """The history of a Run. `span` is None where it is all of the current transcript."""

    question: tuple[Message, ...]
    transcript: Transcript
    span: Span | None = None


class ResentHistory:
    """Compares conversations with stored transcripts.

    The views of a transcript are kept by its id. Its messages never change, so that only those
    that were added since have to be looked at.
    """

    def __init__(self, store: SessionStore, catalog: SessionCatalog) -> None:
        self._store = store
        self._catalog = catalog
        self._views: OrderedDict[str, list[StoredView]] = OrderedDict()
        self._count = 0

    async def bind(
        self,
        sent: tuple[Message, ...],
        session: StoredSession,
        budget: int,
        result_chars: int,
        *,
        whole: bool,
    ) -> Bound | None:
        """What `sent` adds to the session, and the history before it: a `whole` conversation, or
        results of a client's tools. None where new messages follow all that is stored, and where
        the store cannot read the whole transcript. Raises StoreFailed."""
        views = await self._views_of(session)
        if views is None:
            return None
        added = reconciled(sent, views) if whole else answered_again(sent, views)
        if added is None:
            return None
        count = session.message_count
        if not added.start and added.through == count:
            return Bound(added.question, session.tail)
        span = Span(session.session_id, added.start, added.through)
        transcript = await self.read(session, span, budget, result_chars)
        return Bound(added.question, transcript, span)

    async def read(
        self, session: StoredSession, span: Span, budget: int, result_chars: int
    ) -> Transcript:
        """The newest messages of the span that fit. Raises StoreFailed."""
        tail = session.tail
        summary = tail.summary
        if session.session_id != span.session_id or (
            summary is not None and (span.start or summary.through > span.through)
        ):
            summary = None
        first = span.start if summary is None else summary.through
        messages = None
        if session.session_id == span.session_id:
            messages = _part(session, first, span.through)
        if messages is None:
            messages = await self._newest(session.key, span, first, budget)
        complete = len(messages) == span.through - first
        read = Transcript(messages, complete, summary=summary)
        return fitting(read, budget, span.through - first, result_chars)

    def branched(self, span: Span, session_id: str) -> None:
        """A transcript of that id is about to begin with the messages of the span."""
        views = self._views.get(span.session_id)
        if views is not None:
            self._keep(session_id, views[: span.through])

    async def _views_of(self, session: StoredSession) -> list[StoredView] | None:
        known = self._views.get(session.session_id)
        views = [] if known is None else known
        count = session.message_count
        if len(views) > count:
            views = []
        if len(views) < count:
            new = _part(session, len(views), count)
            if new is None:
                span = Span(session.session_id, len(views), count)
                new = await self._newest(session.key, span, len(views), None)
                if len(new) < count - len(views):
                    return None
            size = estimate_all(new) * _BYTES_PER_TOKEN
            views = [*views, *await off_loop(size, partial(views_of, new))]
        self._keep(session.session_id, views)
        return views

    def _keep(self, session_id: str, views: list[StoredView]) -> None:
        self._count += len(views) - len(self._views.pop(session_id, ()))
        self._views[session_id] = views
        while self._count > _MAX_VIEWS and len(self._views) > 1:
            _, oldest = self._views.popitem(last=False)
            self._count -= len(oldest)

    async def _newest(
        self, key: SessionKey, span: Span, first: int, budget: int | None
    ) -> tuple[Message, ...]:
        """The messages behind the first `first` up to the end of the span; with a budget, no more
        than the newest that reach it."""
        found: list[Message] = []
        before, spent = span.through + 1, 0
        while before > first + 1 and (budget is None or spent <= budget):
            kept = await self._catalog.messages(
                key,
                limit=min(_AT_ONCE, before - 1 - first),
                before=before,
                session_id=span.session_id,
            )
            if not kept:
                break
            before = kept[0].number
            messages = [one.message for one in reversed(kept)]
            found += messages
            spent += estimate_all(messages)
        return tuple(reversed(found))


def _part(session: StoredSession, first: int, through: int) -> tuple[Message, ...] | None:
    """These messages of the transcript, where they are loaded already."""
    messages = session.tail.messages
    behind = session.message_count - len(messages)
    return messages[first - behind : through - behind] if first >= behind else None

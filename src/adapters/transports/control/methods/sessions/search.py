"""`sessions.search`: full-text search in the newest Sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Annotated, Any

from pydantic import Field

from ......domain.access import Principal
from ......domain.byte_budget import held_bytes
from ......domain.concurrency import off_loop
from ......domain.errors import InvalidRequest
from ......domain.messages import Role
from ......domain.services import Gateway, SessionService
from ......domain.sessions import KeptMessage, SessionInfo
from ...broadcast import message_ids
from ...connection import Call, Handler, Handlers, Params
from ...protocol import Name
from ..payloads import Rows
from .lists import ListParams, SessionLists

_SESSIONS = 200
"""Sessions that are searched, most recently used first."""
_MESSAGES = 500
"""Messages that are searched in each, newest first."""
_AT_ONCE = 50
_WORDS = 64
"""Different words of one query: each is looked for in every message."""
_PIECE = 65_536
_AROUND = 80
"""Characters shown before and after a match."""

Key = Annotated[str, Field(min_length=1, max_length=512)]


class SearchParams(Params):
    """A message matches if it contains all words of `query`, ignoring case. The sessions are those
    of `session_keys`, of an agent, or of the `sessions.list` filter `scope`."""

    query: Annotated[str, Field(min_length=1, max_length=4_096)]
    limit: Annotated[int, Field(ge=1, le=25)] = 10
    agent_id: Name | None = None
    session_keys: Annotated[list[Key], Field(min_length=1, max_length=_SESSIONS)] | None = None
    scope: ListParams | None = None


@dataclass(frozen=True, slots=True)
class SessionSearch:
    gateway: Gateway
    session_service: SessionService
    rows: Rows
    lists: SessionLists

    def handlers(self) -> Handlers:
        return {"sessions.search": Handler(SearchParams, self._search)}

    async def _search(self, call: Call, params: SearchParams) -> object:
        """Newest message first within a session, most recently used session first."""
        words = _words(params.query)
        sessions, more = await self._sessions(call.principal, params)
        results: list[dict[str, Any]] = []
        hits: list[SessionInfo] = []
        for info in sessions:
            before = len(results)
            async for batch in self._batches(call.principal, info):
                left = params.limit - len(results)
                look = partial(_found_in, info, batch, words, left)
                results += await off_loop(_size(batch) * len(words), look)
                if len(results) == params.limit:
                    more = True
                    break
            if len(results) > before:
                hits.append(info)
            if len(results) == params.limit:
                break
        payload: dict[str, Any] = {"results": results, "truncated": more}
        if params.scope is not None:
            payload["sessions"] = [await self.rows.row(call.principal, info) for info in hits]
        return payload

    async def _sessions(
        self, principal: Principal, params: SearchParams
    ) -> tuple[list[SessionInfo], bool]:
        """The Sessions to search, and whether there are more."""
        if params.session_keys is not None:
            keys = [self.gateway.session_key(text) for text in params.session_keys]
            found = [await self.session_service.find(principal, key) for key in keys]
            return [info for info in found if info is not None], False
        filters = params.scope or ListParams(agent_id=params.agent_id)
        page = await self.lists.page(principal, filters, _SESSIONS)
        return list(page.sessions), page.total > len(page.sessions)

    async def _batches(
        self, principal: Principal, info: SessionInfo
    ) -> AsyncIterator[tuple[KeptMessage, ...]]:
        """The newest messages, a few at a time, the newest of each batch last."""
        before, left = None, _MESSAGES
        while left > 0:
            wanted = min(_AT_ONCE, left)
            kept = await self.session_service.messages(
                principal, info.key, limit=wanted, before=before
            )
            if kept:
                yield kept
            if not kept or kept[0].number == 1:
                return
            before, left = kept[0].number, left - len(kept)


def _words(query: str) -> list[str]:
    """Raises InvalidRequest."""
    words = list(dict.fromkeys(query.casefold().split()))
    if not words:
        raise InvalidRequest("query has no word.", param="query")
    if len(words) > _WORDS:
        message = f"query has {len(words)} different words; the limit is {_WORDS}."
        raise InvalidRequest(message, param="query")
    return words


def _size(batch: Sequence[KeptMessage]) -> int:
    return held_bytes(kept.message for kept in batch)


def _found_in(
    info: SessionInfo, batch: Sequence[KeptMessage], words: list[str], most: int
) -> list[dict[str, Any]]:
    """The first `most` hits among the messages, the newest first. Takes long for large ones."""
    looked_at = ((kept, _snippet(kept, words)) for kept in reversed(batch))
    hits = (_hit(info, kept, snippet) for kept, snippet in looked_at if snippet is not None)
    return list(islice(hits, most))


def _snippet(kept: KeptMessage, words: list[str]) -> str | None:
    """The text around the first word; None if a word is missing."""
    if kept.message.role not in (Role.USER, Role.ASSISTANT):
        return None
    text = kept.message.text
    folded = _folded(text)
    if any(word not in folded for word in words):
        return None
    found = folded.index(words[0])
    start, end = max(0, found - _AROUND), found + len(words[0]) + _AROUND
    around = " ".join(text[start:end].split())
    return f"{'…' if start else ''}{around}{'…' if end < len(text) else ''}"


def _folded(text: str) -> str:
    """`text` without its case, a piece at a time: other threads get their turn between two."""
    if len(text) <= _PIECE:
        return text.casefold()
    starts = range(0, len(text), _PIECE)
    return "".join([text[start : start + _PIECE].casefold() for start in starts])


def _hit(info: SessionInfo, kept: KeptMessage, snippet: str) -> dict[str, Any]:
    return {
        "sessionKey": str(info.key),
        "sessionId": info.session_id,
        "messageId": message_ids(kept)["messageId"],
        "role": kept.message.role.value,
        "timestamp": int(kept.at * 1_000),
        "snippet": snippet,
        "score": 1.0,
    }

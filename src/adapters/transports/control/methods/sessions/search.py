"""`sessions.search`: full-text search in the newest Sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from ......domain.access import Principal
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
        words = params.query.casefold().split()
        if not words:
            raise InvalidRequest("query contains no word.", param="query")
        sessions, more = await self._sessions(call.principal, params)
        results: list[dict[str, Any]] = []
        hits: list[SessionInfo] = []
        for info in sessions:
            before = len(results)
            async for kept in self._messages(call.principal, info):
                snippet = _snippet(kept, words)
                if snippet is not None:
                    results.append(_hit(info, kept, snippet))
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

    async def _messages(
        self, principal: Principal, info: SessionInfo
    ) -> AsyncIterator[KeptMessage]:
        """Newest first, read in pages."""
        before: int | None = None
        for _ in range(_MESSAGES // _AT_ONCE):
            kept = await self.session_service.messages(
                principal, info.key, limit=_AT_ONCE, before=before
            )
            for one in reversed(kept):
                yield one
            if len(kept) < _AT_ONCE:
                return
            before = kept[0].number


def _snippet(kept: KeptMessage, words: list[str]) -> str | None:
    """The text around the first word; None if a word is missing."""
    if kept.message.role not in (Role.USER, Role.ASSISTANT):
        return None
    text = " ".join(kept.message.text.split())
    folded = text.casefold()
    if any(word not in folded for word in words):
        return None
    start = max(0, folded.index(words[0]) - _AROUND)
    end = start + 2 * _AROUND + len(words[0])
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"


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

"""`sessions.list` and `sessions.search`: pages of Sessions, and text in the newest of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import Field

from ......domain.access import Principal
from ......domain.byte_budget import held_bytes
from ......domain.concurrency import off_loop
from ......domain.errors import InvalidRequest
from ......domain.messages import Role
from ......domain.sessions import KeptMessage, SessionInfo, SessionPage, SessionQuery
from ...broadcast import message_ids
from ...connection import Call, Params
from ...protocol import Count, Key, Name
from ..rows import lowered
from ..service import ControlService, answers

_MOST = 1_000
_MOST_WITH_EXTRAS = 200
_DEFAULT = 100
_SCANNED = 10_000
"""Sessions that are examined if a filter is not supported by the store."""
_BATCH = 500

Number = Annotated[int, Field(ge=1)]


class ListParams(Params):
    """The filter. Sessions are always sorted by their last use, whatever `sort_by` is.

    There are no sessions `global` and `unknown`, no boards and no people, so including them has no
    effect, and `has_board` finds nothing. `configured_agents_only`: only sessions of agents in the
    present configuration.
    """

    limit: Number | None = None
    offset: Count = 0
    active_minutes: Number | None = None
    active_only: bool | None = None
    agent_id: Name | None = None
    archived: bool | Literal["all"] | None = None
    configured_agents_only: bool | None = None
    exclude_subagents: bool | None = None
    has_board: bool | None = None
    include_activity_summary: bool | None = None
    include_derived_titles: bool | None = None
    include_global: bool | None = None
    include_last_message: bool | None = None
    include_people: bool | None = None
    include_unknown: bool | None = None
    label: Name | None = None
    owner_first: bool | None = None
    pinned: bool | None = None
    search: Annotated[str, Field(max_length=512)] | None = None
    sort_by: Literal["updatedAt", "lastInteractionAt", "activity"] | None = None
    spawned_by: Annotated[str, Field(min_length=1, max_length=512)] | None = None


class SessionLists(ControlService):
    @answers("sessions.list", ListParams)
    async def list(self, call: Call, params: ListParams) -> dict[str, Any]:
        titles, last = params.include_derived_titles, params.include_last_message
        most = _MOST_WITH_EXTRAS if titles or last else _MOST
        limit = min(params.limit or _DEFAULT, most)
        page = await self.page(call.principal, params, limit)
        end = params.offset + len(page.sessions)
        more = bool(page.sessions) and end < page.total
        return {
            "ts": int(self.clock() * 1_000),
            "path": self.rows.path(call.principal),
            "count": len(page.sessions),
            "totalCount": page.total,
            "limitApplied": limit,
            "nextOffset": end if more else None,
            "hasMore": more,
            "defaults": self.rows.defaults(),
            "sessions": [
                await self.rows.row(call.principal, info, title=titles, last_message=last)
                for info in page.sessions
            ],
        }

    async def page(self, principal: Principal, params: ListParams, limit: int) -> SessionPage:
        """The matching Sessions, at most `limit`."""
        query = self._query(params, limit)
        return await self._page(principal, query, await self._filter(principal, params))

    def _query(self, params: ListParams, limit: int) -> SessionQuery:
        minutes = params.active_minutes
        return SessionQuery(
            agent_id=lowered(params.agent_id),
            updated_after=None if minutes is None else self.clock() - minutes * 60,
            search=(params.search or "").strip() or None,
            label=params.label,
            spawned_by=params.spawned_by,
            limit=limit,
            offset=params.offset,
        )

    async def _filter(
        self, principal: Principal, params: ListParams
    ) -> Callable[[SessionInfo], bool] | None:
        """The conditions that the store does not support; None if there are none."""
        active = {run.session_key for run in await self.gateway.active(principal)}
        configured = self.gateway.settings.agents.get

        def matches(info: SessionInfo) -> bool:
            archived = info.settings.get("archived", False)
            return bool(
                (not params.active_only or info.key in active)
                and (not params.exclude_subagents or not info.key.rest.startswith("subagent:"))
                and (not isinstance(params.archived, bool) or archived == params.archived)
                and (params.pinned is None or info.settings.get("pinned", False) == params.pinned)
                and (not params.configured_agents_only or configured(info.key.agent_id) is not None)
                and not params.has_board
            )

        is_needed = (
            isinstance(params.archived, bool)
            or params.active_only
            or params.exclude_subagents
            or params.pinned is not None
            or params.has_board
            # The store filters by `agent_id`, and one agent is either configured or not.
            or (params.configured_agents_only and params.agent_id is None)
        )
        return matches if is_needed else None

    async def _page(
        self,
        principal: Principal,
        query: SessionQuery,
        matches: Callable[[SessionInfo], bool] | None,
    ) -> SessionPage:
        if matches is None:
            return await self.session_service.list(principal, query)
        found: list[SessionInfo] = []
        for start in range(0, _SCANNED, _BATCH):
            batch = replace(query, limit=_BATCH, offset=start)
            page = await self.session_service.list(principal, batch)
            found += filter(matches, page.sessions)
            if start + _BATCH >= page.total:
                break
        shown = found[query.offset : query.offset + query.limit]
        return SessionPage(tuple(shown), len(found))


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


class SearchParams(Params):
    """A message matches if it contains all words of `query`, ignoring case. The sessions are those
    of `session_keys`, of an agent, or of the `sessions.list` filter `scope`."""

    query: Annotated[str, Field(min_length=1, max_length=4_096)]
    limit: Annotated[int, Field(ge=1, le=25)] = 10
    agent_id: Name | None = None
    session_keys: Annotated[list[Key], Field(min_length=1, max_length=_SESSIONS)] | None = None
    scope: ListParams | None = None


class SessionSearch(SessionLists):
    @answers("sessions.search", SearchParams)
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
            keys = [
                self.gateway.session_key(text, principal=principal) for text in params.session_keys
            ]
            found = [await self.session_service.find(principal, key) for key in keys]
            return [info for info in found if info is not None], False
        filters = params.scope or ListParams(agent_id=params.agent_id)
        page = await self.page(principal, filters, _SESSIONS)
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

"""`sessions.list`: filtered pages of Sessions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from ......domain.access import Principal
from ......domain.ports import Clock
from ......domain.services import Gateway, SessionService
from ......domain.sessions import SessionInfo, SessionPage, SessionQuery
from ...connection import Call, Handler, Handlers, Params
from ...protocol import Count, Name
from ..payloads import Extras, Rows, lowered

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


@dataclass(frozen=True, slots=True)
class SessionLists:
    gateway: Gateway
    session_service: SessionService
    rows: Rows
    clock: Clock

    def handlers(self) -> Handlers:
        return {"sessions.list": Handler(ListParams, self.list)}

    async def list(self, call: Call, params: ListParams) -> dict[str, Any]:
        extras = Extras(bool(params.include_derived_titles), bool(params.include_last_message))
        most = _MOST_WITH_EXTRAS if extras else _MOST
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
                await self.rows.row(call.principal, info, extras) for info in page.sessions
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

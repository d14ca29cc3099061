"""`sessions.describe`, `.resolve`, `.preview`, `.listTranscripts`: single Sessions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from ......domain.access import Principal
from ......domain.errors import GatewayError, InvalidRequest, UnknownSession
from ......domain.messages import ToolCall
from ......domain.sessions import KeptMessage, SessionInfo, SessionQuery
from ...connection import Call, Params
from ...protocol import Key, Name
from ..messages import one_line, shortened
from ..rows import lowered, with_short_id
from ..service import ControlService, answers

_PREVIEWED = 64
_MOST_ITEMS = 50
_MOST_CHARS = 2_000
_CANDIDATES = 10


class DescribeParams(Params):
    """One session."""

    key: Key
    agent_id: Name | None = None
    include_derived_titles: bool | None = None
    include_last_message: bool | None = None


class Reference(Params):
    """A session's `key` from a link. `slug`: words of the label; ignored, because the key is
    unique."""

    key: Key
    slug: Name | None = None


class ResolveParams(Params):
    """Exactly one of `key`, `reference`, `session_id`, `label` and `short_id` (8 or more digits of
    the UUID at the end of a key, with words of the label in `slug_hint`). `allow_missing`: a
    missing session is not an error."""

    key: Key | None = None
    reference: Reference | None = None
    session_id: Name | None = None
    label: Name | None = None
    short_id: Name | None = None
    slug_hint: Name | None = None
    agent_id: Name | None = None
    spawned_by: Key | None = None
    include_global: bool | None = None
    include_unknown: bool | None = None
    allow_missing: bool | None = None


class TranscriptsParams(Params):
    """The newest `limit` transcripts of a session."""

    session_key: Key
    agent_id: Name | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50


class PreviewParams(Params):
    """The newest messages of the first 64 keys: at most 50 each, cut to 2000 characters."""

    keys: Annotated[list[Key], Field(min_length=1)]
    limit: Annotated[int, Field(ge=1)] = 12
    max_chars: Annotated[int, Field(ge=20)] = 240


class SessionLookups(ControlService):
    @answers("sessions.describe", DescribeParams)
    async def _describe(self, call: Call, params: DescribeParams) -> object:
        key = self.gateway.session_key(
            params.key, agent_id=params.agent_id, principal=call.principal
        )
        info = await self.session_service.find(call.principal, key)
        if info is None:
            return {"session": None}
        titles, last = params.include_derived_titles, params.include_last_message
        row = await self.rows.row(call.principal, info, title=titles, last_message=last)
        return {"session": row}

    @answers("sessions.resolve", ResolveParams)
    async def _resolve(self, call: Call, params: ResolveParams) -> object:
        names = [params.key, params.reference, params.session_id, params.label, params.short_id]
        if sum(value is not None for value in names) > 1:
            raise InvalidRequest("Provide either key, sessionId, or label (not multiple)")
        if all(value is None for value in names):
            raise InvalidRequest("Either key, sessionId, or label is required")
        description, found = await self._found(call.principal, params)
        if not found:
            if params.allow_missing:
                return {"ok": False}
            raise UnknownSession(f"No session found{description}")
        if len(found) > 1:
            if params.short_id is not None:
                return {"ok": False, "candidates": [_named(info) for info in found[:_CANDIDATES]]}
            keys = ", ".join(str(info.key) for info in found)
            raise InvalidRequest(f"Multiple sessions found{description} ({keys})")
        return {"ok": True, **_named(found[0])}

    async def _found(
        self, principal: Principal, params: ResolveParams
    ) -> tuple[str, list[SessionInfo]]:
        """A description of the request for error messages, and the matching Sessions."""
        agent_id = lowered(params.agent_id)
        found: tuple[SessionInfo, ...]
        if params.label is not None:
            query = SessionQuery(label=params.label, limit=10)
            description, found = (
                f" with label: {params.label}",
                (await self.session_service.list(principal, query)).sessions,
            )
        elif params.short_id is not None:
            found = await with_short_id(
                self.session_service, principal, params.short_id, params.slug_hint, params.agent_id
            )
            description = f": {params.short_id}"
        elif params.session_id is not None:
            found = await self.session_service.with_id(principal, params.session_id)
            several = " for sessionId" if len(found) > 1 else ""
            description = f"{several}: {params.session_id}"
        else:
            text = params.reference.key if params.reference is not None else params.key or ""
            key = self.gateway.session_key(text, agent_id=params.agent_id, principal=principal)
            info = await self.session_service.find(principal, key)
            description, found = f": {text}", () if info is None else (info,)
        matching = [
            info
            for info in found
            if agent_id in (None, info.key.agent_id)
            and params.spawned_by in (None, info.settings.get("spawnedBy"))
        ]
        return description, matching

    @answers("sessions.listTranscripts", TranscriptsParams)
    async def _transcripts(self, call: Call, params: TranscriptsParams) -> object:
        key = self.gateway.session_key(
            params.session_key, agent_id=params.agent_id, principal=call.principal
        )
        kept = await self.session_service.transcripts(call.principal, key, params.limit)
        return {
            "ts": int(self.clock() * 1_000),
            "sessionKey": str(key),
            "transcripts": [
                {
                    "sessionId": one.session_id,
                    "firstQuestion": one.first_question,
                    "mtime": int(one.created_at * 1_000),
                    "messageCount": one.message_count,
                }
                for one in kept
            ],
        }

    @answers("sessions.preview", PreviewParams)
    async def _preview(self, call: Call, params: PreviewParams) -> object:
        return {
            "ts": int(self.clock() * 1_000),
            "previews": [
                await self._previewed(call.principal, key, params)
                for key in params.keys[:_PREVIEWED]
            ],
        }

    async def _previewed(
        self, principal: Principal, text: str, params: PreviewParams
    ) -> dict[str, Any]:
        """The preview of a session, under the requested key. An error affects only this one."""
        limit = min(params.limit, _MOST_ITEMS)
        try:
            key = self.gateway.session_key(text, principal=principal)
            missing = await self.session_service.find(principal, key) is None
            kept = await self.session_service.messages(principal, key, limit=limit)
        except GatewayError:
            return {"key": text, "status": "error", "items": []}
        if missing:
            return {"key": text, "status": "missing", "items": []}
        most = min(params.max_chars, _MOST_CHARS)
        items = [item for one in kept for item in _items(one, most)][-limit:]
        return {"key": text, "status": "ok" if items else "empty", "items": items}


def _named(info: SessionInfo) -> dict[str, str]:
    name = {"key": str(info.key), "agentId": info.key.agent_id}
    label = info.settings.get("label")
    return name if label is None else {**name, "displayName": str(label)}


def _items(kept: KeptMessage, most: int) -> Iterator[dict[str, str]]:
    """The text of a message, then the tools that it calls."""
    message = kept.message
    if text := one_line(message.text, most):
        yield {"role": message.role.value, "text": text}
    called = [part.name for part in message.parts if isinstance(part, ToolCall)]
    if called:
        yield {"role": "tool", "text": shortened(f"call {', '.join(called)}", most)}

"""`sessions.patch`, `.reset`, `.delete`, `.compact`: changing Sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from .....domain.auth import Principal
from .....domain.errors import InvalidRequest, UnknownSession
from .....domain.gateway import Gateway
from .....domain.session_desk import SessionDesk
from .....domain.session_settings import SETTINGS
from .....domain.sessions import SessionKey
from ..calls import Call, Handler, Handlers, Params
from ..frames import Name
from .session_rows import Rows

Key = Annotated[str, Field(min_length=1, max_length=512)]
Setting = Annotated[str, Field(max_length=512)] | None
Flag = bool | None

_KEPT_TRANSCRIPT = (
    "A session's transcripts go with it here: leave out deleteTranscript, or archive the session "
    "with sessions.patch."
)


class KeyParams(Params):
    """A session. `expected_session_id`: refuse where its current transcript is another one."""

    key: Key
    agent_id: Name | None = None
    expected_session_id: Name | None = None


class PatchParams(KeyParams):
    """Settings: null takes one away, what is left out stays."""

    label: Setting = None
    thinking_level: Setting = None
    verbose_level: Setting = None
    reasoning_level: Setting = None
    response_usage: Setting = None
    elevated_level: Setting = None
    exec_host: Setting = None
    exec_security: Setting = None
    exec_ask: Setting = None
    exec_node: Setting = None
    model: Setting = None
    spawned_by: Setting = None
    send_policy: Setting = None
    group_activation: Setting = None
    archived: Flag = None
    pinned: Flag = None
    unread: Flag = None
    fast_mode: Flag = None


class ResetParams(KeyParams):
    """`reason` makes no difference: settings stay, the old transcript is kept."""

    reason: Literal["new", "reset"] | None = None


class DeleteParams(KeyParams):
    """`archived_only`: refuse a session that is not archived."""

    archived_only: bool | None = None
    delete_transcript: bool | None = None


class CompactParams(KeyParams):
    """`max_lines`: how many of the newest messages stay at most."""

    max_lines: Annotated[int, Field(ge=1)] = 400


@dataclass(frozen=True, slots=True)
class SessionChanges:
    """The handlers."""

    gateway: Gateway
    desk: SessionDesk
    rows: Rows

    def handlers(self) -> Handlers:
        return {
            "sessions.patch": Handler(PatchParams, self._patch),
            "sessions.reset": Handler(ResetParams, self._reset),
            "sessions.delete": Handler(DeleteParams, self._delete),
            "sessions.compact": Handler(CompactParams, self._compact),
        }

    async def _patch(self, call: Call, params: PatchParams) -> object:
        key = await self._key(call.principal, params)
        given = params.model_dump(by_alias=True, exclude_unset=True)
        asked = {name: value for name, value in given.items() if name in SETTINGS}
        info = await self.desk.patch(call.principal, key, asked)
        return {
            "ok": True,
            "path": self.rows.path(call.principal),
            "key": str(key),
            "entry": self.rows.entry(info),
            "resolved": self.rows.resolved(info),
        }

    async def _reset(self, call: Call, params: ResetParams) -> object:
        key = await self._key(call.principal, params)
        info = await self.desk.reset(call.principal, key)
        return {"ok": True, "key": str(key), "entry": self.rows.entry(info)}

    async def _delete(self, call: Call, params: DeleteParams) -> object:
        """A session that is not there is no error: it is gone, as was wanted."""
        if params.delete_transcript is False:
            raise InvalidRequest(_KEPT_TRANSCRIPT, param="deleteTranscript")
        key = await self._key(call.principal, params)
        if params.archived_only:
            info = await self.desk.find(call.principal, key)
            if info is not None and info.settings.get("archived") is not True:
                raise InvalidRequest(f"The session {key} is not archived.", param="archivedOnly")
        deleted = await self.desk.delete(call.principal, key)
        return {"ok": True, "key": str(key), "deleted": deleted, "archived": []}

    async def _compact(self, call: Call, params: CompactParams) -> object:
        key = await self._key(call.principal, params)
        before = await self.desk.find(call.principal, key)
        told: dict[str, Any] = {"ok": True, "key": str(key)}
        try:
            info, kept = await self.desk.compact(call.principal, key, params.max_lines)
        except UnknownSession:
            return {**told, "compacted": False, "reason": "no transcript"}
        changed = before is None or before.session_id != info.session_id
        return {**told, "compacted": changed, "kept": kept, "entry": self.rows.entry(info)}

    async def _key(self, principal: Principal, params: KeyParams) -> SessionKey:
        """The canonical key. Raises InvalidRequest for a session that is not as expected."""
        key = self.gateway.session_key(params.key, agent_id=params.agent_id)
        if params.expected_session_id is not None:
            info = await self.desk.find(principal, key)
            if info is None or info.session_id != params.expected_session_id:
                raise InvalidRequest(
                    f"The session {key} is not at {params.expected_session_id} any more.",
                    param="expectedSessionId",
                )
        return key

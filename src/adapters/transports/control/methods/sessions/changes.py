"""`sessions.patch`, `.reset`, `.delete`, `.compact`: changing Sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from ......domain.errors import InvalidRequest, UnknownSession
from ......domain.services import Gateway, SessionService
from ......domain.sessions import SETTINGS, Expected, SessionKey
from ...connection import Call, Handler, Handlers, Params
from ...protocol import Name
from ..payloads import Rows

Key = Annotated[str, Field(min_length=1, max_length=512)]
Setting = Annotated[str, Field(max_length=512)] | None
Flag = bool | None

_KEPT_TRANSCRIPT = (
    "Deleting a session always deletes its transcripts. Omit deleteTranscript, or archive the "
    "session with sessions.patch."
)


class KeyParams(Params):
    """A session. `expected_session_id`: fail if its current transcript is another one."""

    key: Key
    agent_id: Name | None = None
    expected_session_id: Name | None = None


class PatchParams(KeyParams):
    """Settings: null removes one; those left out stay unchanged."""

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
    """`reason` has no effect: the settings and the old transcript are kept."""

    reason: Literal["new", "reset"] | None = None


class DeleteParams(KeyParams):
    """`archived_only`: fail if the session is not archived."""

    archived_only: bool | None = None
    delete_transcript: bool | None = None


class CompactParams(KeyParams):
    """`max_lines`: the maximum number of newest messages to keep."""

    max_lines: Annotated[int, Field(ge=1)] = 400


@dataclass(frozen=True, slots=True)
class SessionChanges:
    gateway: Gateway
    session_service: SessionService
    rows: Rows

    def handlers(self) -> Handlers:
        return {
            "sessions.patch": Handler(PatchParams, self._patch),
            "sessions.reset": Handler(ResetParams, self._reset),
            "sessions.delete": Handler(DeleteParams, self._delete),
            "sessions.compact": Handler(CompactParams, self._compact),
        }

    async def _patch(self, call: Call, params: PatchParams) -> object:
        key = self._key(params)
        fields = params.model_dump(by_alias=True, exclude_unset=True)
        settings = {name: value for name, value in fields.items() if name in SETTINGS}
        info = await self.session_service.patch(
            call.principal, key, settings, expected=_expected(params)
        )
        return {
            "ok": True,
            "path": self.rows.path(call.principal),
            "key": str(key),
            "entry": self.rows.entry(info),
            "resolved": self.rows.resolved(info),
        }

    async def _reset(self, call: Call, params: ResetParams) -> object:
        key = self._key(params)
        info = await self.session_service.reset(call.principal, key, expected=_expected(params))
        return {"ok": True, "key": str(key), "entry": self.rows.entry(info)}

    async def _delete(self, call: Call, params: DeleteParams) -> object:
        """A missing session is not an error."""
        if params.delete_transcript is False:
            raise InvalidRequest(_KEPT_TRANSCRIPT, param="deleteTranscript")
        key = self._key(params)
        expected = Expected(params.expected_session_id, archived=params.archived_only is True)
        deleted = await self.session_service.delete(call.principal, key, expected=expected)
        return {"ok": True, "key": str(key), "deleted": deleted, "archived": []}

    async def _compact(self, call: Call, params: CompactParams) -> object:
        key = self._key(params)
        payload: dict[str, Any] = {"ok": True, "key": str(key)}
        try:
            compacted = await self.session_service.compact(
                call.principal, key, params.max_lines, expected=_expected(params)
            )
        except UnknownSession:
            return {**payload, "compacted": False, "reason": "no transcript"}
        return {
            **payload,
            "compacted": compacted.changed,
            "kept": compacted.kept,
            "entry": self.rows.entry(compacted.info),
        }

    def _key(self, params: KeyParams) -> SessionKey:
        return self.gateway.session_key(params.key, agent_id=params.agent_id)


def _expected(params: KeyParams) -> Expected:
    return Expected(params.expected_session_id)

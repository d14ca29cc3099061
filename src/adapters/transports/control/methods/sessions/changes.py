"""`sessions.create`, `.patch`, `.reset`, `.delete`, `.compact`, `.send`, `.abort`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from ......domain.errors import InvalidRequest, UnknownSession
from ......domain.sessions import SETTINGS, Expected, SessionKey, Setting
from ...broadcast import Hub
from ...connection import ANSWERED, Call, Params
from ...dependencies import Dependencies
from ...protocol import Attachments, Key, Name, SessionKeyText
from ..chat import AbortParams, ChatMethods, IdempotencyKey, Milliseconds, SendParams
from ..service import ControlService, answers

SettingText = Annotated[str, Field(max_length=512)] | None
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

    label: SettingText = None
    thinking_level: SettingText = None
    verbose_level: SettingText = None
    reasoning_level: SettingText = None
    response_usage: SettingText = None
    elevated_level: SettingText = None
    exec_host: SettingText = None
    exec_security: SettingText = None
    exec_ask: SettingText = None
    exec_node: SettingText = None
    model: SettingText = None
    spawned_by: SettingText = None
    send_policy: SettingText = None
    group_activation: SettingText = None
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
    """`max_lines`: the maximum number of newest messages to go on with. Without it, the session's
    model writes a summary that replaces the older messages in what models get; `instructions`: what
    the summary should pay attention to."""

    max_lines: Annotated[int, Field(ge=1)] | None = None
    instructions: Annotated[str, Field(max_length=10_000)] = ""


class SessionChanges(ControlService):
    @answers("sessions.patch", PatchParams)
    async def _patch(self, call: Call, params: PatchParams) -> object:
        key = self._key(call, params)
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

    @answers("sessions.reset", ResetParams)
    async def _reset(self, call: Call, params: ResetParams) -> object:
        key = self._key(call, params)
        info = await self.session_service.reset(call.principal, key, expected=_expected(params))
        return {"ok": True, "key": str(key), "entry": self.rows.entry(info)}

    @answers("sessions.delete", DeleteParams)
    async def _delete(self, call: Call, params: DeleteParams) -> object:
        """A missing session is not an error."""
        if params.delete_transcript is False:
            raise InvalidRequest(_KEPT_TRANSCRIPT, param="deleteTranscript")
        key = self._key(call, params)
        expected = Expected(params.expected_session_id, archived=params.archived_only is True)
        deleted = await self.session_service.delete(call.principal, key, expected=expected)
        return {"ok": True, "key": str(key), "deleted": deleted, "archived": []}

    @answers("sessions.compact", CompactParams)
    async def _compact(self, call: Call, params: CompactParams) -> object:
        key = self._key(call, params)
        payload: dict[str, Any] = {"ok": True, "key": str(key)}
        try:
            if params.max_lines is None:
                return payload | await self._summarise(call, key, params)
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

    async def _summarise(
        self, call: Call, key: SessionKey, params: CompactParams
    ) -> dict[str, Any]:
        outcome = await self.session_service.summarise(
            call.principal, key, instructions=params.instructions, expected=_expected(params)
        )
        return {
            "compacted": outcome.compacted,
            **({"reason": outcome.reason} if outcome.reason else {}),
            "kept": outcome.kept,
            "tokensBefore": outcome.before,
            "tokensAfter": outcome.after,
            "entry": self.rows.entry(outcome.info),
        }

    def _key(self, call: Call, params: KeyParams) -> SessionKey:
        return self.gateway.session_key(
            params.key, agent_id=params.agent_id, principal=call.principal
        )


def _expected(params: KeyParams) -> Expected:
    return Expected(params.expected_session_id)


class SendByKeyParams(Params):
    """Like `chat.send`. Without an idempotency key the request must not be repeated."""

    key: SessionKeyText
    message: str
    agent_id: Name | None = None
    idempotency_key: IdempotencyKey | None = None
    thinking: Name | None = None
    attachments: Attachments = Field(default_factory=list)
    timeout_ms: Milliseconds | None = None


class AbortByKeyParams(Params):
    """The runs of a session, or one run."""

    key: SessionKeyText | None = None
    run_id: Name | None = None
    agent_id: Name | None = None
    clear_queued: bool | None = None


class CreateParams(Params):
    """`key`: by default, a new one. `message`: the first message.

    `parent_session_key` must be a valid session key, but has no effect, and neither have
    `emit_command_hooks` and `succeeds_parent`: sessions have no lineage and no hooks.
    """

    key: SessionKeyText | None = None
    agent_id: Name | None = None
    label: Name | None = None
    model: Name | None = None
    thinking_level: Name | None = None
    message: str | None = None
    attachments: Attachments = Field(default_factory=list)
    idempotency_key: IdempotencyKey | None = None
    parent_session_key: IdempotencyKey | None = None
    emit_command_hooks: bool | None = None
    succeeds_parent: bool | None = None


class SessionTalk(ControlService):
    def __init__(self, dependencies: Dependencies, hub: Hub, chat: ChatMethods) -> None:
        super().__init__(dependencies, hub)
        self.chat = chat

    @answers("sessions.send", SendByKeyParams)
    async def _send(self, call: Call, params: SendByKeyParams) -> object:
        return await self.chat.send(call, self._to_send(params))

    @answers("sessions.abort", AbortByKeyParams)
    async def _abort(self, call: Call, params: AbortByKeyParams) -> object:
        key = params.key
        if key is None:
            if params.run_id is None:
                raise InvalidRequest("Either key or runId is required", param="key")
            key = str((await self.gateway.run(call.principal, params.run_id)).session_key)
        by_key = AbortParams(session_key=key, run_id=params.run_id, agent_id=params.agent_id)
        return await self.chat.abort(call, by_key)

    @answers("sessions.create", CreateParams)
    async def _create(self, call: Call, params: CreateParams) -> object:
        """An existing session with this key gets the settings."""
        text = params.key or f"chat:{self.dependencies.new_id()}"
        key = self.gateway.session_key(text, agent_id=params.agent_id, principal=call.principal)
        if params.parent_session_key is not None:
            self.gateway.session_key(params.parent_session_key, principal=call.principal)
        settings: dict[str, Setting] = {
            "label": params.label,
            "model": params.model,
            "thinkingLevel": params.thinking_level,
        }
        patch = {name: value for name, value in settings.items() if value is not None}
        info = await self.session_service.patch(call.principal, key, patch)
        payload: dict[str, Any] = {
            "ok": True,
            "key": str(key),
            "agentId": key.agent_id,
            "sessionId": info.session_id,
            "runStarted": False,
        }
        if not (params.message or "").strip() and not params.attachments:
            return payload
        return payload | await self._begin(call, str(key), params)

    async def _begin(self, call: Call, key: str, params: CreateParams) -> dict[str, Any]:
        """Send the first message; the response becomes part of this one."""
        answers: list[Any] = []
        message = SendByKeyParams(
            key=key,
            message=params.message or "",
            attachments=params.attachments,
            idempotency_key=params.idempotency_key,
        )
        inner = replace(call, answer=answers.append)
        answer = await self.chat.send(inner, self._to_send(message))
        sent = answers[0] if answer is ANSWERED else answer
        run_id = sent.get("runId") if isinstance(sent, dict) else None
        return {} if run_id is None else {"runStarted": True, "runId": run_id}

    def _to_send(self, params: SendByKeyParams) -> SendParams:
        return SendParams(
            session_key=params.key,
            message=params.message,
            agent_id=params.agent_id,
            idempotency_key=params.idempotency_key or self.dependencies.new_id(),
            thinking=params.thinking,
            attachments=params.attachments,
            timeout_ms=params.timeout_ms,
        )

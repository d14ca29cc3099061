"""`sessions.create`, `.send`, `.abort`: the equivalents of `chat.*` with a session's key."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field

from ......domain.errors import InvalidRequest
from ......domain.ports import NewId
from ......domain.services import Gateway, SessionService
from ......domain.sessions import Setting
from ...connection import ANSWERED, Call, Handler, Handlers, Params
from ...protocol import Attachments, Name, SessionKeyText
from ..chat import AbortParams, ChatMethods, Milliseconds, SendParams

Key = Annotated[str, Field(min_length=1, max_length=256)]


class SendByKeyParams(Params):
    """Like `chat.send`. Without an idempotency key the request must not be repeated."""

    key: SessionKeyText
    message: str
    agent_id: Name | None = None
    idempotency_key: Key | None = None
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
    idempotency_key: Key | None = None
    parent_session_key: Key | None = None
    emit_command_hooks: bool | None = None
    succeeds_parent: bool | None = None


@dataclass(frozen=True, slots=True)
class SessionTalk:
    gateway: Gateway
    session_service: SessionService
    chat: ChatMethods
    new_id: NewId

    def handlers(self) -> Handlers:
        return {
            "sessions.create": Handler(CreateParams, self._create),
            "sessions.send": Handler(SendByKeyParams, self._send),
            "sessions.abort": Handler(AbortByKeyParams, self._abort),
        }

    async def _send(self, call: Call, params: SendByKeyParams) -> object:
        return await self.chat.send(call, self._to_send(params))

    async def _abort(self, call: Call, params: AbortByKeyParams) -> object:
        key = params.key
        if key is None:
            if params.run_id is None:
                raise InvalidRequest("Either key or runId is required", param="key")
            key = str((await self.gateway.run(call.principal, params.run_id)).session_key)
        by_key = AbortParams(session_key=key, run_id=params.run_id, agent_id=params.agent_id)
        return await self.chat.abort(call, by_key)

    async def _create(self, call: Call, params: CreateParams) -> object:
        """An existing session with this key gets the settings."""
        text = params.key or f"chat:{self.new_id()}"
        key = self.gateway.session_key(text, agent_id=params.agent_id)
        if params.parent_session_key is not None:
            self.gateway.session_key(params.parent_session_key)
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
            idempotency_key=params.idempotency_key or self.new_id(),
            thinking=params.thinking,
            attachments=params.attachments,
            timeout_ms=params.timeout_ms,
        )

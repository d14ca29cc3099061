"""`agent` and `chat.*`: starting and stopping Runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from ......domain.access import Principal, require
from ......domain.chat_commands import ChatCommand, CommandName
from ......domain.errors import InvalidRequest, UnknownSession
from ......domain.messages import Message, Role, text_message
from ......domain.runs import Failed, OnLeave, RunRecord, RunRequest, RunStatus
from ......domain.sessions import MAIN, SessionKey
from ...connection import ANSWERED, Call, Params
from ...protocol import NAMING, Attachments, Name, SessionKeyText, user_message
from ..outcomes import agent_payload, failed_answer
from ..service import ControlService, answers

Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Milliseconds = Annotated[int, Field(ge=0, le=86_400_000)]
IdempotencyKey = Annotated[str, Field(min_length=1, max_length=256)]


class AgentParams(Params):
    """`timeout`: seconds, fractions allowed; it can only shorten the agent's limit, and 0 sets
    none. Parameters of chat channels are accepted and ignored, but `deliver` and `channel` are
    rejected if they request a delivery."""

    message: Annotated[str, Field(min_length=1)]
    idempotency_key: IdempotencyKey
    agent_id: Name | None = None
    session_key: SessionKeyText | None = None
    session_id: Name | None = None
    thinking: Name | None = None
    timeout: Seconds | None = None
    attachments: Attachments = Field(default_factory=list)
    extra_system_prompt: str | None = None
    model: Name | None = None
    provider: Name | None = None
    label: Name | None = None
    lane: Name | None = None
    spawned_by: Name | None = None
    task_id: Name | None = None
    deliver: bool | None = None
    channel: Name | None = None
    reply_channel: Name | None = None
    best_effort_deliver: bool | None = None
    to: Any = None
    reply_to: Any = None
    account_id: Any = None
    reply_account_id: Any = None
    thread_id: Any = None
    group_id: Any = None
    group_channel: Any = None
    group_space: Any = None
    cwd: Any = None
    model_run: Any = None
    prompt_mode: Any = None
    expected_existing_session_id: Any = None
    bootstrap_context_mode: Any = None
    session_effects: Any = None
    disable_message_tool: Any = None


class SendParams(Params):
    """`message` may be empty if there are attachments. `timeout_ms`: milliseconds; it can only
    shorten the agent's limit, and 0 sets none. `suppress_command_interpretation`: send commands
    such as `/status` to the model. `/stop` is answered with the runs that it stops."""

    session_key: SessionKeyText
    message: str
    idempotency_key: IdempotencyKey
    agent_id: Name | None = None
    session_id: Name | None = None
    thinking: Name | None = None
    deliver: bool | None = None
    attachments: Attachments = Field(default_factory=list)
    timeout_ms: Milliseconds | None = None
    queue_mode: Any = None
    fast_mode: Any = None
    reply_to_id: Any = None
    mentions: Any = None
    work_context: Any = None
    expected_session_id: Any = None
    suppress_command_interpretation: bool | None = None
    control_ui_reconnect_resume: Annotated[Any, Field(alias="__controlUiReconnectResume")] = None


class AbortParams(Params):
    """`run_id`: by default, every run of the session."""

    session_key: SessionKeyText
    run_id: Name | None = None
    agent_id: Name | None = None
    preserve_side_runs: bool | None = None


class InjectParams(Params):
    """`label` is put before the message."""

    session_key: SessionKeyText
    message: Annotated[str, Field(min_length=1)]
    label: Annotated[str, Field(max_length=100), NAMING] | None = None
    agent_id: Name | None = None


_NO_DELIVERY = (
    "There are no chat channels here, so answers cannot be delivered to one. Omit deliver."
)
_NO_OVERRIDE = "A run cannot choose its model. Set the session's model with sessions.patch."


class ChatMethods(ControlService):
    @answers("agent", AgentParams)
    async def _agent(self, call: Call, params: AgentParams) -> object:
        """Responds `accepted` at once; the last response follows when the Run has ended."""
        _check_supported(params)
        key = await self._session_of(call.principal, params)
        request = _request(params, key, await _messages(params), "agent", params.timeout)
        self._check_command(call.principal, request)
        record, fresh = await self._submit(call, params, request, key, _accepted)
        if not fresh and not record.status.final:
            call.answer(_accepted(record))
        return agent_payload(await self.outcomes.of(call.principal, record.id))

    @answers("chat.send", SendParams)
    async def send(self, call: Call, params: SendParams) -> object:
        """Responds at once; the rest is sent as events."""
        key = self.gateway.session_key(
            params.session_key, agent_id=params.agent_id, principal=call.principal
        )
        if not params.message.strip() and not params.attachments:
            raise InvalidRequest("message or attachment required", param="message")
        messages = (await user_message(params.message, params.attachments),)
        timeout = None if params.timeout_ms is None else params.timeout_ms / 1_000
        request = _request(params, key, messages, "chat", timeout)
        request = replace(request, commands=not params.suppress_command_interpretation)
        response: Callable[[RunRecord], object] = _begun
        command = self._check_command(call.principal, request)
        if command is not None and command.name is CommandName.STOP:
            runs = await self.gateway.active(call.principal, key)
            stopped = _aborted([run.id for run in runs if run.command is None])
            response = partial(_answered, stopped)
        record, fresh = await self._submit(call, params, request, key, response)
        return ANSWERED if fresh else await self._repeated(call.principal, record)

    def _check_command(self, principal: Principal, request: RunRequest) -> ChatCommand | None:
        """The command that the request is, which the principal may issue. Raises Forbidden."""
        command = self.gateway.command(request)
        if command is not None:
            require(principal, command.needs)
        return command

    async def _submit(
        self,
        call: Call,
        params: AgentParams | SendParams,
        request: RunRequest,
        key: SessionKey,
        response: Callable[[RunRecord], object],
    ) -> tuple[RunRecord, bool]:
        """Start the Run, or find the one of an equal earlier request, and subscribe the client to
        its Session; returns the record and whether it is new. For a new Run the first response is
        sent before the Run's first event."""

        async def accepted(record: RunRecord) -> None:
            await self.hub.subscribe(call.connection, record.session_key, begun=record.id)
            call.answer(response(record))

        with self.hub.subscriptions.reserved(call.connection, key):
            submission = await self.gateway.submit_once(
                call.principal,
                request,
                params.idempotency_key,
                accepted=accepted,
                charge=call.charge,
            )
            if submission.fresh:
                return submission.record, True
            await self.hub.subscribe(call.connection, submission.record.session_key)
        # Read again: a run that ended before the subscription has no more events to send.
        return await self.gateway.run(call.principal, submission.record.id), False

    @answers("chat.abort", AbortParams)
    async def abort(self, call: Call, params: AbortParams) -> object:
        key = self.gateway.session_key(
            params.session_key, agent_id=params.agent_id, principal=call.principal
        )
        if params.run_id is None:
            return await self._stopped(call.principal, key)
        running = [
            run for run in await self.gateway.active(call.principal) if run.id == params.run_id
        ]
        if any(run.session_key != key for run in running):
            raise InvalidRequest("runId does not match sessionKey", param="runId")
        aborted = await self.gateway.abort(call.principal, params.run_id, _by(call.principal))
        return _aborted([params.run_id] if aborted else [])

    @answers("chat.inject", InjectParams)
    async def _inject(self, call: Call, params: InjectParams) -> object:
        key = self.gateway.session_key(
            params.session_key, agent_id=params.agent_id, principal=call.principal
        )
        text = f"[{params.label}]\n\n{params.message}" if params.label else params.message
        _, message_id = await self.session_service.inject(call.principal, key, text)
        await self.hub.send_injected(key, message_id)
        return {"ok": True, "messageId": message_id}

    async def _session_of(self, principal: Principal, params: AgentParams) -> SessionKey:
        """The session named by key or id, or the agent's main session."""
        if params.agent_id is not None:
            self.gateway.settings.agents.find(params.agent_id, param="agentId")
        if params.session_key is not None:
            key = self.gateway.session_key(
                params.session_key, agent_id=params.agent_id, principal=principal
            )
        elif params.session_id is not None:
            key = await self._by_id(principal, params.session_id)
        else:
            key = self.gateway.session_key(MAIN, agent_id=params.agent_id, principal=principal)
        if params.agent_id is not None and key.agent_id != params.agent_id.strip().lower():
            raise InvalidRequest(
                f'agent "{params.agent_id}" does not match session key agent "{key.agent_id}"',
                param="agentId",
            )
        return key

    async def _by_id(self, principal: Principal, session_id: str) -> SessionKey:
        found = await self.session_service.with_id(principal, session_id)
        if not found:
            raise UnknownSession(f"No session found: {session_id}")
        if len(found) > 1:
            keys = ", ".join(str(info.key) for info in found)
            raise InvalidRequest(
                f"Multiple sessions found for sessionId: {session_id} ({keys})", param="sessionId"
            )
        return found[0].key

    async def _stopped(self, principal: Principal, key: SessionKey) -> object:
        return _aborted(list(await self.gateway.abort_session(principal, key, _by(principal))))

    async def _repeated(self, principal: Principal, record: RunRecord) -> object:
        """The response to a repeated request."""
        if not record.status.final:
            return {"runId": record.id, "status": "in_flight"}
        if record.status is RunStatus.FINISHED:
            return {"runId": record.id, "status": "ok"}
        if record.status is RunStatus.ABORTED:
            return {"runId": record.id, "status": "aborted", "summary": "aborted"}
        ending = (await self.outcomes.of(principal, record.id)).ending
        if isinstance(ending, Failed):
            raise failed_answer(record.id, ending.message or "The run failed.", ending)
        return {"runId": record.id, "status": "ok"}


def _request(
    params: AgentParams | SendParams,
    key: SessionKey,
    messages: tuple[Message, ...],
    source: str,
    time_limit: float | None,
) -> RunRequest:
    return RunRequest(
        messages=messages,
        agent_id=key.agent_id,
        session_key=str(key),
        thinking=params.thinking,
        on_leave=OnLeave.CONTINUE,
        source=source,
        reserved_keys=True,
        timeout=time_limit,
        commands=True,
    )


async def _messages(params: AgentParams) -> tuple[Message, ...]:
    message = await user_message(params.message, params.attachments)
    if not params.extra_system_prompt:
        return (message,)
    return (text_message(Role.SYSTEM, params.extra_system_prompt), message)


def _check_supported(params: AgentParams) -> None:
    """Reject unsupported parameters instead of ignoring them. Raises InvalidRequest."""
    if params.model is not None or params.provider is not None:
        raise InvalidRequest(_NO_OVERRIDE, param="model")
    for name, channel in (("channel", params.channel), ("replyChannel", params.reply_channel)):
        if channel is not None and channel not in ("webchat", "last"):
            raise InvalidRequest(f"invalid agent params: unknown channel: {channel}", param=name)
    if params.deliver and params.channel is not None:
        raise InvalidRequest(_NO_DELIVERY, param="deliver")


def _begun(record: RunRecord) -> dict[str, object]:
    return {"runId": record.id, "status": "started"}


def _accepted(record: RunRecord) -> dict[str, object]:
    return {
        "runId": record.id,
        "sessionKey": str(record.session_key),
        "agentId": record.agent_id,
        "status": "accepted",
        "acceptedAt": int(record.accepted_at * 1_000),
    }


def _answered(payload: object, record: RunRecord) -> object:
    return payload


def _aborted(run_ids: list[str]) -> dict[str, object]:
    return {"ok": True, "aborted": bool(run_ids), "runIds": run_ids}


def _by(principal: Principal) -> str:
    return f"Aborted by {principal.id}."

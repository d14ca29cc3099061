"""`agent` and `chat.*`: starting and stopping Runs."""

from __future__ import annotations

from ......domain.access import Principal
from ......domain.errors import InvalidRequest, UnknownSession
from ......domain.messages import Message, Role, text_message
from ......domain.ports import Clock
from ......domain.runs import Failed, OnLeave, RunRecord, RunRequest, RunStatus
from ......domain.services import Gateway, SessionService
from ......domain.sessions import MAIN, SessionKey
from ...broadcast import Hub, message_ids, message_of
from ...connection import ANSWERED, Call, Handler, Handlers
from ...protocol import user_message
from ..payloads import Outcomes, agent_payload, failed_answer
from .commands import Commands
from .params import AbortParams, AgentParams, InjectParams, SendParams

_STOP = ("/stop", "/abort")
_START_OVER = ("/new", "/reset")
_NO_DELIVERY = (
    "There are no chat channels here, so answers cannot be delivered to one. Omit deliver."
)
_NO_OVERRIDE = "A run cannot choose its model. Set the session's model with sessions.patch."


class ChatMethods:
    def __init__(
        self,
        gateway: Gateway,
        session_service: SessionService,
        hub: Hub,
        outcomes: Outcomes,
        commands: Commands,
        clock: Clock,
    ) -> None:
        self._gateway = gateway
        self._session_service = session_service
        self._hub = hub
        self._outcomes = outcomes
        self._commands = commands
        self._clock = clock

    def handlers(self) -> Handlers:
        return {
            "agent": Handler(AgentParams, self._agent),
            "chat.send": Handler(SendParams, self.send),
            "chat.abort": Handler(AbortParams, self.abort),
            "chat.inject": Handler(InjectParams, self._inject),
        }

    async def _agent(self, call: Call, params: AgentParams) -> object:
        """Responds `accepted` at once; the last response follows when the Run has ended."""
        _check_supported(params)
        key = await self._session_of(call.principal, params)
        request = RunRequest(
            messages=await _messages(params),
            agent_id=key.agent_id,
            session_key=str(key),
            thinking=params.thinking,
            on_leave=OnLeave.CONTINUE,
            source="agent",
            reserved_keys=True,
            timeout=params.timeout,
        )

        async def accepted(record: RunRecord) -> None:
            await self._hub.subscribe(call.connection, record.session_key, begun=record.id)
            call.answer(_accepted(record))

        with self._hub.reserved(call.connection, key):
            submission = await self._gateway.submit_once(
                call.principal,
                request,
                params.idempotency_key,
                accepted=accepted,
                charge=call.charge,
            )
            record = submission.record
            if not submission.fresh:
                await self._hub.subscribe(call.connection, record.session_key)
                if not record.status.final:
                    call.answer(_accepted(record))
        return agent_payload(await self._outcomes.of(call.principal, record.id))

    async def send(self, call: Call, params: SendParams) -> object:
        """Responds at once; the rest is sent as events."""
        key = self._gateway.session_key(params.session_key, agent_id=params.agent_id)
        if not params.attachments and not params.suppress_command_interpretation:
            answer = await self._command(call, key, params)
            if answer is not None:
                return answer
        if not params.message.strip() and not params.attachments:
            raise InvalidRequest("message or attachment required", param="message")
        request = RunRequest(
            messages=(await user_message(params.message, params.attachments),),
            agent_id=key.agent_id,
            session_key=str(key),
            thinking=params.thinking,
            on_leave=OnLeave.CONTINUE,
            source="chat",
            reserved_keys=True,
            timeout=None if params.timeout_ms is None else params.timeout_ms / 1_000,
        )

        async def accepted(record: RunRecord) -> None:
            await self._hub.subscribe(call.connection, record.session_key, begun=record.id)
            call.answer({"runId": record.id, "status": "started"})

        with self._hub.reserved(call.connection, key):
            submission = await self._gateway.submit_once(
                call.principal,
                request,
                params.idempotency_key,
                accepted=accepted,
                charge=call.charge,
            )
            if submission.fresh:
                return ANSWERED
            await self._hub.subscribe(call.connection, submission.record.session_key)
        return await self._repeated(call.principal, submission.record)

    async def _command(self, call: Call, key: SessionKey, params: SendParams) -> object | None:
        """The response to a command; None for a message to the model."""
        word, run_id = params.message.strip().lower(), params.idempotency_key
        if word in (*_STOP, *_START_OVER) and self._commands.answered(key, run_id):
            # A repeated request must not affect runs and turns that began after the first one.
            return {"ok": True, "key": str(key), "runId": run_id, "status": "ok"}
        if word in _STOP:
            self._commands.note(key, run_id)
            return await self._stopped(call.principal, key)
        if word in _START_OVER:
            with self._commands.noted(key, run_id):
                info = await self._session_service.reset(call.principal, key)
            return {"ok": True, "key": str(key), "sessionId": info.session_id, "status": "ok"}
        found = self._commands.find(params.message)
        return None if found is None else await self._commands.run(call, key, run_id, found)

    async def abort(self, call: Call, params: AbortParams) -> object:
        key = self._gateway.session_key(params.session_key, agent_id=params.agent_id)
        if params.run_id is None:
            return await self._stopped(call.principal, key)
        running = [
            run for run in await self._gateway.active(call.principal) if run.id == params.run_id
        ]
        if any(run.session_key != key for run in running):
            raise InvalidRequest("runId does not match sessionKey", param="runId")
        aborted = await self._gateway.abort(call.principal, params.run_id, _by(call.principal))
        return _aborted([params.run_id] if aborted else [])

    async def _inject(self, call: Call, params: InjectParams) -> object:
        key = self._gateway.session_key(params.session_key, agent_id=params.agent_id)
        text = f"[{params.label}]\n\n{params.message}" if params.label else params.message
        _, message_id = await self._session_service.inject(call.principal, key, text)
        kept = await self._gateway.answer(call.principal, key, message_id)
        ids = {} if kept is None else message_ids(kept)
        payload = {
            "runId": message_id,
            "sessionKey": str(key),
            "agentId": key.agent_id,
            "seq": 0,
            "state": "final",
            "stopReason": "injected",
            "message": {**message_of(text, self._clock()), **ids},
        }
        self._hub.send_to_session(key, "chat", payload)
        return {"ok": True, "messageId": message_id}

    async def _session_of(self, principal: Principal, params: AgentParams) -> SessionKey:
        """The session named by key or id, or the agent's main session."""
        if params.agent_id is not None:
            self._gateway.settings.agents.find(params.agent_id, param="agentId")
        if params.session_key is not None:
            key = self._gateway.session_key(params.session_key, agent_id=params.agent_id)
        elif params.session_id is not None:
            key = await self._by_id(principal, params.session_id)
        else:
            key = self._gateway.session_key(MAIN, agent_id=params.agent_id)
        if params.agent_id is not None and key.agent_id != params.agent_id.strip().lower():
            raise InvalidRequest(
                f'agent "{params.agent_id}" does not match session key agent "{key.agent_id}"',
                param="agentId",
            )
        return key

    async def _by_id(self, principal: Principal, session_id: str) -> SessionKey:
        found = await self._session_service.with_id(principal, session_id)
        if not found:
            raise UnknownSession(f"No session found: {session_id}")
        if len(found) > 1:
            keys = ", ".join(str(info.key) for info in found)
            raise InvalidRequest(
                f"Multiple sessions found for sessionId: {session_id} ({keys})", param="sessionId"
            )
        return found[0].key

    async def _stopped(self, principal: Principal, key: SessionKey) -> object:
        return _aborted(list(await self._gateway.abort_session(principal, key, _by(principal))))

    async def _repeated(self, principal: Principal, record: RunRecord) -> object:
        """The response to a repeated request."""
        if not record.status.final:
            return {"runId": record.id, "status": "in_flight"}
        if record.status is RunStatus.FINISHED:
            return {"runId": record.id, "status": "ok"}
        if record.status is RunStatus.ABORTED:
            return {"runId": record.id, "status": "aborted", "summary": "aborted"}
        ending = (await self._outcomes.of(principal, record.id)).ending
        if isinstance(ending, Failed):
            raise failed_answer(record.id, ending.message or "The run failed.", ending)
        return {"runId": record.id, "status": "ok"}


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


def _accepted(record: RunRecord) -> dict[str, object]:
    return {
        "runId": record.id,
        "sessionKey": str(record.session_key),
        "agentId": record.agent_id,
        "status": "accepted",
        "acceptedAt": int(record.accepted_at * 1_000),
    }


def _aborted(run_ids: list[str]) -> dict[str, object]:
    return {"ok": True, "aborted": bool(run_ids), "runIds": run_ids}


def _by(principal: Principal) -> str:
    return f"Aborted by {principal.id}."

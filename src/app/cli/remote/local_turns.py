"""`opensoul agent --local`: a turn through a Gateway in this process."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ....domain.access import ALL_SCOPES, Principal
from ....domain.errors import ApprovalDecided, GatewayError, InvalidRequest, UnknownSession
from ....domain.messages import Role, text_message
from ....domain.models import ReasoningDelta, TextDelta
from ....domain.runs import (
    CONTEXT_EVENTS,
    TERMINAL,
    TOOL_EVENTS,
    Aborted,
    Ending,
    Failed,
    Finished,
    OnLeave,
    Resumed,
    RunRequest,
    Started,
    StepDone,
    Waiting,
    consumes,
)
from ....domain.sessions import MAIN
from ....domain.tools import Decision
from ...server import event_loop
from ..common.configuration import gateway_errors
from ..common.errors import CommandError
from .turns import Ended, Question, Show, until_ended

if TYPE_CHECKING:
    from ...container import Container
    from ..common.state import State

_INTERRUPTS = ("SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP")
"""The Run ends with this process, so that these signals stop and record it first."""
_SHARED = (
    "The configuration has a database, and --local would make this process one of its nodes, which"
    " executes the runs of others, too. Omit --local to use a Gateway; or use files of the state"
    " directory: leave store.url out and set OPENSOUL_DATABASE_URL to nothing."
)
_OPERATOR = Principal("operator", ALL_SCOPES, "local")


def ask_locally(state: State, question: Question, show: Show) -> Ended:
    """Raises CommandError, also if a Gateway holds the state directory."""
    from dependency_injector import providers

    from ...container import Container

    container = Container(
        overrides=providers.Object(state.overrides()),
        # Log lines would mix with the answer.
        configure_logging=providers.Object(lambda settings: None),
    )
    try:
        with gateway_errors():
            return event_loop.run(_ended_locally(container, question, show))
    except CommandError as error:
        if error.code == "state_locked":
            error.message += " Or omit --local to use that Gateway."
        raise


async def _ended_locally(container: Container, question: Question, show: Show) -> Ended:
    if container.settings()().store.url is not None:
        raise CommandError(_SHARED, code="shared_store")
    lifecycle = container.lifecycle()
    await lifecycle.start()
    try:
        return await until_ended(_Local(container, question, show), interrupts=_INTERRUPTS)
    finally:
        await lifecycle.stop()


@dataclass(slots=True)
class _Local:
    """A question to the Gateway of this process."""

    container: Container
    question: Question
    show: Show

    @consumes(
        TextDelta,
        StepDone,
        Resumed,
        Waiting,
        *TERMINAL,
        ignores=(Started, ReasoningDelta, *TOOL_EVENTS, *CONTEXT_EVENTS),
    )
    async def ended(self) -> Ended:
        gateway = self.container.gateway()
        request = await self._request()
        submission = await gateway.submit_once(_OPERATOR, request, self.question.key)
        text: list[str] = []
        stored = 0
        async for batch in gateway.watch(_OPERATOR, submission.record.id):
            for event in batch.events:
                if isinstance(event, TextDelta):
                    text.append(event.text)
                    self.show.text(event.text)
                elif isinstance(event, StepDone):
                    stored = len(text)
                elif isinstance(event, Resumed) and event.void:
                    del text[stored:]
                elif isinstance(event, Waiting) and event.approval_id is not None:
                    await self._deny(event.what, event.approval_id)
            if batch.ending is not None:
                return _ended(self.question.key, "".join(text), batch.ending)
        raise GatewayError("The run's event stream closed before a terminal event arrived.")

    async def _deny(self, what: str, approval_id: str) -> None:
        """No other process can decide while this one has the state directory."""
        self.show.waiting(what, "It is denied, because --local has nobody to approve it.")
        with suppress(ApprovalDecided):  # It has expired.
            await self.container.approvals().decide(_OPERATOR, approval_id, Decision.DENY)

    async def stop(self) -> bool:
        await self.container.gateway().abort(_OPERATOR, self.question.key, "Interrupted.")
        return True

    async def _request(self) -> RunRequest:
        question, gateway = self.question, self.container.gateway()
        key = gateway.session_key(
            question.session_key or await self._key_of(question.session_id) or MAIN,
            agent_id=question.agent_id,
        )
        if question.agent_id is not None and key.agent_id != question.agent_id.strip().lower():
            raise InvalidRequest(
                f'agent "{question.agent_id}" does not match session key agent "{key.agent_id}"'
            )
        return RunRequest(
            messages=(text_message(Role.USER, question.message),),
            agent_id=key.agent_id,
            session_key=str(key),
            thinking=question.thinking,
            on_leave=OnLeave.CONTINUE,
            source="agent",
            reserved_keys=True,
            timeout=question.timeout,
            commands=True,
        )

    async def _key_of(self, session_id: str | None) -> str | None:
        if session_id is None:
            return None
        found = await self.container.session_service().with_id(_OPERATOR, session_id)
        if len(found) != 1:
            raise UnknownSession(f"No session found: {session_id}")
        return str(found[0].key)


def _ended(run_id: str, text: str, event: Ending) -> Ended:
    payload: dict[str, Any] = {"runId": run_id, "status": "ok", "summary": "completed"}
    match event:
        case Failed(message=message, code=code):
            return Ended("error", text, message, code)
        case Aborted(reason=reason):
            return Ended("aborted", text, reason)
        case Finished(stop=stop, usage=usage, model=model):
            provider, _, name = model.partition("/")
            used = {"input": usage.input, "output": usage.output, "total": usage.total}
            meta = {"provider": provider, "model": name, "usage": used}
            payload["result"] = {
                "payloads": [{"text": text}] if text else [],
                "meta": {"stopReason": stop.value, "agentMeta": meta},
            }
    return Ended("ok", text, payload=payload)

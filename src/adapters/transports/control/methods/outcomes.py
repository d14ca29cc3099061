"""Waits for the outcome of a Run and builds the responses for it."""

from __future__ import annotations

from dataclasses import dataclass

from .....domain.access import Principal
from .....domain.concurrency import take_turns
from .....domain.errors import EventsExpired, RunFailed
from .....domain.models import ReasoningDelta, StopReason, TextDelta, Usage
from .....domain.runs import (
    CONTEXT_EVENTS,
    TERMINAL,
    TOOL_EVENTS,
    Aborted,
    Ending,
    Failed,
    Finished,
    Resumed,
    RunRecord,
    RunStatus,
    Started,
    StepDone,
    Waiting,
    consumes,
)
from .....domain.services import Gateway, SessionService
from ..broadcast import Hub, usage_of
from ..connection import AnswerFailed
from ..protocol import UNAVAILABLE, ErrorShape

_PATIENCE = 3_600.0
"""Seconds between two checks of a Run's status."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """An ended Run: its record, text and last event."""

    record: RunRecord
    text: str
    ending: Ending


class Outcomes:
    """Waits for Runs without slowing them down."""

    def __init__(self, gateway: Gateway, session_service: SessionService, hub: Hub) -> None:
        self._gateway = gateway
        self._session_service = session_service
        self._hub = hub

    async def of(self, principal: Principal, run_id: str) -> Outcome:
        """Wait for the Run's outcome and the end of its broadcast.

        Raises Forbidden, UnknownRun, StoreFailed.
        """
        broadcast = await self._hub.broadcast_done(run_id)
        if broadcast is not None and broadcast.ending is not None:
            text, ending = broadcast.text, broadcast.ending
        else:
            text, ending = await self._read(principal, run_id)
        return Outcome(await self._gateway.run(principal, run_id), text, ending)

    @consumes(
        TextDelta,
        StepDone,
        Resumed,
        *TERMINAL,
        ignores=(Started, ReasoningDelta, Waiting, *TOOL_EVENTS, *CONTEXT_EVENTS),
    )
    async def _read(self, principal: Principal, run_id: str) -> tuple[str, Ending]:
        text: list[str] = []
        stored = 0
        try:
            async for batch in self._gateway.watch(principal, run_id):
                for event in batch.events:
                    if isinstance(event, TextDelta):
                        text.append(event.text)
                    elif isinstance(event, StepDone):
                        stored = len(text)
                    elif isinstance(event, Resumed) and event.void:
                        del text[stored:]  # The text after the last step is void.
                if batch.ending is not None:
                    return "".join(text), batch.ending
                await take_turns(len(batch.events))
        except EventsExpired:
            return await self._from_session(principal, run_id)
        raise RunFailed("The events of the run ended before a terminal event.")

    async def _from_session(self, principal: Principal, run_id: str) -> tuple[str, Ending]:
        """The outcome of a Run whose events have expired, from its Session."""
        record = await self._gateway.run(principal, run_id)
        while not record.status.final:
            record = await self._gateway.wait(principal, run_id, _PATIENCE)
        turn = await self._session_service.turn(principal, run_id)
        if turn is None:
            if record.status is RunStatus.ABORTED:
                return "", Aborted("The run was aborted.")
            return "", Failed(RunFailed.code, "The run failed; its events have expired.")
        texts = [m.text for m in turn.messages if m.role == "assistant"]
        usage = turn.usage or Usage(0, 0, estimated=True)
        return "\n\n".join(texts), Finished(StopReason.STOP, usage, turn.model)


def agent_payload(outcome: Outcome) -> dict[str, object]:
    """The last response to `agent`. Raises AnswerFailed for a failed Run."""
    record, ending = outcome.record, outcome.ending
    match ending:
        case Finished():
            return {
                "runId": record.id,
                "status": "ok",
                "summary": "completed",
                "result": {"payloads": _payloads(outcome.text), "meta": _meta(record, ending)},
            }
        case Aborted(reason=reason):
            # Not an error: the abort was requested.
            return {
                "runId": record.id,
                "status": "aborted",
                "summary": reason or "aborted",
                "result": {
                    "payloads": _payloads(outcome.text),
                    "meta": {"durationMs": _duration(record), "aborted": True},
                },
            }
        case Failed(message=message):
            raise failed_answer(record.id, message or "The run failed.", ending)


def failed_answer(run_id: str, message: str, event: Failed) -> AnswerFailed:
    """The error response for a failed Run."""
    details: dict[str, object] = {"code": event.code}
    if event.kind is not None:
        details["kind"] = event.kind.value
    wait = None if event.retry_after is None else int(event.retry_after * 1_000)
    error = ErrorShape(code=UNAVAILABLE, message=message, details=details, retry_after_ms=wait)
    return AnswerFailed(error, {"runId": run_id, "status": "error", "summary": message})


def _payloads(text: str) -> list[dict[str, object]]:
    return [{"text": text}] if text else []


def _meta(record: RunRecord, ending: Finished) -> dict[str, object]:
    provider, _, model = ending.model.partition("/")
    return {
        "durationMs": _duration(record),
        "stopReason": ending.stop.value,
        "agentMeta": {
            "sessionKey": str(record.session_key),
            "agentId": record.agent_id,
            "provider": provider,
            "model": model,
            "usage": usage_of(ending.usage),
        },
    }


def _duration(record: RunRecord) -> int:
    """Milliseconds from acceptance to the end, from the record rather than the clock."""
    return max(0, int(((record.ended_at or record.accepted_at) - record.accepted_at) * 1_000))

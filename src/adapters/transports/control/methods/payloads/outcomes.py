"""How a Run ended, put together for who waits for its answer."""

from __future__ import annotations

from dataclasses import dataclass

from ......domain.access import Principal
from ......domain.concurrency import take_turns
from ......domain.errors import EventsExpired, RunFailed
from ......domain.models import StopReason, TextDelta, Usage
from ......domain.runs import (
    Aborted,
    Ending,
    Failed,
    Finished,
    Resumed,
    RunRecord,
    RunStatus,
    StepDone,
)
from ......domain.services import Gateway, SessionService
from ...broadcast import Hub, usage_of
from ...connection import AnswerFailed
from ...protocol import UNAVAILABLE, ErrorShape

_PATIENCE = 3_600.0
"""Seconds to wait for a Run before looking how it stands."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A Run that has ended: its record, its text, its last event."""

    record: RunRecord
    text: str
    ending: Ending


class Outcomes:
    """Waits for Runs. Who waits costs a Run nothing."""

    def __init__(self, gateway: Gateway, session_service: SessionService, hub: Hub) -> None:
        self._gateway = gateway
        self._desk = session_service
        self._hub = hub

    async def of(self, principal: Principal, run_id: str) -> Outcome:
        """The Run's outcome, once it has one, and once all who want to know were told of it.

        Raises Forbidden, UnknownRun, StoreFailed.
        """
        teller = await self._hub.told(run_id)
        if teller is not None and teller.ending is not None:
            text, ending = teller.text, teller.ending
        else:
            text, ending = await self._read(principal, run_id)
        return Outcome(await self._gateway.run(principal, run_id), text, ending)

    async def _read(self, principal: Principal, run_id: str) -> tuple[str, Ending]:
        text: list[str] = []
        stored = 0
        try:
            async for told in self._gateway.watch(principal, run_id):
                for event in told.events:
                    if isinstance(event, TextDelta):
                        text.append(event.text)
                    elif isinstance(event, StepDone):
                        stored = len(text)
                    elif isinstance(event, Resumed) and event.void:
                        del text[stored:]  # What was said after the last step is void.
                if told.ending is not None:
                    return "".join(text), told.ending
                await take_turns(len(told.events))
        except EventsExpired:
            return await self._from_session(principal, run_id)
        raise RunFailed("The events of the run ended before a terminal event.")

    async def _from_session(self, principal: Principal, run_id: str) -> tuple[str, Ending]:
        """Of a Run whose events are no longer kept: what it leaves in its Session."""
        record = await self._gateway.run(principal, run_id)
        while not record.status.final:
            record = await self._gateway.wait(principal, run_id, _PATIENCE)
        turn = await self._desk.turn(principal, run_id)
        if turn is None:
            if record.status is RunStatus.ABORTED:
                return "", Aborted("The run was aborted.")
            return "", Failed(RunFailed.code, "The run failed; what it told is no longer kept.")
        said = [m.text for m in turn.messages if m.role == "assistant"]
        usage = turn.usage or Usage(0, 0, estimated=True)
        return "\n\n".join(said), Finished(StopReason.STOP, usage, turn.model)


def agent_payload(outcome: Outcome) -> dict[str, object]:
    """The last answer to `agent`. Raises AnswerFailed for a Run that has no answer."""
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
            # No error: somebody wanted it so.
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
    """The answer that tells of a Run's failure."""
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
    """Milliseconds from acceptance to the end, the same whenever it is asked for."""
    return max(0, int(((record.ended_at or record.accepted_at) - record.accepted_at) * 1_000))

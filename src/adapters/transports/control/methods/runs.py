"""`runs.*` and `agent.wait`: the Runs of all transports."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .....domain.concurrency import take_turns
from .....domain.errors import GatewayError, InvalidRequest, UnknownRun
from .....domain.runs import Aborted, Failed, Finished, RunQuery, RunRecord, RunStatus
from .....domain.services import MAX_RUNS_LISTED, Events
from ...http.json_text import dumps
from ..broadcast import RunPayloads
from ..connection import ANSWERED, Call, Params
from ..protocol import Count, Name, SessionKeyText
from .service import ControlService, answers


class ListParams(Params):
    """The filter; `limit` is at most 500."""

    session_key: SessionKeyText | None = None
    agent_id: Name | None = None
    status: Name | None = None
    limit: Annotated[int, Field(ge=1)] = 50
    cursor: Annotated[str, Field(min_length=1, max_length=512)] | None = None


class RunParams(Params):
    """One run."""

    run_id: Name


class FollowParams(RunParams):
    """`after_seq`: the number of the client's last event; 0 for none."""

    after_seq: Count = 0


class WaitParams(RunParams):
    """`timeout_ms`: milliseconds to wait; 0 returns the present status."""

    timeout_ms: Annotated[int, Field(ge=0, le=86_400_000)] = 30_000


class RunMethods(ControlService):
    @answers("runs.list", ListParams)
    async def _list(self, call: Call, params: ListParams) -> object:
        key = None
        if params.session_key is not None:
            key = self.gateway.session_key(
                params.session_key, agent_id=params.agent_id, principal=call.principal
            )
        query = RunQuery(
            session_key=key,
            agent_id=None if params.agent_id is None else params.agent_id.lower(),
            status=_status(params.status),
            limit=min(params.limit, MAX_RUNS_LISTED),
            cursor=params.cursor,
        )
        page = await self.gateway.runs(call.principal, query)
        payload: dict[str, object] = {"runs": [run_object(record) for record in page.runs]}
        if page.next_cursor is not None:
            payload["nextCursor"] = page.next_cursor
        return payload

    @answers("runs.get", RunParams)
    async def _get(self, call: Call, params: RunParams) -> object:
        return run_object(await self.gateway.run(call.principal, params.run_id))

    @answers("runs.follow", FollowParams)
    async def _follow(self, call: Call, params: FollowParams) -> object:
        """Responds before the first event; the events are sent as `agent` events."""
        following = call.connection.following
        record = await self.gateway.run(call.principal, params.run_id)
        if params.after_seq > record.last_seq:
            raise InvalidRequest(
                f"afterSeq is {params.after_seq}, but the last event is {record.last_seq}",
                param="afterSeq",
            )
        if record.id in following:
            raise InvalidRequest(
                f"This connection already follows the run {record.id!r}.", param="runId"
            )
        following.add(record.id)
        try:
            async with self.gateway.follow(
                call.principal, record, params.after_seq, kept=True
            ) as events:
                await self._send(call, record, params.after_seq, events)
        finally:
            following.discard(record.id)
        return ANSWERED

    async def _send(
        self,
        call: Call,
        record: RunRecord,
        after: int,
        events: Events,
    ) -> None:
        """Send every event exactly once. A slow client is waited for instead of skipping events."""
        outbox, payloads = call.connection.outbox, RunPayloads(record, cumulative=False)
        # Read the first batch before responding: if it has expired, the response is the error.
        batch = await anext(events) if after < record.last_seq else None
        call.answer(run_object(record))
        try:
            batch = batch or await anext(events, None)
            while batch is not None:
                for numbered in batch:
                    await outbox.drained()
                    payload = payloads.agent_event(numbered.seq, numbered.event, self.clock())
                    outbox.event("agent", payload)
                await take_turns(len(batch.events))
                batch = await anext(events, None)
        except GatewayError as error:
            outbox.event("agent", _follow_error(record, error))
        else:
            self.hub.skip_rest(call.connection, record.id)

    @answers("runs.abort", RunParams)
    async def _abort(self, call: Call, params: RunParams) -> object:
        record = await self.gateway.run(call.principal, params.run_id)
        aborted = await self.gateway.abort(
            call.principal, record.id, f"Aborted by {call.principal.id}."
        )
        return {"ok": True, "aborted": aborted, "runIds": [record.id] if aborted else []}

    @answers("agent.wait", WaitParams)
    async def _wait(self, call: Call, params: WaitParams) -> object:
        try:
            record = await self.gateway.wait(
                call.principal, params.run_id, params.timeout_ms / 1_000
            )
        except UnknownRun as error:
            return {"runId": params.run_id, "status": "timeout", "error": error.message}
        payload: dict[str, object] = {"runId": record.id}
        if record.started_at is not None:
            payload["startedAt"] = _ms(record.started_at)
        if not record.status.final:
            queued = record.status is RunStatus.QUEUED
            phase = {"status": "pending", "timeoutPhase": "queue"} if queued else {}
            return {**payload, "status": "timeout", **phase}
        payload["endedAt"] = _ms(record.ended_at)
        if record.status is RunStatus.FINISHED:
            return {**payload, "status": "ok"}
        ending = (await self.outcomes.of(call.principal, record.id)).ending
        match ending:
            case Aborted(reason=reason):
                return {**payload, "status": "error", "error": reason, "stopReason": "aborted"}
            case Failed(message=message):
                return {**payload, "status": "error", "error": message}
            case Finished():
                return {**payload, "status": "ok"}


def run_object(record: RunRecord) -> dict[str, object]:
    """A Run as a row of a list; times in milliseconds."""
    row = {
        "runId": record.id,
        "sessionKey": str(record.session_key),
        "agentId": record.agent_id,
        "status": record.status.value,
        "acceptedAt": _ms(record.accepted_at),
        "startedAt": _ms(record.started_at),
        "endedAt": _ms(record.ended_at),
        "lastSeq": record.last_seq,
    }
    return {name: value for name, value in row.items() if value is not None}


def _follow_error(record: RunRecord, error: GatewayError) -> bytes:
    """The `agent` event that ends a `runs.follow` which cannot continue."""
    return dumps(
        {
            "runId": record.id,
            "stream": "error",
            "data": {"reason": error.message, "code": error.code},
            "sessionKey": str(record.session_key),
            "agentId": record.agent_id,
        }
    )


def _status(text: str | None) -> RunStatus | None:
    if text is None:
        return None
    try:
        return RunStatus(text)
    except ValueError:
        allowed = ", ".join(status.value for status in RunStatus)
        raise InvalidRequest(f"status must be one of {allowed}", param="status") from None


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1_000)

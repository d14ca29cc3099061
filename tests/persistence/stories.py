"""Run logs in which a test has events happen, whatever keeps them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from opensoul.adapters.persistence.common.live_logs import BOUNDS, Bounds
from opensoul.domain.chat_commands import ChatCommand, CommandName
from opensoul.domain.ports import Clock, RunEvents
from opensoul.domain.runs.events import Aborted, EventBatch, Failed, Finished, RunEvent
from opensoul.domain.runs.records import RunPage, RunQuery, RunRecord
from opensoul.domain.runs.spec import RunSpec

from .postgres_runs import Node, node
from .run_logs import LOGS, LocalRunEvents, record

STORIES = (*LOGS, "postgres")


class Story:
    """RunEvents, and the events that happen in Runs that go on by themselves."""

    def __init__(self, events: RunEvents) -> None:
        self.events = events

    async def open(self, record: RunRecord) -> None:
        """A Run begins."""
        raise NotImplementedError

    async def put(self, run_id: str, *events: RunEvent) -> int:
        """Add events, and return the number of the last one."""
        raise NotImplementedError

    async def happen(self, run_id: str, *events: RunEvent) -> None:
        """Have these events happen, one after another, in a new Run."""
        await self.open(record(run_id))
        for event in events:
            await self.put(run_id, event)

    def follow(self, run_id: str, after: int = 0) -> AsyncIterator[EventBatch]:
        return self.events.follow(run_id, after)

    def follow_kept(self, run_id: str, after: int = 0) -> AsyncIterator[EventBatch]:
        return self.events.follow_kept(run_id, after)

    async def find(self, run_id: str) -> RunRecord | None:
        return await self.events.find(run_id)

    async def which_go_on(self, run_ids: Collection[str]) -> frozenset[str]:
        return await self.events.which_go_on(run_ids)

    async def cursor(self, run_id: str) -> str | None:
        return await self.events.cursor(run_id)

    async def list(self, query: RunQuery) -> RunPage:
        return await self.events.list(query)


class LocalStory(Story):
    def __init__(self, log: LocalRunEvents) -> None:
        super().__init__(log)
        self._log = log

    async def open(self, record: RunRecord) -> None:
        self._log.open(record)

    async def put(self, run_id: str, *events: RunEvent) -> int:
        return self._log.put(run_id, *events)


class PostgresStory(Story):
    def __init__(self, node: Node) -> None:
        super().__init__(node.events)
        self._node = node

    async def open(self, record: RunRecord) -> None:
        """As a command, so that Runs of one session go on beside one another."""
        spec = RunSpec(
            id=record.id,
            agent_id=record.agent_id,
            session_key=record.session_key,
            principal_id=record.principal_id,
            messages=(),
            on_leave=record.on_leave,
            accepted_at=record.accepted_at,
            source=record.source,
            command=ChatCommand(CommandName.STATUS),
        )
        await self._node.queue.enqueue(spec, fingerprint=record.fingerprint)

    async def put(self, run_id: str, *events: RunEvent) -> int:
        claim = next(one for one in self._node.hands.claims if one.spec.id == run_id)
        *others, last = events
        if not isinstance(last, Finished | Failed | Aborted):
            return await self._node.events.append(claim, events)
        if others:
            await self._node.events.append(claim, others)
        await self._node.queue.finish(claim, last)
        found = await self.find(run_id)
        assert found is not None
        return found.last_seq


@asynccontextmanager
async def story(
    kind: str,
    request: pytest.FixtureRequest,
    directory: Path,
    clock: Clock,
    bounds: Bounds = BOUNDS,
) -> AsyncIterator[Story]:
    if kind == "postgres":
        url = request.getfixturevalue("postgres_url")
        async with node(url, clock=clock, bounds=bounds) as one:
            yield PostgresStory(one)
        return
    log = LOGS[kind](directory, clock, bounds)
    await log.start()
    try:
        yield LocalStory(log)
    finally:
        await log.close()
        await log.close()

"""The events of a session's runs reach a client in the order of the runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

from opensoul.adapters.transports.control.broadcast.broadcaster import RunBroadcaster, Source
from opensoul.domain.models.calls import StopReason, TextDelta, Usage
from opensoul.domain.runs.events import EventBatch, Finished
from opensoul.domain.runs.records import RunRecord
from opensoul.domain.services.gateway import Events
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.sessions.records import KeptMessage

from .methods import connection, events

ENDED = (TextDelta("x"), Finished(StopReason.STOP, Usage(1, 1), "fake/model"))


async def _events(after: int) -> AsyncIterator[EventBatch]:
    yield EventBatch(1, ENDED)


async def test_a_run_is_not_delivered_while_the_one_before_it_looks_up_its_answer() -> None:
    client = connection("operator")
    order, found, asked = asyncio.Lock(), asyncio.Event(), asyncio.Event()

    async def answer(*, slow: bool) -> KeptMessage | None:
        if slow:
            asked.set()
            await found.wait()
        return None

    def teller(run_id: str, *, slow: bool) -> RunBroadcaster:
        record = RunRecord(run_id, SessionKey("main", "talk"), "main", "somebody", "chat")

        async def now() -> RunRecord:
            return record

        read: partial[Events] = partial(_events)
        source = Source(record, read, now, partial(answer, slow=slow), order)
        return RunBroadcaster(source, lambda: [client], lambda: 0.0)

    first = asyncio.create_task(teller("first", slow=True).run())
    await asked.wait()
    second = asyncio.create_task(teller("second", slow=False).run())
    await asyncio.sleep(0)
    found.set()
    await asyncio.gather(first, second)

    runs = [event["payload"]["runId"] for event in await events(client)]
    assert runs == sorted(runs, key=["first", "second"].index)
    assert set(runs) == {"first", "second"}

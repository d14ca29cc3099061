"""Texts that wait for the next heartbeat: none is lost in silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from opensoul.adapters.transports.control.methods.chat.heartbeats import Heartbeats
from opensoul.domain.errors import GatewayBusy, SendBlocked, SessionBusy, StoreFailed, Unavailable
from opensoul.domain.runs.records import RunRecord
from opensoul.domain.runs.spec import RunSpec
from opensoul.domain.sessions.policy import SendPolicy, SessionSettings
from opensoul.domain.settings import LaneSettings
from tests.fakes.domain import FakeRunEvents, Gate, answered
from tests.websocket.methods import OPERATOR, Bench


class GatedLog(FakeRunEvents):
    """Waits before it reserves, where it has a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate: Gate | None = None

    async def reserve(self, record: RunRecord, spec: RunSpec | None = None) -> RunRecord | None:
        if self.gate is not None:
            await self.gate.pass_through()
        return await super().reserve(record, spec)


class Bell:
    """A bench with heartbeats, and what its agent was asked."""

    def __init__(self) -> None:
        self.log = GatedLog()
        self.bench = Bench(log=self.log)
        self.heartbeats = Heartbeats(self.bench.dependencies, self.bench.hub)

    async def wake(self, text: str) -> None:
        await self.log.end_of(await self.heartbeats.wake(OPERATOR, text))

    @property
    def asked(self) -> list[list[str]]:
        return [run.messages[-1].text.split("\n") for run, _ in self.bench.runner.seen]


@pytest_asyncio.fixture
async def bell() -> AsyncIterator[Bell]:
    bell = Bell()
    await bell.bench.store.open()
    yield bell
    await bell.bench.store.close()


async def test_texts_wait_for_the_next_heartbeat_and_are_told_once(bell: Bell) -> None:
    await bell.heartbeats.note("one")
    await bell.heartbeats.note("two")

    await bell.wake("look")
    await bell.wake("again")

    assert bell.asked == [["System: one", "System: two", "System: look"], ["System: again"]]


async def switched_off(bell: Bell) -> type[Exception]:
    await bell.heartbeats.turn(False)
    return Unavailable


async def blocked(bell: Bell) -> type[Exception]:
    sessions = SessionSettings(send_policy=SendPolicy(default_allow=False))
    bell.bench.settings = replace(bell.bench.settings, sessions=sessions)
    return SendBlocked


async def unreserved(bell: Bell) -> type[Exception]:
    bell.log.reserve_failure = StoreFailed("the disk is full")
    return StoreFailed


@pytest.mark.parametrize("refuse", [switched_off, blocked, unreserved])
async def test_texts_wait_on_where_the_run_is_refused(
    bell: Bell, refuse: Callable[[Bell], Awaitable[type[Exception]]]
) -> None:
    before = bell.bench.settings
    await bell.heartbeats.note("one")
    with pytest.raises(await refuse(bell)):
        await bell.heartbeats.wake(OPERATOR, "look")
    await bell.heartbeats.note("two")
    bell.bench.settings = before
    await bell.heartbeats.turn(True)
    bell.log.reserve_failure = None

    await bell.wake("look again")

    assert bell.asked == [["System: one", "System: two", "System: look again"]]


async def test_texts_wait_on_where_the_session_is_busy(bell: Bell) -> None:
    bell.bench.settings = replace(bell.bench.settings, lanes=LaneSettings(max_waiting=0))
    busy: dict[str, Any] = {"message": "hi", "idempotencyKey": "busy", "sessionKey": "main"}
    bell.bench.runner.script("busy", gate := Gate(), answered())
    await bell.bench.ask("chat.send", **busy)
    await bell.heartbeats.note("one")
    with pytest.raises(SessionBusy):
        await bell.heartbeats.wake(OPERATOR, "look")
    gate.opened.set()
    await bell.log.end_of("busy")

    await bell.wake("look again")

    assert bell.asked[-1] == ["System: one", "System: look again"]


async def test_a_client_that_leaves_does_not_take_texts_with_it(bell: Bell) -> None:
    await bell.heartbeats.note("one")
    bell.log.gate = gate = Gate()
    before = asyncio.all_tasks()
    waking = asyncio.create_task(bell.heartbeats.wake(OPERATOR, "look"))
    await gate.reached.wait()
    begun = asyncio.all_tasks() - before
    await bell.heartbeats.note("two")
    waking.cancel()
    await asyncio.gather(waking, return_exceptions=True)
    bell.log.reserve_failure = StoreFailed("the disk is full")
    gate.opened.set()
    await asyncio.gather(*begun, return_exceptions=True)
    bell.log.reserve_failure = bell.log.gate = None

    await bell.wake("look again")

    assert bell.asked == [["System: one", "System: two", "System: look again"]]


async def test_one_text_too_many_is_refused_and_the_others_stay(bell: Bell) -> None:
    for number in range(20):
        await bell.heartbeats.note(str(number))

    with pytest.raises(GatewayBusy, match="20 texts wait"):
        await bell.heartbeats.note("one too many")

    await bell.wake("look")
    assert bell.asked == [[*(f"System: {number}" for number in range(20)), "System: look"]]

"""Looking after Sessions: scopes, conflicts, and what goes on in them meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from opensoul.adapters.persistence.memory.store import MemoryStore
from opensoul.domain.access import Principal, Scope
from opensoul.domain.errors import Forbidden, InvalidRequest, UnknownSession
from opensoul.domain.execution import Compactor, ModelRouter
from opensoul.domain.messages import Role
from opensoul.domain.models import Cooldowns
from opensoul.domain.ports import Turn
from opensoul.domain.services.sessions import SessionService
from opensoul.domain.sessions.changes import Expected
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.sessions.records import SessionQuery, UsageQuery
from tests.fakes.domain import (
    FakeClock,
    FakeIds,
    FakeQueue,
    agent,
    assistant,
    run,
    settings,
    user,
)

MAIN = SessionKey("main", "main")
TRIP = SessionKey("main", "trip")


def who(*scopes: Scope) -> Principal:
    return Principal("somebody", frozenset(scopes), "token")


ADMIN = who(Scope.ADMIN)


@dataclass
class Office:
    store: MemoryStore = field(default_factory=MemoryStore)
    queue: FakeQueue = field(default_factory=FakeQueue)
    clock: FakeClock = field(default_factory=FakeClock)
    told: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        whole = settings([agent("main"), agent("beta")])
        self.session_service = SessionService(
            settings=lambda: whole,
            store=self.store,
            catalog=self.store,
            queue=self.queue,
            compactor=Compactor(
                ModelRouter(clients={}, cooldowns=Cooldowns(self.clock)), clock=self.clock
            ),
            clock=self.clock,
            new_id=FakeIds(),
        )
        self.session_service.on_change(lambda key, what, _: self.told.append((key.rest, what)))

    async def talk(self, key: SessionKey, run_id: str) -> None:
        messages = (user("hi"), assistant("hello"))
        await self.store.append(Turn(key, f"id of {key.rest}", run_id, self.clock(), messages))


@pytest_asyncio.fixture
async def office() -> AsyncIterator[Office]:
    office = Office()
    await office.store.open()
    yield office
    await office.store.close()


async def test_reading_needs_read_and_changing_needs_admin(office: Office) -> None:
    nobody, reader = who(), who(Scope.READ)
    for refused in (
        office.session_service.list(nobody, SessionQuery()),
        office.session_service.find(nobody, MAIN),
        office.session_service.messages(nobody, MAIN, limit=1),
        office.session_service.transcripts(nobody, MAIN, 1),
        office.session_service.with_id(nobody, "x"),
        office.session_service.turn(nobody, "x"),
        office.session_service.usage(nobody, UsageQuery((0.0, 1.0))),
        office.session_service.patch(reader, MAIN, {"label": "x"}),
        office.session_service.patch(who(Scope.WRITE), MAIN, {"execHost": "node"}),
        office.session_service.reset(who(Scope.WRITE), MAIN),
        office.session_service.delete(who(Scope.WRITE), TRIP),
        office.session_service.compact(who(Scope.WRITE), TRIP, 1),
        office.session_service.inject(who(Scope.WRITE), TRIP, "x"),
    ):
        with pytest.raises(Forbidden, match="missing scope"):
            await refused
    assert office.told == []


async def test_harmless_settings_need_write_alone(office: Office) -> None:
    info = await office.session_service.patch(
        who(Scope.WRITE), TRIP, {"label": "Trip", "pinned": True}
    )

    assert dict(info.settings) == {"label": "Trip", "pinned": True}
    assert office.told == [("trip", "patched")]


async def test_a_label_belongs_to_one_session(office: Office) -> None:
    await office.session_service.patch(ADMIN, TRIP, {"label": "Trip"})
    await office.session_service.patch(ADMIN, TRIP, {"label": "Trip", "pinned": True})

    with pytest.raises(InvalidRequest, match="label already in use: Trip"):
        await office.session_service.patch(ADMIN, MAIN, {"label": "Trip"})


async def test_of_two_who_want_one_label_one_gets_it(office: Office) -> None:
    wanting = [office.session_service.patch(ADMIN, key, {"label": "Trip"}) for key in (TRIP, MAIN)]

    outcomes = await asyncio.gather(*wanting, return_exceptions=True)

    assert sum(isinstance(outcome, InvalidRequest) for outcome in outcomes) == 1


async def test_a_childs_parent_stays_who_it_was(office: Office) -> None:
    child = SessionKey("main", "subagent:one")
    await office.session_service.patch(ADMIN, child, {"spawnedBy": "agent:main:main"})
    await office.session_service.patch(ADMIN, child, {"spawnedBy": "agent:main:main"})

    for asked, verb in (("agent:main:other", "changed"), (None, "cleared")):
        with pytest.raises(InvalidRequest, match=f"spawnedBy cannot be {verb}"):
            await office.session_service.patch(ADMIN, child, {"spawnedBy": asked})


async def test_a_session_of_no_agent_is_not_begun(office: Office) -> None:
    with pytest.raises(InvalidRequest, match="No agent 'nobody'"):
        await office.session_service.patch(ADMIN, SessionKey("nobody", "x"), {"label": "x"})
    with pytest.raises(InvalidRequest, match="No agent 'nobody'"):
        await office.session_service.reset(ADMIN, SessionKey("nobody", "x"))


async def test_resetting_stops_what_goes_on_and_keeps_the_settings(office: Office) -> None:
    await office.talk(TRIP, "run-1")
    await office.session_service.patch(ADMIN, TRIP, {"label": "Trip"})
    await office.queue.enqueue(run("first", session_key=TRIP))
    await office.queue.enqueue(run("second", session_key=TRIP))
    await office.queue.enqueue(run("other", session_key=MAIN))

    info = await office.session_service.reset(ADMIN, TRIP)

    assert [run_id for run_id, _ in office.queue.aborted] == ["second", "first"]
    assert info.session_id != "id of trip"
    assert info.settings["label"] == "Trip"
    assert await office.session_service.messages(ADMIN, TRIP, limit=9) == ()
    older = await office.session_service.transcripts(ADMIN, TRIP, 9)
    assert [t.session_id for t in older][-1] == "id of trip"


async def test_a_main_session_cannot_be_deleted_and_others_can(office: Office) -> None:
    await office.talk(TRIP, "run-1")
    with pytest.raises(InvalidRequest, match="Cannot delete the main session"):
        await office.session_service.delete(ADMIN, MAIN)

    assert await office.session_service.delete(ADMIN, TRIP) is True
    assert await office.session_service.delete(ADMIN, TRIP) is False
    assert office.told == [("trip", "deleted")]


async def test_compacting_keeps_the_newest_messages(office: Office) -> None:
    await office.talk(TRIP, "run-1")
    await office.talk(TRIP, "run-2")

    compacted = await office.session_service.compact(ADMIN, TRIP, 2)
    again = await office.session_service.compact(ADMIN, TRIP, 2)

    assert (compacted.info.message_count, compacted.kept, compacted.changed) == (2, 2, True)
    assert (again.info.session_id, again.changed) == (compacted.info.session_id, False)
    with pytest.raises(UnknownSession, match="session not found"):
        await office.session_service.compact(ADMIN, MAIN, 2)


@pytest.mark.parametrize("change", ["patch", "reset", "delete", "compact"])
async def test_a_session_that_is_not_as_expected_is_left_alone(office: Office, change: str) -> None:
    await office.talk(TRIP, "run-1")
    await office.queue.enqueue(run("going on", session_key=TRIP))
    more: tuple[Any, ...] = {"patch": ({"label": "x"},), "compact": (1,)}.get(change, ())

    with pytest.raises(InvalidRequest, match="is not at another id any more"):
        await getattr(office.session_service, change)(
            ADMIN, TRIP, *more, expected=Expected("another id")
        )

    assert (office.told, office.queue.aborted) == ([], [])


async def test_what_is_injected_is_the_assistants_last_word(office: Office) -> None:
    await office.talk(TRIP, "run-1")

    info, message_id = await office.session_service.inject(ADMIN, TRIP, "By the way.")

    *_, last = await office.session_service.messages(ADMIN, TRIP, limit=9)
    assert (last.message.role, last.message.text) == (Role.ASSISTANT, "By the way.")
    assert last.run_id == message_id
    assert info.key == TRIP
    with pytest.raises(UnknownSession):
        await office.session_service.inject(ADMIN, MAIN, "x")


async def test_who_no_longer_wants_to_know_is_not_told(office: Office) -> None:
    told: list[str] = []
    stop = office.session_service.on_change(lambda _, what, message_id: told.append(what))
    await office.session_service.patch(ADMIN, TRIP, {"label": "a"})
    stop()
    await office.session_service.patch(ADMIN, TRIP, {"label": "b"})

    assert told == ["patched"]

"""The one source: what it refuses, what it accepts, and what leaving means."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from opensoul.adapters.persistence.common.no_catalog import NoCatalog
from opensoul.adapters.persistence.memory import MemoryLimits
from opensoul.domain.access import ALL_SCOPES, Credential, Grant, Principal, Scope
from opensoul.domain.access.addresses import ClientAddress
from opensoul.domain.errors import (
    Forbidden,
    InvalidRequest,
    SessionBusy,
    Unauthenticated,
    UnknownAgent,
    UnknownRun,
)
from opensoul.domain.execution.generations import Generations
from opensoul.domain.messages import Message, Role, text_message
from opensoul.domain.models.calls import StopReason, TextDelta, Usage
from opensoul.domain.runs.events import Finished, NumberedEvent
from opensoul.domain.runs.records import record_of
from opensoul.domain.runs.spec import OnLeave, RunRequest, RunSpec
from opensoul.domain.services.access import Access
from opensoul.domain.services.gateway import Gateway
from opensoul.domain.sessions.keys import SessionKey
from tests.domain.rig import Rig
from tests.fakes.domain import (
    FakeClock,
    FakeIds,
    FakeQueue,
    FakeRunEvents,
    agent,
    assistant,
    run,
    settings,
    system,
    user,
)

OPERATOR = Principal("operator", ALL_SCOPES, "token")
READER = Principal("reader", frozenset({Scope.READ}), "token")
NOBODY = Principal("nobody", frozenset(), "token")
END = Finished(StopReason.STOP, Usage(5, 2), "acme/one")


class Door:
    """A Gateway with fakes behind it."""

    def __init__(self) -> None:
        self.settings = settings()
        self.log = FakeRunEvents()
        self.queue = FakeQueue(self.log)
        self.gateway = Gateway(
            catalog=NoCatalog(),
            settings=lambda: self.settings,
            generations=Generations(lambda: self.settings),
            access=Access(settings=lambda: self.settings, limits=MemoryLimits(FakeClock())),
            queue=self.queue,
            signals=self.queue,
            executor=self.queue,
            run_events=self.log,
            clock=FakeClock(),
            new_id=FakeIds(),
        )

    def running(self, **changes: Any) -> RunSpec:
        """A Run that was accepted and has said a word."""
        accepted = run(**changes)
        self.queue.runs.append(accepted)
        self.log.open(record_of(accepted))
        self.log.put(accepted.id, TextDelta("h"))
        return accepted


@pytest.fixture
def source() -> Door:
    return Door()


def ask(*messages: Message, **changes: Any) -> RunRequest:
    return RunRequest(messages or (user("hello"),), **changes)


# Coming in


async def test_the_secret_in_force_decides_who_is_let_in(source: Door) -> None:
    credential = Credential(ClientAddress("203.0.113.7"), b"secret")

    assert (await source.gateway.authenticate(credential)).id == "operator"
    with pytest.raises(Unauthenticated):
        await source.gateway.authenticate(Credential(ClientAddress("203.0.113.7"), b"guess"))


async def test_changed_settings_hold_for_the_next_request(source: Door) -> None:
    source.settings = settings([agent("main"), agent("gamma")])

    assert source.gateway.settings is source.settings
    assert [found.id for found in source.gateway.agents(READER)] == ["main", "gamma"]
    assert (await source.gateway.submit(OPERATOR, ask(model="gamma"))).agent_id == "gamma"


async def test_every_door_checks_its_scope(source: Door) -> None:
    with pytest.raises(Forbidden, match=r"operator\.read"):
        source.gateway.agents(NOBODY)
    for principal in (NOBODY, READER):
        with pytest.raises(Forbidden, match=r"operator\.write"):
            await source.gateway.submit(principal, ask())
        with pytest.raises(Forbidden, match=r"operator\.write"):
            await source.gateway.abort(principal, "run-1", "stop")
    with pytest.raises(Forbidden, match=r"operator\.read"):
        async with source.gateway.follow(NOBODY, source.running()):
            pytest.fail("nobody may follow")
    assert source.queue.aborted == []


# Accepting


async def test_an_accepted_run_holds_all_that_its_execution_needs(source: Door) -> None:
    request = ask(
        system("Be brief."),
        user("hello"),
        model="opensoul:beta",
        session_key="talk",
        params={"temperature": 0.5},
        on_leave=OnLeave.CONTINUE,
    )

    accepted = await source.gateway.submit(OPERATOR, request)

    assert source.queue.runs == [accepted]
    assert accepted == RunSpec(
        id="id-1",
        agent_id="beta",
        session_key=SessionKey("beta", "talk"),
        principal_id="operator",
        messages=(user("hello"),),
        instructions=(system("Be brief."),),
        params={"temperature": 0.5},
        on_leave=OnLeave.CONTINUE,
        accepted_at=1_000.0,
        scopes=OPERATOR.scopes,
    )


async def test_without_key_or_user_the_session_is_the_runs_own(source: Door) -> None:
    accepted = await source.gateway.submit(OPERATOR, ask(source="ping"))

    assert str(accepted.session_key) == f"agent:main:ping:{accepted.id}"
    assert accepted.one_off
    assert (await source.gateway.submit(OPERATOR, ask())).session_key != accepted.session_key


async def test_a_user_keeps_a_session(source: Door) -> None:
    first = await source.gateway.submit(OPERATOR, ask(user="Anna"))
    second = await source.gateway.submit(OPERATOR, ask(user="Anna"))

    assert str(first.session_key) == "agent:main:openai-user:Anna"
    assert first.session_key == second.session_key
    assert first.id != second.id


@pytest.mark.parametrize(
    "messages", [(system("Be brief."),), (assistant("hi"),), (system("x"), assistant("hi"))]
)
async def test_a_conversation_without_a_question_is_refused(
    source: Door, messages: tuple[Message, ...]
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await source.gateway.submit(OPERATOR, RunRequest(messages))

    assert refused.value.message == "Missing user message in `messages`."
    assert refused.value.param == "messages"
    assert source.queue.runs == []


async def test_an_empty_conversation_is_refused(source: Door) -> None:
    with pytest.raises(InvalidRequest, match="Missing user message"):
        await source.gateway.submit(OPERATOR, RunRequest(()))


async def test_a_tools_result_is_a_question(source: Door) -> None:
    result = text_message(Role.TOOL, "42")

    assert (await source.gateway.submit(OPERATOR, ask(result))).messages == (result,)


async def test_an_unknown_agent_is_refused_before_anything_happens(source: Door) -> None:
    with pytest.raises(UnknownAgent):
        await source.gateway.submit(OPERATOR, ask(model="gpt-4"))
    assert source.queue.runs == []


async def test_what_the_queue_refuses_is_refused(source: Door) -> None:
    source.queue.refusal = SessionBusy("busy", retry_after=5)

    with pytest.raises(SessionBusy):
        await source.gateway.submit(OPERATOR, ask())


# Following and leaving


async def test_a_follower_gets_every_event_from_where_it_asks(source: Door) -> None:
    accepted = source.running()
    source.log.put(accepted.id, END)

    async with source.gateway.follow(READER, accepted) as events:
        assert [numbered async for told in events for numbered in told] == [
            NumberedEvent(1, TextDelta("h")),
            NumberedEvent(2, END),
        ]
    async with source.gateway.follow(READER, accepted, after=1) as events:
        assert [numbered async for told in events for numbered in told] == [NumberedEvent(2, END)]
    assert source.queue.aborted == []


async def test_leaving_before_the_end_stops_the_run(source: Door) -> None:
    accepted = source.running()

    async with source.gateway.follow(OPERATOR, accepted) as events:
        await anext(events)
        assert source.queue.aborted == []
    assert source.queue.aborted == [(accepted.id, "The client left.")]


async def test_leaving_before_the_first_event_stops_the_run(source: Door) -> None:
    accepted = source.running()

    async with source.gateway.follow(OPERATOR, accepted):
        pass
    assert len(source.queue.aborted) == 1


async def test_a_follower_that_is_cancelled_has_left(source: Door) -> None:
    accepted = source.running()
    waiting = asyncio.Event()

    async def follow() -> None:
        async with source.gateway.follow(OPERATOR, accepted) as events:
            async for _ in events:
                waiting.set()

    following = asyncio.create_task(follow())
    await waiting.wait()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)

    assert source.queue.aborted == [(accepted.id, "The client left.")]


async def test_only_the_last_follower_to_leave_stops_the_run(source: Door) -> None:
    accepted = source.running()

    async with source.gateway.follow(READER, accepted) as other:
        async with source.gateway.follow(OPERATOR, accepted) as events:
            await anext(events)
        assert source.queue.aborted == []
        await anext(other)
    assert len(source.queue.aborted) == 1


async def test_a_follower_who_comes_back_counts_anew(source: Door) -> None:
    accepted = source.running(on_leave=OnLeave.ABORT)
    for expected in (1, 2):
        async with source.gateway.follow(OPERATOR, accepted) as events:
            await anext(events)
        assert len(source.queue.aborted) == expected


async def test_followers_of_another_run_do_not_keep_this_one(source: Door) -> None:
    accepted, other = source.running(), source.running(run_id="run-2")

    async with source.gateway.follow(OPERATOR, other):
        async with source.gateway.follow(OPERATOR, accepted):
            pass
        assert [run_id for run_id, _ in source.queue.aborted] == [accepted.id]


async def test_leaving_a_run_that_is_to_go_on_does_not_stop_it(source: Door) -> None:
    accepted = source.running(on_leave=OnLeave.CONTINUE)

    async with source.gateway.follow(OPERATOR, accepted) as events:
        await anext(events)
    assert source.queue.aborted == []


async def test_leaving_after_the_end_stops_nothing(source: Door) -> None:
    accepted = source.running()
    source.log.put(accepted.id, END)

    async with source.gateway.follow(OPERATOR, accepted) as events:
        async for told in events:
            if told.ending == END:
                break
    assert source.queue.aborted == []


async def test_whoever_follows_an_unknown_run_is_told(source: Door) -> None:
    async with source.gateway.follow(OPERATOR, run("forgotten")) as events:
        with pytest.raises(UnknownRun):
            await anext(events)


async def test_a_run_is_stopped_on_request(source: Door) -> None:
    accepted = source.running()

    assert await source.gateway.abort(OPERATOR, accepted.id, "enough")
    assert not await source.gateway.abort(OPERATOR, "forgotten", "enough")
    assert source.queue.aborted == [(accepted.id, "enough"), ("forgotten", "enough")]


async def test_draining_is_the_executors(source: Door) -> None:
    await source.gateway.drain(20.0)

    assert source.queue.drained == [20.0]


async def test_a_question_is_answered_from_door_to_store() -> None:
    rig = Rig()
    gateway = Gateway(
        catalog=NoCatalog(),
        settings=lambda: rig.settings,
        generations=Generations(lambda: rig.settings),
        access=Access(settings=lambda: rig.settings, limits=MemoryLimits(rig.clock)),
        queue=rig.queue,
        signals=rig.queue,
        executor=rig.executor,
        run_events=rig.log,
        clock=rig.clock,
        new_id=rig.new_id,
    )

    accepted = await gateway.submit(OPERATOR, ask(session_key="talk"))
    async with gateway.follow(OPERATOR, accepted) as events:
        told = [event async for span in events for event in span.events]

    assert told[-1] == END
    assert [turn.messages for turn in rig.store.turns] == [(user("hello"), assistant("hi"))]


class _Revocable:
    """An Authenticator whose one grant stands until it is told otherwise."""

    def __init__(self) -> None:
        self.standing = True

    async def authenticate(self, credential: Credential) -> Grant | None:
        return Grant("g", "somebody", ALL_SCOPES)

    def stands(self, grant: Grant) -> bool:
        return self.standing


async def _revocable(source: Door) -> tuple[_Revocable, Principal]:
    """The authenticator is a plugin of the Gateway's access; a Principal by its grant."""
    authenticator = _Revocable()
    source.gateway.access = Access(
        settings=lambda: source.settings,
        limits=MemoryLimits(FakeClock()),
        plugins={"test": authenticator},
    )
    credential = Credential(ClientAddress("203.0.113.7"))
    return authenticator, await source.gateway.authenticate(credential)


async def _follow(source: Door, principal: Principal, run: RunSpec, waits: asyncio.Event) -> None:
    """Follow the Run beyond its first events."""
    async with source.gateway.follow(principal, run) as events:
        await anext(events)
        waits.set()
        with pytest.raises(Unauthenticated, match="no longer valid: gateway auth changed"):
            await anext(events)
        with pytest.raises(Unauthenticated, match="no longer valid"):
            await anext(events)


async def test_following_ends_with_the_grant_and_aborts_the_run(source: Door) -> None:
    authenticator, principal = await _revocable(source)
    accepted, waits = source.running(), asyncio.Event()
    following = asyncio.create_task(_follow(source, principal, accepted, waits))
    await waits.wait()
    await asyncio.sleep(0)
    authenticator.standing = False
    source.gateway.access.check()
    await following
    assert source.queue.aborted == [(accepted.id, "The client left.")]


async def test_a_cancelled_follower_stays_cancelled_when_its_grant_ends_too(source: Door) -> None:
    authenticator, principal = await _revocable(source)
    accepted, waits = source.running(), asyncio.Event()
    following = asyncio.create_task(_follow(source, principal, accepted, waits))
    await waits.wait()
    await asyncio.sleep(0)
    authenticator.standing = False
    source.gateway.access.check()
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following


async def test_a_grant_that_has_ended_already_follows_nothing(source: Door) -> None:
    authenticator, principal = await _revocable(source)
    accepted = source.running()
    authenticator.standing = False
    async with source.gateway.follow(principal, accepted) as events:
        with pytest.raises(Unauthenticated):
            await anext(events)

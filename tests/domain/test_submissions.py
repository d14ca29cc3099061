"""Runs under an id that the client chose: reserved first, begun once, seen and stopped by id."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pytest

from opensoul.adapters.persistence.common.no_catalog import NoCatalog
from opensoul.adapters.persistence.memory import MemoryLimits
from opensoul.domain.access import Principal, Scope
from opensoul.domain.errors import (
    Forbidden,
    InvalidRequest,
    KeyReused,
    SendBlocked,
    SessionBusy,
    SessionKeyInvalid,
    UnknownRun,
)
from opensoul.domain.execution.generations import Generations
from opensoul.domain.messages import Image, Message, Role, Text
from opensoul.domain.models import ModelDirectory
from opensoul.domain.runs.events import Aborted, Failed, Started
from opensoul.domain.runs.records import RunQuery, RunRecord, RunStatus, record_of, status_after
from opensoul.domain.runs.spec import After, OnLeave, RunRequest, RunSpec
from opensoul.domain.services.access import Access
from opensoul.domain.services.gateway import Gateway
from opensoul.domain.sessions import Conversation
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.sessions.policy import SendPolicy, SessionSettings
from opensoul.domain.sessions.records import SessionInfo
from opensoul.domain.settings import Settings
from opensoul.domain.tools import ChoiceMode, ClientTools, ToolChoice, ToolSpec
from tests.fakes.domain import (
    FakeClock,
    FakeIds,
    FakeQueue,
    FakeRunEvents,
    assistant,
    run,
    settings,
    system,
    target,
    user,
)

WRITER = Principal("writer", frozenset({Scope.WRITE}), "token")
HELLO = RunRequest(messages=(user("hi"),), session_key="trip")


class Catalog(NoCatalog):
    """Knows what was set for sessions."""

    def __init__(self, chosen: Mapping[str, str]) -> None:
        self._chosen = chosen

    async def find(self, key: SessionKey) -> SessionInfo | None:
        return SessionInfo(key, "id", 0.0, 0.0, settings=dict(self._chosen))


@dataclass
class Door:
    settings: Settings = field(
        default_factory=lambda: settings(models=ModelDirectory([target("fake/m")]))
    )
    chosen: Mapping[str, str] = field(default_factory=dict)
    log: FakeRunEvents = field(default_factory=FakeRunEvents)

    def __post_init__(self) -> None:
        self.queue = FakeQueue(self.log)
        clock = FakeClock()
        self.gateway = Gateway(
            settings=lambda: self.settings,
            generations=Generations(lambda: self.settings),
            access=Access(settings=lambda: self.settings, limits=MemoryLimits(clock)),
            queue=self.queue,
            signals=self.queue,
            executor=self.queue,
            run_events=self.log,
            catalog=Catalog(self.chosen),
            clock=clock,
            new_id=FakeIds(),
        )


@pytest.fixture
def source() -> Door:
    return Door()


async def test_the_key_becomes_the_id_and_is_reserved_before_the_run_begins(source: Door) -> None:
    order: list[str] = []
    source.gateway.on_run(lambda record: order.append("told"))

    async def accepted(record: RunRecord) -> None:
        order.append("accepted")

    submission = await source.gateway.submit_once(WRITER, HELLO, "K", accepted=accepted)

    assert submission.fresh
    assert submission.record.id == "K"
    assert str(submission.record.session_key) == "agent:main:trip"
    assert "K" in source.log.records
    assert [run.id for run in source.queue.runs] == ["K"]
    assert order == ["accepted", "told"]


async def test_of_equal_requests_at_once_one_begins_the_run(source: Door) -> None:
    asking = (source.gateway.submit_once(WRITER, HELLO, "K") for _ in range(10))

    submissions = await asyncio.gather(*asking)

    assert sum(submission.fresh for submission in submissions) == 1
    assert len(source.queue.runs) == 1


BASE = RunRequest(
    messages=(system("Be brief."), user("hi")),
    session_key="trip",
    params={"temperature": 0.5, "stop": ["a", "b"], "metadata": {"a": 1, "b": None}},
    thinking="low",
    timeout=30,
)
PICTURE = Message(Role.USER, (Text("hi"), Image("AAAA", "image/png")))
DIFFERENT: Mapping[str, Sequence[object]] = {
    "messages": [
        (system("Be brief."), user("hi!")),
        (system("Be long."), user("hi")),
        (user("hi"),),
        (system("Be brief."), user("hi"), user("hi")),
        (system("Be brief."), PICTURE),
        (system("Be brief."), replace(PICTURE, parts=(Text("hi"), Image("AAAB", "image/png")))),
        (system("Be brief."), replace(PICTURE, parts=(Text("hi"), Image("AAAA", "image/gif")))),
        (system("Be brief."), replace(user("hi"), name="Ann")),
        (system("Be brief."), assistant("hi"), user("hi")),
    ],
    "params": [
        {},
        dict(BASE.params) | {"temperature": 0.6},
        dict(BASE.params) | {"temperature": "0.5"},
        dict(BASE.params) | {"stop": ["ab"]},
        dict(BASE.params) | {"stop": ["b", "a"]},
        dict(BASE.params) | {"metadata": {"a": 1}},
        dict(BASE.params) | {"metadata": {"a": True, "b": None}},
    ],
    "model": ["opensoul/beta"],
    "agent_id": ["beta"],
    "session_key": ["other", None],
    "after": [After("run-1", SessionKey("main", "trip"))],
    "on_leave": [OnLeave.CONTINUE],
    "chosen_model": ["fake/m"],
    "max_tool_calls": [3],
    "side_task": ["compaction"],
    "client_tools": [
        ClientTools((ToolSpec("f", ""),)),
        ClientTools((ToolSpec("f", "", strict=True),)),
        ClientTools((ToolSpec("f", ""),), ToolChoice(ChoiceMode.REQUIRED)),
    ],
    "source": ["chat"],
    "thinking": [None, "high"],
    "timeout": [None, 31, 0.3],
}
"""By the name of each field of a request: values that make another request of `BASE`."""
SAME: Mapping[str, Sequence[object]] = {
    "messages": [tuple(replace(message) for message in BASE.messages)],
    "params": [
        {"metadata": {"b": None, "a": 1.0}, "stop": ("a", "b"), "temperature": 0.5},
    ],
    "model": ["opensoul", "opensoul/main", "main"],
    "agent_id": ["main", "MAIN"],
    "session_key": ["agent:main:trip", " trip "],
    # A session key wins over the others.
    "metadata_key": ["other"],
    "conversation": [Conversation("x-chat-id", "7")],
    "user": ["ann"],
    # What the source may ask for is no part of what is asked.
    "reserved_keys": [True],
    # Whether a message is a command is up to the configuration, too, which does not count.
    "commands": [True],
    # So is what a side task is.
    "side_tasks": [True],
    "streamed": [False],
    "session_hint": ["Send a header."],
    # What the request was made by; its session names it.
    "parent": ["run-1"],
    "hops": [1],
    "thinking": [" LOW", "on"],
    "timeout": [30.0],
}
"""The same for values that do not."""


def test_every_field_of_a_request_is_decided_on() -> None:
    assert {*DIFFERENT, *SAME} == {field.name for field in fields(RunRequest)}


def changed(values: Mapping[str, Sequence[object]]) -> list[Any]:
    """Each a request with one field changed."""
    return [
        pytest.param(replace(BASE, **{name: value}), id=f"{name} {number}")  # type: ignore[arg-type]
        for name, others in values.items()
        for number, value in enumerate(others)
    ]


@pytest.mark.parametrize("other", changed(DIFFERENT))
async def test_another_request_under_a_used_key_is_refused(source: Door, other: RunRequest) -> None:
    await source.gateway.submit_once(WRITER, BASE, "K")

    with pytest.raises(KeyReused, match="another request"):
        await source.gateway.submit_once(WRITER, other, "K")

    assert len(source.queue.runs) == 1


@pytest.mark.parametrize("same", changed(SAME))
async def test_a_request_that_is_spelled_in_another_way_is_the_same(
    source: Door, same: RunRequest
) -> None:
    await source.gateway.submit_once(WRITER, BASE, "K")

    assert not (await source.gateway.submit_once(WRITER, same, "K")).fresh


async def test_another_user_is_another_session(source: Door) -> None:
    await source.gateway.submit_once(WRITER, replace(BASE, session_key=None, user="ann"), "K")

    with pytest.raises(KeyReused):
        await source.gateway.submit_once(WRITER, replace(BASE, session_key=None, user="bob"), "K")


async def test_a_digest_is_the_same_in_every_version_of_that_number(source: Door) -> None:
    """Where this fails, digests have changed: raise the version, and put in the new digest."""
    await source.gateway.submit_once(WRITER, replace(BASE, messages=(PICTURE,)), "K")

    assert source.log.records["K"].fingerprint == (
        "v2:0b0179b44859e29b4a7156af367ad26cb43bd9cb5d2588807b700c964b2a3e3d"
    )


@pytest.mark.parametrize(
    "stored",
    ["3ab5e2c1" * 8, "v1:" + "3ab5e2c1" * 8, "v3:" + "3ab5e2c1" * 8],
)
async def test_a_key_that_another_version_of_the_gateway_kept_still_gets_its_run(
    source: Door, stored: str
) -> None:
    await source.log.reserve(record_of(run("K"), fingerprint=stored))

    assert not (await source.gateway.submit_once(WRITER, BASE, "K")).fresh
    assert source.queue.runs == []


async def test_the_id_of_a_run_that_was_begun_without_a_key_is_no_key(source: Door) -> None:
    await source.log.reserve(record_of(run("K")))

    with pytest.raises(KeyReused):
        await source.gateway.submit_once(WRITER, BASE, "K")


async def test_a_refused_run_leaves_its_key_free(source: Door) -> None:
    source.queue.refusal = SessionBusy("full")
    with pytest.raises(SessionBusy):
        await source.gateway.submit_once(WRITER, HELLO, "K")
    source.queue.refusal = None

    assert (await source.gateway.submit_once(WRITER, HELLO, "K")).fresh


class SlowLog(FakeRunEvents):
    """Takes its time to reserve, and tells that somebody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def reserve(self, record: RunRecord, spec: RunSpec | None = None) -> RunRecord | None:
        self.asked.set()
        await self.go_on.wait()
        return await super().reserve(record, spec)


class BegunRuns(list[RunSpec]):
    """Says when the first Run was begun."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()

    def append(self, spec: RunSpec) -> None:
        super().append(spec)
        self.begun.set()


async def test_who_stops_waiting_does_not_leave_a_key_without_a_run() -> None:
    log, runs = SlowLog(), BegunRuns()
    source = Door(log=log)
    source.queue.runs = runs
    asking = asyncio.create_task(source.gateway.submit_once(WRITER, HELLO, "K"))
    await log.asked.wait()

    asking.cancel()
    log.go_on.set()

    await asyncio.wait_for(runs.begun.wait(), 5)
    assert [run.id for run in runs] == ["K"]


@pytest.mark.parametrize("key", ["", "   ", "x" * 257, "a\nb", "\ud800"])
async def test_a_key_is_short_and_plain(source: Door, key: str) -> None:
    with pytest.raises(InvalidRequest, match="idempotencyKey"):
        await source.gateway.submit_once(WRITER, HELLO, key)

    assert source.log.records == {}


async def test_asking_needs_write(source: Door) -> None:
    reader = Principal("reader", frozenset({Scope.READ}), "token")

    with pytest.raises(Forbidden):
        await source.gateway.submit_once(reader, HELLO, "K")


@pytest.mark.parametrize(
    ("allow", "chosen", "refused"),
    [
        (False, {}, True),
        (False, {"sendPolicy": "allow"}, False),
        (True, {"sendPolicy": "deny"}, True),
        (True, {}, False),
    ],
)
async def test_a_blocked_session_is_refused_before_anything_happens(
    allow: bool, chosen: Mapping[str, str], refused: bool
) -> None:
    sessions = SessionSettings(send_policy=SendPolicy(default_allow=allow))
    source = Door(settings=settings(sessions=sessions), chosen=chosen)

    if refused:
        with pytest.raises(SendBlocked):
            await source.gateway.submit_once(WRITER, HELLO, "K")
        assert source.log.records == {}
    else:
        assert (await source.gateway.submit_once(WRITER, HELLO, "K")).fresh


async def test_keys_of_children_are_for_who_may_use_them(source: Door) -> None:
    asked = RunRequest(messages=(user("hi"),), session_key="agent:main:subagent:abc")
    with pytest.raises(SessionKeyInvalid, match="reserved"):
        await source.gateway.submit_once(WRITER, asked, "K")

    allowed = RunRequest(
        messages=(user("hi"),), session_key="agent:main:subagent:abc", reserved_keys=True
    )
    assert (await source.gateway.submit_once(WRITER, allowed, "K")).fresh


async def test_a_request_can_set_how_much_is_thought(source: Door) -> None:
    await source.gateway.submit_once(WRITER, replace(HELLO, thinking="max"), "K")

    assert source.queue.runs[0].thinking == "high"


@pytest.mark.parametrize(
    ("asked", "limit"), [(None, None), (0, None), (3, 3.0), (0.0004, 0.0004), (601, 601.0)]
)
async def test_the_time_that_a_client_sets_goes_with_the_run(
    source: Door, asked: float | None, limit: float | None
) -> None:
    assert (await source.gateway.submit(WRITER, replace(HELLO, timeout=asked))).timeout == limit


@pytest.mark.parametrize("asked", [-1, -0.001, math.nan, math.inf, -math.inf])
async def test_a_time_that_is_none_is_refused(source: Door, asked: float) -> None:
    with pytest.raises(InvalidRequest, match="timeout must be a number of seconds") as refused:
        await source.gateway.submit(WRITER, replace(HELLO, timeout=asked))

    assert refused.value.param == "timeout"
    assert source.queue.runs == []


async def test_runs_are_seen_and_stopped_by_their_id_and_by_their_session(source: Door) -> None:
    for key in ("K", "L"):
        await source.gateway.submit_once(WRITER, HELLO, key)

    assert (await source.gateway.run(WRITER, "K")).id == "K"
    assert {record.id for record in (await source.gateway.runs(WRITER, RunQuery())).runs} == {
        "K",
        "L",
    }
    trip = source.gateway.session_key("trip")
    assert [run.id for run in await source.gateway.active(WRITER, trip)] == ["K", "L"]
    assert await source.gateway.abort_session(WRITER, trip, "enough") == ("K", "L")
    # Those that wait go first, so that none of them begins.
    assert [run_id for run_id, _ in source.queue.aborted] == ["L", "K"]
    with pytest.raises(UnknownRun):
        await source.gateway.run(WRITER, "unknown")
    with pytest.raises(UnknownRun):
        await source.gateway.wait(WRITER, "unknown", 0)
    assert (await source.gateway.wait(WRITER, "K", 0)).id == "K"


async def test_who_no_longer_wants_to_know_of_runs_is_not_told(source: Door) -> None:
    told: list[RunRecord] = []
    stop = source.gateway.on_run(told.append)
    await source.gateway.submit(WRITER, HELLO)
    stop()
    await source.gateway.submit(WRITER, HELLO)

    assert len(told) == 1


def test_events_bring_a_run_from_one_status_to_the_next() -> None:
    assert record_of(run()).status is RunStatus.QUEUED
    assert status_after(Started(0, 0)) is RunStatus.RUNNING
    assert status_after(Aborted("enough")) is RunStatus.ABORTED
    assert status_after(Failed("run_failed", "no")) is RunStatus.FAILED
    assert status_after(Failed("run_interrupted", "no")) is RunStatus.INTERRUPTED
    assert RunStatus.INTERRUPTED.final
    assert not RunStatus.RUNNING.final

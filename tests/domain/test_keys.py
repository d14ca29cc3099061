"""API keys without a Gateway: authentication, management and limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from opensoul.adapters.persistence.memory import MemoryKeyCounters, MemoryKeys, MemoryRunEvents
from opensoul.domain.access import (
    ALL_SCOPES,
    EVERY_AGENT,
    ClientAddress,
    Credential,
    Principal,
    Scope,
    grant_of_key,
)
from opensoul.domain.agents import Agent, AgentDirectory
from opensoul.domain.api_keys import ApiKey, KeyLimits, KeyUsage, key_digest
from opensoul.domain.errors import (
    Forbidden,
    InvalidRequest,
    QuotaExceeded,
    RateLimited,
    SessionKeyInvalid,
    StoreFailed,
    UnknownKey,
    UnknownSession,
)
from opensoul.domain.messages import Role, text_message
from opensoul.domain.models import StopReason, Usage
from opensoul.domain.ports import Spent
from opensoul.domain.runs import Aborted, Finished, RunSpec
from opensoul.domain.services import Keys, NewKey, Quotas
from opensoul.domain.services.ownership import own_key
from opensoul.domain.sessions import SessionKey
from opensoul.domain.settings import AuthMode, AuthSettings, Settings
from tests.fakes.domain import FakeClock

OPERATOR = Principal("operator", ALL_SCOPES, "token")
AGENTS = AgentDirectory((Agent("main", "main"), Agent("guide", "guide")), "main")
NOON = 1_799_971_200.0 + 43_200.0
"""Of 2027-01-15."""


class Rig:
    """Keys and their limits, over a book in memory."""

    def __init__(self, book: MemoryKeys | None = None, view_seconds: float | None = None) -> None:
        self.clock, self.steady = FakeClock(NOON), FakeClock()
        self.book = MemoryKeys() if book is None else book
        self.view_seconds = view_seconds
        self.settings = Settings(AGENTS, AuthSettings(AuthMode.TOKEN))
        self.keys, self.quotas = self._opened()

    def _opened(self) -> tuple[Keys, Quotas]:
        keys = Keys(book=self.book, settings=lambda: self.settings, clock=self.clock)
        quotas = Quotas(
            keys=keys,
            book=self.book,
            counters=MemoryKeyCounters(self.steady),
            run_events=MemoryRunEvents(clock=self.clock),
            settings=lambda: self.settings,
            clock=self.clock,
            monotonic=self.steady,
            view_seconds=self.view_seconds,
        )
        return keys, quotas

    async def restart(self) -> None:
        await self.quotas.flush()
        self.keys, self.quotas = self._opened()
        await self.keys.open()
        await self.quotas.open()

    async def create(self, name: str = "web", **fields: Any) -> tuple[ApiKey, str]:
        return await self.keys.create(OPERATOR, NewKey(name, **fields))

    async def limited(self, **limits: Any) -> str:
        key, _ = await self.create(limits=KeyLimits(**limits))
        return key.id

    async def proven(self, secret: str) -> str | None:
        grant = await self.keys.authenticate(credential(secret))
        return None if grant is None else grant.id

    def used(self, key_id: str, run_id: str = "r", tokens: int = 10) -> None:
        """A run of the key has ended."""
        ending = Finished(StopReason.STOP, Usage(tokens, 0), "fake/m")
        self.quotas.stopped(run(key_id, run_id), ending, None, Spent())


def credential(secret: str) -> Credential:
    return Credential(ClientAddress("127.0.0.1"), secret.encode())


def run(key_id: str, run_id: str = "r") -> RunSpec:
    return RunSpec(
        id=run_id,
        agent_id="main",
        session_key=SessionKey("main", "x"),
        principal_id=f"key:{key_id}",
        messages=(text_message(Role.USER, "hi"),),
        agents=EVERY_AGENT,
    )


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_the_secret_proves_the_key_until_it_is_rotated_or_revoked(rig: Rig) -> None:
    key, secret = await rig.create()
    assert await rig.proven(secret) == key.id
    assert await rig.proven(secret + "x") is None
    assert await rig.keys.authenticate(Credential(ClientAddress("127.0.0.1"))) is None
    _, fresh = await rig.keys.rotate(OPERATOR, "web")
    assert (await rig.proven(secret), await rig.proven(fresh)) == (None, key.id)
    await rig.keys.revoke(OPERATOR, key.id)
    assert await rig.proven(fresh) is None


async def test_the_stored_record_does_not_contain_the_secret(rig: Rig) -> None:
    key, secret = await rig.create()
    (stored,) = await rig.book.load()
    assert secret not in repr(stored) + str(stored.digest)
    assert stored.digest not in repr(stored)
    assert stored.digest == key_digest(secret.encode()) == key.digest


async def test_a_grant_stands_until_its_key_changes(rig: Rig) -> None:
    ended: list[tuple[str, str]] = []
    rig.keys.on_end(lambda key_id, reason: ended.append((key_id, reason)))
    key, secret = await rig.create(expires_at=NOON + 60)
    grant = await rig.keys.authenticate(credential(secret))
    assert grant is not None
    assert rig.keys.stands(grant)
    rig.clock.advance(60)
    assert not rig.keys.stands(grant)
    rig.clock.advance(-60)
    _, fresh = await rig.keys.rotate(OPERATOR, "web")
    assert not rig.keys.stands(grant)
    later = await rig.keys.authenticate(credential(fresh))
    assert later is not None
    await rig.keys.revoke(OPERATOR, "web")
    assert not rig.keys.stands(later)
    assert ended == [(key.id, "API key rotated"), (key.id, "API key revoked")]


async def test_keys_of_the_configuration_follow_it(rig: Rig) -> None:
    configured = ApiKey("cfg_1", "ci", key_digest(b"osk_configured"), configured=True)
    auth = AuthSettings(AuthMode.TOKEN, keys=(configured,))
    rig.settings = replace(rig.settings, auth=auth)
    grant = await rig.keys.authenticate(credential("osk_configured"))
    assert grant is not None
    assert rig.keys.stands(grant)
    for change in (rig.keys.rotate, rig.keys.revoke):
        with pytest.raises(InvalidRequest, match=r"gateway\.auth\.keys"):
            await change(OPERATOR, "ci")
    with pytest.raises(InvalidRequest, match="already"):
        await rig.create("ci")
    narrowed = replace(configured, agents=frozenset({"guide"}))
    rig.settings = replace(rig.settings, auth=replace(auth, keys=(narrowed,)))
    assert not rig.keys.stands(grant)
    rig.settings = replace(rig.settings, auth=replace(auth, keys=()))
    assert await rig.proven("osk_configured") is None


@pytest.mark.parametrize("scopes", [{Scope.READ, Scope.WRITE}, ALL_SCOPES - {Scope.ADMIN}])
async def test_only_administrators_manage_keys(rig: Rig, scopes: set[Scope]) -> None:
    await rig.create()
    client = Principal("someone", frozenset(scopes), "token")
    for work in (
        rig.keys.list(client),
        rig.keys.show(client, "web"),
        rig.keys.create(client, NewKey("other")),
        rig.keys.rotate(client, "web"),
        rig.keys.revoke(client, "web"),
        rig.keys.usage(client, ""),
    ):
        with pytest.raises(Forbidden):
            await work
    with pytest.raises(UnknownKey):
        await rig.keys.show(OPERATOR, "absent")


@pytest.mark.parametrize(
    ("scopes", "agents", "confined", "held"),
    [
        ({Scope.READ}, None, EVERY_AGENT, {Scope.READ}),
        ({Scope.WRITE}, {"guide"}, {"guide"}, {Scope.WRITE}),
        ({Scope.ADMIN}, None, None, {Scope.ADMIN}),
    ],
)
def test_a_key_is_confined_to_what_is_its_own_unless_it_is_an_administrators(
    scopes: set[Scope], agents: set[str] | None, confined: set[str] | None, held: set[Scope]
) -> None:
    allowed = None if agents is None else frozenset(agents)
    grant = grant_of_key(ApiKey("k", "k", "d", scopes=frozenset(scopes), agents=allowed))
    assert (grant.agents, set(grant.scopes)) == (
        None if confined is None else frozenset(confined),
        held,
    )
    assert (grant.principal, grant.key_id) == ("key:k", "k")


KEY = Principal("key:k", frozenset(), "api-key", agents=EVERY_AGENT, key_id="k")


@pytest.mark.parametrize(
    ("principal", "rest", "expected"),
    [
        (KEY, "notes", "key:k:notes"),
        (KEY, "openai-user:ada", "key:k:openai-user:ada"),
        (KEY, "key:k:notes", "key:k:notes"),
        (KEY, "key:k", None),
        (KEY, "key:other:notes", None),
        (KEY, "key:k2:notes", None),
        (KEY, "subagent:x", "subagent:x"),
        (OPERATOR, "notes", "notes"),
        (OPERATOR, "key:k:notes", "key:k:notes"),
        (replace(KEY, agents=None), "notes", "notes"),
        (replace(KEY, key_id=""), "notes", "notes"),
    ],
)
def test_sessions_are_in_the_namespace_of_their_key(
    principal: Principal, rest: str, expected: str | None
) -> None:
    if expected is None:
        with pytest.raises(UnknownSession):
            own_key(SessionKey("main", rest), principal)
    else:
        assert own_key(SessionKey("main", rest), principal) == SessionKey("main", expected)


def test_a_session_key_that_is_too_long_with_its_namespace_is_refused() -> None:
    with pytest.raises(SessionKeyInvalid, match="512 bytes"):
        own_key(SessionKey("main", "x" * 500), KEY)


async def test_a_minute_of_requests_is_admitted_at_once_and_then_as_time_passes(rig: Rig) -> None:
    key = await rig.limited(requests_per_minute=6)
    for number in range(6):
        await rig.quotas.admit(key, f"r{number}")
    with pytest.raises(RateLimited) as refused:
        await rig.quotas.admit(key, "r6")
    assert refused.value.retry_after == pytest.approx(10)
    rig.steady.advance(10)
    await rig.quotas.admit(key, "r7")
    with pytest.raises(RateLimited):
        await rig.quotas.check_request(key)
    rig.steady.advance(3_600)
    left = rig.quotas.allowances(key).requests
    assert left is not None
    assert (left.limit, left.remaining, left.reset) == (6, 6, 0)


async def test_runs_at_once_are_counted_until_they_end_or_wait(rig: Rig) -> None:
    key = await rig.limited(runs_at_once=2)
    await rig.quotas.admit(key, "a")
    await rig.quotas.admit(key, "b")
    await rig.quotas.admit(key, "a")  # The same run, asked for again,
    rig.quotas.release(run(key, "a"))  # and found.
    with pytest.raises(RateLimited, match="2 runs at once"):
        await rig.quotas.admit(key, "c")
    rig.used(key, "a")
    await rig.quotas.admit(key, "c")
    rig.quotas.stopped(run(key, "b"), None, None, Spent())
    await rig.quotas.admit(key, "d")
    rig.quotas.stopped(run(key, "c"), Aborted("stopped"), None, Spent())
    await rig.quotas.admit(key, "e")
    rig.quotas.release(run(key, "e"))
    await rig.quotas.admit(key, "f")


async def test_a_request_that_is_repeated_is_limited_as_a_request_alone(rig: Rig) -> None:
    key = await rig.limited(requests_per_minute=3, tokens_per_day=20, runs_at_once=1)
    await rig.quotas.admit(key, "a")
    rig.used(key, "a", tokens=20)
    with pytest.raises(QuotaExceeded):
        await rig.quotas.admit(key, "b")
    await rig.quotas.admit(key, "a", known=True)
    await rig.quotas.admit(key, "a", known=True)
    with pytest.raises(RateLimited, match="3 requests per minute"):
        await rig.quotas.admit(key, "a", known=True)


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [
        ({"tokens_per_day": 20}, 43_200.0),
        ({"tokens_per_month": 20}, 16.5 * 86_400),
    ],
)
async def test_tokens_are_limited_until_the_period_ends(
    rig: Rig, limit: dict[str, int], seconds: float
) -> None:
    key = await rig.limited(**limit)
    rig.used(key)
    await rig.quotas.admit(key, "a")
    rig.used(key)
    await rig.restart()
    with pytest.raises(QuotaExceeded) as refused:
        await rig.quotas.admit(key, "b")
    assert refused.value.retry_after == seconds
    left = rig.quotas.allowances(key).tokens
    assert left is not None
    assert (left.limit, left.remaining, left.reset) == (20, 0, seconds)
    rig.clock.advance(seconds)
    await rig.quotas.admit(key, "b")


async def test_the_tighter_limit_of_tokens_is_shown(rig: Rig) -> None:
    key = await rig.limited(tokens_per_day=100, tokens_per_month=110)
    rig.used(key, tokens=60)
    rig.clock.advance(86_400)
    left = rig.quotas.allowances(key).tokens
    assert left is not None
    assert (left.limit, left.remaining) == (110, 50)


async def test_a_refused_request_is_not_counted(rig: Rig) -> None:
    key = await rig.limited(requests_per_minute=1)
    await rig.quotas.admit(key, "a")
    with pytest.raises(RateLimited):
        await rig.quotas.admit(key, "b")
    await rig.quotas.flush()
    (row,) = await rig.book.usage("")
    assert (row.requests, row.day) == (1, "2027-01-15")


async def test_usage_is_kept_by_day(rig: Rig) -> None:
    key = await rig.limited()
    rig.used(key)
    await rig.restart()
    rig.used(key)
    rig.clock.advance(86_400)
    rig.used(key)
    await rig.quotas.flush()
    rows = await rig.keys.usage(OPERATOR, "2027-01-15")
    assert [(row.day, row.tokens, row.runs, row.unpriced) for row in rows] == [
        ("2027-01-15", 20, 2, 2),
        ("2027-01-16", 10, 1, 1),
    ]


async def test_usage_that_could_not_be_kept_is_kept_later(rig: Rig) -> None:
    key = await rig.limited()
    add, failing = rig.book.add_usage, True

    async def add_usage(rows: Any) -> tuple[KeyUsage, ...]:
        if failing:
            raise StoreFailed("The disk is full.")
        return await add(rows)

    rig.book.add_usage = add_usage  # type: ignore[method-assign]
    rig.used(key)
    await rig.quotas.flush()
    assert await rig.book.usage("") == ()
    failing = False
    rig.used(key)
    await rig.quotas.flush()
    assert [row.tokens for row in await rig.book.usage("")] == [20]


@pytest.mark.parametrize("limit", ["tokens_per_day", "tokens_per_month"])
async def test_what_processes_use_of_one_key_is_summed(rig: Rig, limit: str) -> None:
    key = await rig.limited(**{limit: 60})
    other = Rig()
    other.book = rig.book
    await other.restart()
    for one in (rig, other, rig, other):
        one.used(key)
        await one.quotas.flush()
    assert [(row.tokens, row.runs) for row in await rig.book.usage("")] == [(40, 4)]

    other.used(key)
    await other.quotas.admit(key, "a")
    other.used(key)
    with pytest.raises(QuotaExceeded):
        await other.quotas.admit(key, "b")
    await other.quotas.flush()
    assert [row.tokens for row in await other.book.usage("")] == [60]


class FailingKeys(MemoryKeys):
    """A book whose usage cannot be written as long as it fails."""

    def __init__(self) -> None:
        super().__init__()
        self.failing = False

    async def add_usage(self, rows: Sequence[KeyUsage]) -> tuple[KeyUsage, ...]:
        if self.failing:
            raise StoreFailed("The disk is full.")
        return await super().add_usage(rows)


@pytest.fixture
async def nodes() -> tuple[Rig, Rig, FailingKeys]:
    """Two nodes of one book, each of which looks every two seconds what the other has used."""
    book = FailingKeys()
    return Rig(book, 2.0), Rig(book, 2.0), book


@pytest.mark.parametrize("limit", ["tokens_per_day", "tokens_per_month", "cost_per_month"])
async def test_a_node_refuses_what_another_one_has_used_up(
    nodes: tuple[Rig, Rig, FailingKeys], limit: str
) -> None:
    one, other, book = nodes
    key = await one.limited(**{limit: 20})
    await other.keys.open()
    await other.quotas.admit(key, "a")  # It has used nothing.
    used = KeyUsage(key, "2027-01-15", input=15, output=5, cost=20.0)
    await book.add_usage((used,))
    await other.quotas.admit(key, "b")
    other.steady.advance(2.0)
    with pytest.raises(QuotaExceeded):
        await other.quotas.admit(key, "c")
    with pytest.raises(QuotaExceeded):
        await one.quotas.check_request(key)


async def test_what_is_not_written_yet_counts_beside_what_others_have_used(
    nodes: tuple[Rig, Rig, FailingKeys],
) -> None:
    one, other, book = nodes
    key = await one.limited(tokens_per_day=20, tokens_per_month=1_000)
    await one.quotas.admit(key, "a")
    await other.keys.open()
    other.used(key, tokens=15)
    await other.quotas.flush()
    book.failing = True
    one.used(key, tokens=5)
    await one.quotas.flush()
    one.steady.advance(2.0)
    with pytest.raises(QuotaExceeded):
        await one.quotas.admit(key, "b")
    left = one.quotas.allowances(key).tokens
    assert left is not None
    assert left.remaining == 0
    book.failing = False
    one.clock.advance(86_400)
    one.steady.advance(86_400)
    await one.quotas.admit(key, "c")
    await one.quotas.flush()
    assert [row.tokens for row in await book.usage("")] == [20, 0]


def test_a_row_sums_its_tokens() -> None:
    assert KeyUsage("k", "2027-01-15", input=3, output=4, cached=2).tokens == 7

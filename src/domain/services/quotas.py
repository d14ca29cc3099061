"""The limits of API keys: requests per minute, runs at once, tokens and cost; and their usage."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextvars import Context
from dataclasses import dataclass

from ..access import KEY_PRINCIPAL
from ..api_keys import (
    ApiKey,
    KeyLimits,
    KeyUsage,
    day_of,
    month_of,
    seconds_left_of_day,
    seconds_left_of_month,
)
from ..errors import (
    EventsExpired,
    QuotaExceeded,
    RateLimited,
    ShuttingDown,
    StoreFailed,
    UnknownRun,
)
from ..models import Usage
from ..ports import (
    Clock,
    CurrentSettings,
    KeyBook,
    KeyCounters,
    OpenTurn,
    RunAdmission,
    RunEvents,
    Spent,
)
from ..runs import (
    CONTEXT_EVENTS,
    DELTAS,
    TERMINAL,
    TOOL_EVENTS,
    Ending,
    Finished,
    Resumed,
    RunSpec,
    Started,
    StepDone,
    Waiting,
    consumes,
)
from ..sessions import estimate_all
from .keys import Keys

logger = logging.getLogger(__name__)

_MINUTE = 60.0
_BYTES_PER_TOKEN = 3
"""As in the estimates of messages."""
_PATIENCE = 1.0
"""Seconds that `flush` waits for the events of runs that were cut short."""
_BUSY_SECONDS = 1.0
"""When a client may try again that has as many runs as it may have at once."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """A limit and what is left of it; `reset`: seconds until all of it is there again, None where
    that is not known."""

    limit: float
    remaining: float
    reset: float | None = None


@dataclass(frozen=True, slots=True)
class Allowances:
    """What a key has left; None: it has no such limit."""

    requests: Allowance | None = None
    tokens: Allowance | None = None
    """Of the day or of the month, whichever has less left."""
    cost: Allowance | None = None
    runs: Allowance | None = None


NO_LIMITS = Allowances()


@dataclass(slots=True)
class _Account:
    """What a key has used. `today` and `month`: the latter includes the former."""

    today: KeyUsage
    month: KeyUsage
    viewed_at: float = 0.0
    """When these were read or written last."""
    adopted: int = 0
    """How often they were replaced by sums of the KeyBook."""


class Quotas:
    """Admits what keys request, and counts what they use. Call `open` first.

    The counters of the present month are in memory, and written to the KeyBook in batches: a
    request never waits for that. Runs of sub-agents count as usage of the key, not as its requests.

    `view_seconds`: with other nodes, how old the copy of what a key has used may be when a request
    is admitted; None: there are none. What one node has used is written at once, so the nodes
    together exceed a limit by what they begin in that time.
    """

    def __init__(
        self,
        *,
        keys: Keys,
        book: KeyBook,
        counters: KeyCounters,
        run_events: RunEvents,
        settings: CurrentSettings,
        clock: Clock,
        monotonic: Clock,
        view_seconds: float | None = None,
    ) -> None:
        self._keys = keys
        self._book = book
        self._counters = counters
        self._run_events = run_events
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._view_seconds = view_seconds
        self._accounts: dict[str, _Account] = {}
        self._changed: dict[tuple[str, str], KeyUsage] = {}
        """What is not written yet, by key and day."""
        self._in_writing: frozenset[str] = frozenset()
        """The keys of what is being written."""
        self._writing: asyncio.Task[None] | None = None
        self._estimating: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Read the counters of this month. Raises StoreFailed."""
        today = day_of(self._clock())
        for row in await self._book.usage(f"{month_of(today)}-01"):
            account = self._account(row.key_id, today)
            account.month = account.month.plus(row)
            if row.day == today:
                account.today = row

    async def check_request(self, key_id: str) -> None:
        """Count a request of the key. Raises RateLimited, QuotaExceeded, StoreFailed."""
        key = self._keys.find(key_id)
        if key is None:
            return  # Its grant ends everything else.
        if self._view_seconds is not None:
            await self._renew_view(key)
        self._check_quotas(key.limits, self._current(key_id))
        await self._count_request(key)

    async def admit(self, key_id: str, run_id: str, *, known: bool = False) -> None:
        """Count a request of the key that begins a run, or finds one that it has begun. One that is
        `known` uses no tokens, and is no run more: only requests are limited. Raises RateLimited,
        QuotaExceeded, StoreFailed."""
        key = self._keys.find(key_id)
        most = None if key is None else key.limits.runs_at_once
        admission = await self._counters.begin(key_id, run_id, most, known=known)
        if key is None:
            return
        if admission is RunAdmission.FULL:
            raise RateLimited(
                f"The API key {key.name!r} has {most} runs at once, the most that it may have.",
                retry_after=_BUSY_SECONDS,
            )
        try:
            if admission is RunAdmission.KNOWN:
                await self._count_request(key)
            else:
                await self.check_request(key_id)
        except BaseException:
            self._counters.release(key_id, run_id)
            raise

    def release(self, spec: RunSpec) -> None:
        """A request for the run has begun none, or the run is no longer in this process."""
        self._counters.release(spec.principal_id.removeprefix(KEY_PRINCIPAL), spec.id)

    def stopped(
        self,
        spec: RunSpec,
        ending: Ending | None,
        turn: OpenTurn | None,
        spent: Spent,
    ) -> None:
        """Count what a run of a key has used. Without an `ending` it waits for a decision, and is
        counted later. `turn`: its steps; `spent`: what else it has used, where it has no answer."""
        key_id = spec.principal_id.removeprefix(KEY_PRINCIPAL)
        account = self._current(key_id)
        self._counters.stopped(key_id, spec.id)
        if ending is None:
            return
        used = KeyUsage(key_id, account.today.day, runs=1)
        for usage, model in _used(ending, turn, spent):
            used = used.plus(self._priced(usage, model))
        self._add(account, used)
        if not isinstance(ending, Finished):
            task = asyncio.create_task(self._estimate(spec, turn, spent), context=Context())
            self._estimating.add(task)
            task.add_done_callback(self._estimating.discard)

    async def _estimate(self, spec: RunSpec, turn: OpenTurn | None, spent: Spent) -> None:
        """Count the model call that was cut short when its run ended, once its answer had begun: a
        client that leaves before the end has used it all the same."""
        size = 0 if spent.usage is not None else await self._size_of_last_call(spec)
        if size is None or not (size := size + spent.withheld):
            return
        steps = () if turn is None else turn.steps
        before = spent.usage or (steps[-1].usage if steps else None)
        sent = estimate_all((*spec.instructions, *spec.messages))
        usage = Usage(sent if before is None else before.input, -(-size // _BYTES_PER_TOKEN))
        agent = self._settings().agents.get(spec.agent_id)
        models = () if agent is None else agent.models
        model = spent.model or (steps[-1].model if steps else models[0].ref if models else "")
        key_id = spec.principal_id.removeprefix(KEY_PRINCIPAL)
        self._add(self._current(key_id), self._priced(usage, model))

    @consumes(
        *DELTAS,
        StepDone,
        ignores=(Started, Waiting, Resumed, *TOOL_EVENTS, *CONTEXT_EVENTS, *TERMINAL),
    )
    async def _size_of_last_call(self, spec: RunSpec) -> int | None:
        """The bytes that its events have; None where these are not there."""
        size = 0
        try:
            async for batch in self._run_events.follow(spec.id):
                for event in batch.events:
                    if isinstance(event, DELTAS):
                        size += len(event.text.encode("utf-8", "surrogatepass"))
                    elif isinstance(event, StepDone):
                        size = 0  # Its usage was reported.
        except (EventsExpired, ShuttingDown, StoreFailed, UnknownRun):
            return None
        return size

    def allowances(self, key_id: str) -> Allowances:
        """What the key has left."""
        key = self._keys.find(key_id)
        if key is None:
            return NO_LIMITS
        account, limits = self._current(key_id), key.limits
        requests = None
        if (capacity := limits.requests_per_minute) is not None:
            left = self._counters.left(key_id, capacity)
            requests = Allowance(capacity, int(left), (capacity - left) * _MINUTE / capacity)
        cost, runs = limits.cost_per_month, None
        if (most := limits.runs_at_once) is not None:
            runs = Allowance(most, max(0, most - self._counters.running(key_id)))
        return Allowances(
            requests,
            self._tokens(limits, account),
            None if cost is None else self._budget(cost, account),
            runs,
        )

    async def flush(self) -> None:
        """Return when all counters are written, or cannot be written."""
        if self._estimating:
            await asyncio.wait(self._estimating, timeout=_PATIENCE)
        self._begin_writing()
        if self._writing is not None:
            await asyncio.wait((self._writing,))
        await self._counters.flush()

    def _check_quotas(self, limits: KeyLimits, account: _Account) -> None:
        now = self._clock()
        day, month = seconds_left_of_day(now), seconds_left_of_month(now)
        for what, most, used, left in (
            ("tokens of a day", limits.tokens_per_day, account.today.tokens, day),
            ("tokens of a month", limits.tokens_per_month, account.month.tokens, month),
            ("US dollars of a month", limits.cost_per_month, account.month.cost, month),
        ):
            if most is not None and used >= most:
                raise QuotaExceeded(
                    f"This API key has used up its {most:g} {what} (UTC).", retry_after=left
                )

    async def _count_request(self, key: ApiKey) -> None:
        capacity = key.limits.requests_per_minute
        if capacity is not None and (wait := await self._counters.take(key.id, capacity)):
            raise RateLimited(
                f"This API key may send {capacity} requests per minute.", retry_after=wait
            )
        account = self._current(key.id)
        self._add(account, KeyUsage(key.id, account.today.day, requests=1))

    def _tokens(self, limits: KeyLimits, account: _Account) -> Allowance | None:
        now, found = self._clock(), []
        if (day := limits.tokens_per_day) is not None:
            left = max(0, day - account.today.tokens)
            found.append(Allowance(day, left, seconds_left_of_day(now)))
        if (month := limits.tokens_per_month) is not None:
            left = max(0, month - account.month.tokens)
            found.append(Allowance(month, left, seconds_left_of_month(now)))
        return min(found, key=lambda one: one.remaining, default=None)

    def _budget(self, most: float, account: _Account) -> Allowance:
        left = max(0.0, most - account.month.cost)
        return Allowance(most, left, seconds_left_of_month(self._clock()))

    def count(self, key_id: str, usage: Usage, model: str) -> None:
        """Count what a request of the key that begins no run has used of a model."""
        self._add(self._current(key_id), self._priced(usage, model))

    def _priced(self, used: Usage, model: str) -> KeyUsage:
        """A row without a day; `unpriced` is 1 where the model has no price."""
        settings = self._settings()
        embedding = (target for target in settings.embedding_models if target.ref == model)
        target = settings.models.get(model) or next(embedding, None)
        known = target is not None and target.price.known
        cost = 0.0
        if target is not None and known:
            cost = target.price.of(used.input, used.output, used.cached)
        counts = {"input": used.input, "output": used.output, "cached": used.cached}
        return KeyUsage("", "", **counts, cost=cost, unpriced=int(not known))

    def _current(self, key_id: str) -> _Account:
        """The account, with its counters begun anew on another day or in another month."""
        today = day_of(self._clock())
        account = self._account(key_id, today)
        if account.today.day != today:
            account.today = KeyUsage(key_id, today)
            if account.month.day != month_of(today):
                account.month = KeyUsage(key_id, month_of(today))
        return account

    def _account(self, key_id: str, today: str) -> _Account:
        account = self._accounts.get(key_id)
        if account is None:
            account = self._accounts[key_id] = _Account(
                KeyUsage(key_id, today), KeyUsage(key_id, month_of(today))
            )
        return account

    def _add(self, account: _Account, used: KeyUsage) -> None:
        account.today = account.today.plus(used)
        account.month = account.month.plus(used)
        self._note(KeyUsage(account.today.key_id, account.today.day).plus(used))
        self._begin_writing()

    def _note(self, used: KeyUsage) -> None:
        """The row is to be written, together with what else its key has used on its day."""
        noted = self._changed.get((used.key_id, used.day))
        self._changed[used.key_id, used.day] = used if noted is None else noted.plus(used)

    def _begin_writing(self) -> None:
        if self._changed and (self._writing is None or self._writing.done()):
            # In a context of its own: it does not keep the request that began it.
            self._writing = asyncio.create_task(self._write(), context=Context())

    async def _write(self) -> None:
        while self._changed:
            rows, self._changed = tuple(self._changed.values()), {}
            self._in_writing = frozenset(row.key_id for row in rows)
            try:
                totals = await self._book.add_usage(rows)
            except StoreFailed as error:
                for row in rows:  # The next change writes them.
                    self._note(row)
                logger.warning("the usage of API keys was not kept", extra={"why": error.message})
                return
            finally:
                self._in_writing = frozenset()
            for total in totals:
                self._adopt(total)

    def _adopt(self, total: KeyUsage) -> None:
        """Count what other processes have added to the row, too."""
        account = self._accounts.get(total.key_id)
        if account is None or account.today.day != total.day:
            return
        noted = self._changed.get((total.key_id, total.day))
        today = total if noted is None else total.plus(noted)
        account.month = account.month.plus(today.minus(account.today))
        account.today = today
        account.adopted += 1

    async def _renew_view(self, key: ApiKey) -> None:
        """Read what the key has used at all nodes, where that was not done a moment ago."""
        limits, account = key.limits, self._current(key.id)
        if not limits.has_quotas:
            return
        now = self._monotonic()
        if account.viewed_at and now - account.viewed_at < (self._view_seconds or 0.0):
            return
        account.viewed_at = now
        before, day = account.adopted, account.today.day
        if key.id in self._in_writing:
            return  # The answer will be the sums of today.
        rows = await self._book.usage_of(key.id, f"{month_of(day)}-01")
        if key.id in self._in_writing or account.adopted != before or account.today.day != day:
            return  # The same.
        noted = [used for (key_id, _), used in self._changed.items() if key_id == key.id]
        today, month = KeyUsage(key.id, day), KeyUsage(key.id, month_of(day))
        for row in (*rows, *noted):
            if row.day == day:
                today = today.plus(row)
            if month_of(row.day) == month_of(day):
                month = month.plus(row)
        account.today, account.month = today, month


def _used(ending: Ending, turn: OpenTurn | None, spent: Spent) -> Iterable[tuple[Usage, str]]:
    """The usage of an answer, or of the steps and refused answers of a run without one, with their
    models."""
    if isinstance(ending, Finished):
        yield ending.usage, ending.model
        return
    for step in () if turn is None else turn.steps:
        if step.usage is not None:
            yield step.usage, step.model
    if spent.usage is not None:
        yield spent.usage, spent.model

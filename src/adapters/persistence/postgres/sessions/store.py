"""Sessions in PostgreSQL, for any number of processes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from .....domain.concurrency import shielded
from .....domain.errors import StoreFailed
from .....domain.ports import Clock, OpenTurn, StoredSession, Turn
from .....domain.runs import Step
from .....domain.sessions import (
    KeptMessage,
    KeptTranscript,
    PeriodUsage,
    SessionInfo,
    SessionKey,
    SessionPage,
    SessionQuery,
    Span,
    Summary,
    UsageQuery,
)
from ...common import Cells, DamageLog
from ..availability import MOST_OUTAGE
from ..columns import data
from ..database import Connection, Database
from ..fence import active_fence
from .catalog import BY_ID, ONE, info_of, list_sessions
from .history import find_span, find_turn, messages_since_pause, read_messages, read_transcripts
from .mutations import (
    Changes,
    branch_session,
    compact_session,
    delete_session,
    patch_session,
    reset_session,
)
from .one_offs import OneOffs
from .open_turns import ALL, PUT_STEP, TAKE, end_open_turn, listed_turns, step_values, taken_turn
from .turns import (
    APPEND,
    LOAD,
    PUT_SUMMARY,
    append_values,
    load_values,
    loaded_session,
    one_value,
    summary_values,
)
from .usage import usage_of, usage_query

T = TypeVar("T")

_WRITABLE = "SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'"


class PostgresStore:
    """A SessionStore and SessionCatalog.

    `check_timeout`: seconds after which `check` calls the database stuck. `clock`: in place of the
    database's, by which one-off sessions expire.
    """

    def __init__(
        self, database: Database, *, check_timeout: float = 5.0, clock: Clock | None = None
    ) -> None:
        self._database = database
        self._check_timeout = check_timeout
        self._one_offs = OneOffs(database, clock)
        self._open = False
        self._failing = False
        """The last write failed."""
        self._damage = DamageLog()

    async def open(self) -> None:
        await self._database.open()
        self._open = True

    async def load(
        self, key: SessionKey, budget: int, *, result_chars: int | None = None
    ) -> StoredSession | None:
        row = await self._opened().row(LOAD, load_values(key, budget, result_chars))
        if row is None:
            return None
        return loaded_session(row, key, budget, result_chars, Cells(str(key), self._damage))

    async def put_summary(
        self,
        key: SessionKey,
        session_id: str,
        summary: Summary,
        *,
        run_id: str = "",
        attempt: int = 0,
    ) -> bool:
        values = summary_values(key, session_id, summary, run_id, attempt)
        row = await self._write(self._opened().change_row(PUT_SUMMARY, values))
        return bool(one_value(row))

    async def append(self, turn: Turn) -> None:
        """A caller that is cancelled while it waits has its turn stored all the same."""
        database = self._opened()
        await self._write_patiently(partial(self._append, database, turn))

    async def _append(self, database: Database, turn: Turn) -> None:
        size = one_value(
            await database.write_row(APPEND, append_values(turn, self._one_offs.now()))
        )
        if turn.one_off and size:
            self._one_offs.count(size)

    async def append_step(self, turn: OpenTurn, number: int, step: Step) -> None:
        put = partial(self._opened().row, PUT_STEP, step_values(turn, number, step))
        await self._write_patiently(put)

    async def open_turn(self, run_id: str, attempt: int) -> OpenTurn | None:
        async def take(connection: Connection) -> OpenTurn | None:
            cursor = await connection.execute(TAKE, (data(run_id), attempt), binary=True)
            return taken_turn(await cursor.fetchone(), run_id)

        return await self._write(self._opened().run(take, repeat=True))

    async def open_turns(self) -> tuple[OpenTurn, ...]:
        return listed_turns(await self._opened().rows(ALL), self._damage)

    async def end_turn(self, turn: OpenTurn, *, note: str, at: float) -> bool:
        return await self._change(
            partial(end_open_turn, turn=turn, note=note, at=at, now=self._one_offs.now())
        )

    async def prune_one_off(self, keep: float | None, max_bytes: int | None = None) -> int:
        self._opened()
        return await self._one_offs.prune(keep, max_bytes)

    async def turn(self, run_id: str) -> Turn | None:
        return await self._read(partial(find_turn, run_id=run_id))

    async def span(self, run_id: str) -> Span | None:
        return await self._read(partial(find_span, run_id=run_id))

    async def list(self, query: SessionQuery) -> SessionPage:
        return await self._read(partial(list_sessions, query=query, damage=self._damage))

    async def find(self, key: SessionKey) -> SessionInfo | None:
        row = await self._opened().row(ONE, (data(str(key)),))
        return None if row is None else info_of(row, self._damage)

    async def find_by_id(self, session_id: str) -> tuple[SessionInfo, ...]:
        rows = await self._opened().rows(BY_ID, {"id": data(session_id)})
        return tuple(info_of(row, self._damage) for row in rows)

    async def patch(
        self, key: SessionKey, changes: Changes, *, at: float, new_id: str
    ) -> SessionInfo:
        patch = partial(patch_session, key=key, changes=dict(changes), at=at, new_id=new_id)
        return await self._change(partial(patch, damage=self._damage))

    async def reset(self, key: SessionKey, *, at: float, new_id: str) -> SessionInfo:
        reset = partial(reset_session, key=key, at=at, new_id=new_id, damage=self._damage)
        return await self._change(reset)

    async def compact(
        self, key: SessionKey, keep: int, *, at: float, new_id: str
    ) -> tuple[SessionInfo, int] | None:
        compact = partial(compact_session, key=key, keep=keep, at=at, new_id=new_id)
        return await self._change(partial(compact, damage=self._damage))

    async def branch(
        self, key: SessionKey, through: int, *, at: float, new_id: str
    ) -> SessionInfo | None:
        branch = partial(branch_session, key=key, through=through, at=at, new_id=new_id)
        return await self._change(partial(branch, damage=self._damage))

    async def delete(self, key: SessionKey) -> bool:
        return await self._change(partial(delete_session, key=key))

    async def messages(
        self,
        key: SessionKey,
        *,
        limit: int,
        before: int | None = None,
        session_id: str | None = None,
    ) -> tuple[KeptMessage, ...]:
        read = partial(read_messages, key=key, limit=limit, before=before, session_id=session_id)
        return await self._read(partial(read, damage=self._damage))

    async def messages_since_pause(self, key: SessionKey, seconds: float) -> int:
        return await self._read(partial(messages_since_pause, key=key, seconds=seconds))

    async def transcripts(self, key: SessionKey, limit: int) -> tuple[KeptTranscript, ...]:
        return await self._read(
            partial(read_transcripts, key=key, limit=limit, damage=self._damage)
        )

    async def usage(self, query: UsageQuery) -> tuple[PeriodUsage, ...]:
        rows = await self._opened().rows(*usage_query(query))
        return usage_of(rows, Cells("turns", self._damage))

    async def check_writable(self) -> None:
        """After a failed write, ask the database; else nothing is done."""
        self._opened()
        if self._failing:
            await self.check()

    async def check(self) -> None:
        """Whether the database answers, and is one that can be written to: a replica cannot."""
        try:
            async with asyncio.timeout(self._check_timeout):
                writable = one_value(await self._opened().row(_WRITABLE))
        except TimeoutError as error:
            answer = f"The session store did not answer within {self._check_timeout:g} s."
            raise StoreFailed(answer) from error
        if not writable:
            raise StoreFailed(
                "The database is read-only, as a replica is. Name the primary in its address, or"
                " several hosts with target_session_attrs=read-write."
            )
        self._failing = False

    async def close(self) -> None:
        opened, self._open = self._open, False
        await self._one_offs.close()
        if opened:
            await self._database.close()

    async def _read(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """What `work` reads in a transaction that sees one state."""
        return await self._opened().snapshot(work)

    async def _change(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        return await self._write(self._opened().change(work))

    async def _write_patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """What a Run stores: the Run goes on for a while without the database."""
        seconds = MOST_OUTAGE if active_fence() is None else 0
        return await self._write(self._opened().patiently(work, seconds))

    async def _write(self, work: Awaitable[T]) -> T:
        """Durable when it returns, and done also when the caller is cancelled."""
        try:
            result = await shielded(asyncio.ensure_future(work))
        except StoreFailed:
            self._failing = True
            raise
        self._failing = False
        return result

    def _opened(self) -> Database:
        if not self._open:
            raise StoreFailed("The session store is not open.")
        return self._database

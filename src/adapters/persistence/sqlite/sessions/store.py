"""Sessions in one SQLite file: durable, read without waiting for writers."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from .....domain.concurrency import ThisTurn, shielded
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
from ...common import DamageLog, ExpiryClock, Undecodable, is_short, try_to_write
from ..files import DatabaseFiles, FileLost
from ..integrity import is_damage
from ..readers import Readers
from ..schema import SESSIONS, open_database
from ..writer import BatchWork, GroupWriter
from .catalog import find_by_id, find_session, list_sessions
from .history import find_span, find_turn, messages_since_pause, read_messages, read_transcripts
from .insert_turns import INCOMING
from .mutations import (
    Changes,
    branch_session,
    compact_session,
    delete_session,
    patch_session,
    reset_session,
)
from .one_offs import OneOffs, newest_stamp
from .open_turns import end_open_turn, list_open_turns, put_step, take_open_turn
from .summaries import put_summary
from .turns import load_session, touch
from .usage import read_usage
from .working_set import WorkingSet

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Opened:
    writer: GroupWriter
    readers: Readers
    files: DatabaseFiles
    sound: ThisTurn = field(default_factory=ThisTurn)
    """Nothing is wrong with the files and the disk."""


class SqliteStore:
    """A SessionStore and SessionCatalog. The caller makes sure that no other process uses the file.

    `check_timeout`: seconds after which `check` calls the store stuck. `working_set`: about
    how many bytes of sessions in use are kept in memory. `clock` is Unix time; `steady` never
    jumps.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        readers: int = 2,
        check_timeout: float = 5.0,
        working_set: int = 64 * 1024 * 1024,
        clock: Clock = time.time,
        steady: Clock = time.monotonic,
    ) -> None:
        self._expiry = ExpiryClock(clock, steady)
        self._one_offs = OneOffs(self._expiry, read=self.read, prune=self._prune)
        self._working_set = WorkingSet(working_set)
        self._path = Path(path).absolute()  # `:memory:` would not be a file to SQLite.
        self._reader_count = readers
        self._check_timeout = check_timeout
        self._opened: _Opened | None = None
        self._damage = DamageLog()

    async def open(self) -> None:
        """Raises StoreFailed naming the file when it is damaged, not ours, or too new."""
        connection = await asyncio.to_thread(open_database, self._path, own=INCOMING)
        files = DatabaseFiles(self._path)
        readers = Readers(self._path, self._reader_count, files=files)
        self._expiry.begin(await readers.run(newest_stamp))
        self._opened = _Opened(GroupWriter(connection, files=files), readers, files)

    async def load(
        self, key: SessionKey, budget: int, *, result_chars: int | None = None
    ) -> StoredSession | None:
        opened = self._require()
        known = self._working_set.get(key, budget, result_chars)
        if known is not None:
            return known
        with self._working_set.reading(key) as put:
            load = partial(load_session, key=key, budget=budget, result_chars=result_chars)
            session = await opened.readers.run(partial(load, damage=self._damage))
            put(session, budget, result_chars)
        return session

    async def put_summary(
        self,
        key: SessionKey,
        session_id: str,
        summary: Summary,
        *,
        run_id: str = "",
        attempt: int = 0,
    ) -> bool:
        put = partial(put_summary, key=key, session_id=session_id, summary=summary)
        return await self._change(key, partial(put, run_id=run_id, attempt=attempt))

    async def append(self, turn: Turn) -> None:
        """A caller that is cancelled while it waits has its turn stored all the same.

        A turn whose `session_id` is that of an earlier transcript, because the session was reset
        while it was made, goes there; the current transcript stays the current one.
        """
        append: BatchWork[Turn, int] = self._one_offs.append_turns
        stored = self._require().writer.submit_batched(append, turn)
        self._working_set.appending(turn, stored)
        if turn.one_off:
            stored.add_done_callback(self._one_offs.count)
        await shielded(stored)

    async def append_step(self, turn: OpenTurn, number: int, step: Step) -> None:
        await self.write(partial(put_step, turn=turn, number=number, step=step))

    async def open_turn(self, run_id: str, attempt: int) -> OpenTurn | None:
        return await self.write(partial(take_open_turn, run_id=run_id, attempt=attempt))

    async def open_turns(self) -> tuple[OpenTurn, ...]:
        return await self.read(partial(list_open_turns, damage=self._damage))

    async def end_turn(self, turn: OpenTurn, *, note: str, at: float) -> bool:
        end = partial(end_open_turn, turn=turn, note=note, at=at, kept_from=self._one_offs.now())
        return await self._change(turn.key, end)

    async def prune_one_off(self, keep: float | None, max_bytes: int | None = None) -> int:
        self._require()
        return await self._one_offs.prune(keep, max_bytes)

    async def turn(self, run_id: str) -> Turn | None:
        return await self.read(partial(find_turn, run_id=run_id))

    async def span(self, run_id: str) -> Span | None:
        return await self.read(partial(find_span, run_id=run_id))

    async def list(self, query: SessionQuery) -> SessionPage:
        return await self.read(partial(list_sessions, query=query, damage=self._damage))

    async def find(self, key: SessionKey) -> SessionInfo | None:
        return await self.read(partial(find_session, key=key, damage=self._damage))

    async def find_by_id(self, session_id: str) -> tuple[SessionInfo, ...]:
        return await self.read(partial(find_by_id, session_id=session_id, damage=self._damage))

    async def patch(
        self, key: SessionKey, changes: Changes, *, at: float, new_id: str
    ) -> SessionInfo:
        changes = dict(changes)  # Written a moment later, in another thread.
        patch = partial(patch_session, key=key, changes=changes, at=at, new_id=new_id)
        return await self._change(key, partial(patch, damage=self._damage))

    async def reset(self, key: SessionKey, *, at: float, new_id: str) -> SessionInfo:
        reset = partial(reset_session, key=key, at=at, new_id=new_id, damage=self._damage)
        return await self._change(key, reset)

    async def compact(
        self, key: SessionKey, keep: int, *, at: float, new_id: str
    ) -> tuple[SessionInfo, int] | None:
        compact = partial(compact_session, key=key, keep=keep, at=at, new_id=new_id)
        return await self._change(key, partial(compact, damage=self._damage))

    async def branch(
        self, key: SessionKey, through: int, *, at: float, new_id: str
    ) -> SessionInfo | None:
        branch = partial(branch_session, key=key, through=through, at=at, new_id=new_id)
        return await self._change(key, partial(branch, damage=self._damage))

    async def delete(self, key: SessionKey) -> bool:
        return await self._change(key, partial(delete_session, key=key))

    async def messages(
        self,
        key: SessionKey,
        *,
        limit: int,
        before: int | None = None,
        session_id: str | None = None,
    ) -> tuple[KeptMessage, ...]:
        read = partial(read_messages, key=key, limit=limit, before=before, session_id=session_id)
        return await self.read(partial(read, damage=self._damage))

    async def messages_since_pause(self, key: SessionKey, seconds: float) -> int:
        read = partial(messages_since_pause, key=key, seconds=seconds, damage=self._damage)
        return await self.read(read)

    async def transcripts(self, key: SessionKey, limit: int) -> tuple[KeptTranscript, ...]:
        return await self.read(partial(read_transcripts, key=key, limit=limit, damage=self._damage))

    async def usage(self, query: UsageQuery) -> tuple[PeriodUsage, ...]:
        return await self.read(partial(read_usage, query=query, damage=self._damage))

    async def check_writable(self) -> None:
        """After a failed write, with little room on the disk, or with another file at the path,
        write for real; else ask the system only, twice in each turn of the event loop. It gets
        well by itself: the next check finds room again."""
        opened = self._require()
        directory = self._path.parent
        writer = opened.writer
        if writer.damage is not None:
            raise StoreFailed(_refusal(writer.damage))
        if not writer.failing:
            if opened.sound.done:
                return
            if opened.files.seem_in_place() and not is_short(directory):
                opened.sound.mark()
                return
        try:
            async with asyncio.timeout(self._check_timeout):
                await asyncio.to_thread(opened.files.check)
                await asyncio.to_thread(try_to_write, directory)
                if writer.failing:
                    await writer.submit(touch)
        except TimeoutError as error:
            raise self._stuck() from error
        except (OSError, sqlite3.Error) as error:
            writer.failures.failed(error)
            raise StoreFailed(_refusal(error)) from error

    async def check(self) -> None:
        """Read, and take the write lock; after a failed write, or with little room on the disk,
        write for real.

        An ordinary check thus costs no fsync. Raises StoreFailed, also when the file at the path
        is not the one that was opened: what is written to a deleted file is lost.
        """
        opened = self._require()
        try:
            async with asyncio.timeout(self._check_timeout):
                await opened.readers.run(partial(_probe, opened.files))
                if not opened.writer.failing:
                    await opened.writer.submit(_nothing)
        except TimeoutError as error:
            raise self._stuck() from error
        await self.check_writable()

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        await self._one_offs.close()
        if opened is not None:
            self._working_set.clear()
            await asyncio.to_thread(opened.readers.close)
            await opened.writer.close()

    def _stuck(self) -> StoreFailed:
        return StoreFailed(f"The session store did not answer within {self._check_timeout:g} s.")

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._require().readers.run(work)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Change something that is not a session's. Durable when it returns, and done also when
        the caller is cancelled."""
        try:
            return await shielded(self._require().writer.submit(work))
        except Undecodable as error:
            raise StoreFailed(f"The session store cannot be read: {error}.") from error

    async def _change(self, key: SessionKey, work: Callable[[sqlite3.Connection], T]) -> T:
        """Durable when it returns, and done also when the caller is cancelled."""
        changed = self._require().writer.submit(work)
        self._working_set.changing(key, changed)
        try:
            return await shielded(changed)
        except Undecodable as error:
            raise StoreFailed(f"The session store cannot be read: {error}.") from error

    async def _prune(self, work: Callable[[sqlite3.Connection], T]) -> T:
        pruned = self._require().writer.submit(work)
        self._working_set.pruning(pruned)
        return await shielded(pruned)

    def _require(self) -> _Opened:
        if self._opened is None:
            raise StoreFailed("The session store is not open.")
        return self._opened


def _probe(files: DatabaseFiles, connection: sqlite3.Connection) -> None:
    files.check()
    connection.execute("SELECT 1 FROM sessions LIMIT 1").fetchone()


def _refusal(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    refusal = f"The session store cannot be written: {reason}. Nothing was sent to a model"
    if isinstance(error, FileLost):
        return f"{refusal}: put the file back, or restart the Gateway to begin with what is there."
    if is_damage(error):
        return f"{refusal}. {SESSIONS.advice}"
    return f"{refusal}; the Gateway goes on by itself once there is room."


def _nothing(connection: sqlite3.Connection) -> None:
    """To be committed: taking the write lock is the probe."""

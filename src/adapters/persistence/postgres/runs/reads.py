"""What is read of Runs."""

from __future__ import annotations

from .....domain.ports import RunCounts
from .....domain.runs import RunQuery
from ...common import Numbered, decode_cursor
from ..columns import data
from ..database import Database
from .rows import RECORD, STORED, StoredRun, record_of_row, stored_of_row

_FIND = f"SELECT {RECORD} FROM runs WHERE id = %s"  # noqa: S608 - no values in it
_STORED = f"SELECT {STORED} FROM runs WHERE id = %s"  # noqa: S608 - the same
_LIST = f"""
    SELECT {RECORD} FROM runs
    WHERE (%s::bytea IS NULL OR session_key = %s) AND (%s::bytea IS NULL OR agent_id = %s)
        AND (%s::bytea IS NULL OR principal_id = %s) AND (%s::text IS NULL OR status = %s)
        AND (%s::bigint IS NULL OR number < %s)
    ORDER BY number DESC LIMIT %s"""  # noqa: S608 - the same
_UNFINISHED = f"""
    SELECT {STORED} FROM runs
    WHERE state <> 'ended' AND (%s::bytea IS NULL OR session_key = %s)
        AND (%s OR state <> 'waiting')
    ORDER BY number"""  # noqa: S608 - the same

_COUNT = "SELECT state, count(*)::integer FROM runs WHERE state <> 'ended' GROUP BY state"


async def find_run(database: Database, run_id: str) -> Numbered | None:
    row = await database.row(_FIND, (data(run_id),))
    return None if row is None else record_of_row(row)


async def stored_run(database: Database, run_id: str) -> StoredRun | None:
    row = await database.row(_STORED, (data(run_id),))
    return None if row is None else stored_of_row(row)


async def list_runs(database: Database, query: RunQuery, limit: int) -> list[Numbered]:
    """Raises InvalidRequest for a bad cursor."""
    key = None if query.session_key is None else data(str(query.session_key))
    agent = None if query.agent_id is None else data(query.agent_id)
    principal = None if query.principal_id is None else data(query.principal_id)
    status = None if query.status is None else str(query.status)
    before = decode_cursor(query.cursor)
    filters = (key, agent, principal, status, before)
    rows = await database.rows(_LIST, (*(value for one in filters for value in (one, one)), limit))
    return [record_of_row(row) for row in rows]


async def count_runs(database: Database) -> RunCounts:
    """Of all processes."""
    by_state = dict(await database.rows(_COUNT))
    return RunCounts(
        waiting=by_state.get("ready", 0),
        queued=by_state.get("queued", 0),
        running=by_state.get("held", 0),
        paused=by_state.get("waiting", 0),
    )


async def unfinished_runs(
    database: Database, session_key: str | None, *, waiting: bool
) -> list[StoredRun]:
    """In the order they came."""
    key = None if session_key is None else data(session_key)
    rows = await database.rows(_UNFINISHED, (key, key, waiting))
    return [stored_of_row(row) for row in rows]

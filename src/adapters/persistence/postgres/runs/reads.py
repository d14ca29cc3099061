"""What is read of Runs."""

from __future__ import annotations

from collections.abc import Sequence

from .....domain.ports import RunCounts
from .....domain.runs import RunQuery
from ...common import Numbered, decode_cursor, text
from ..columns import data
from ..database import Database
from .rows import RECORD, STORED, StoredRun, record_of_row, stored_of_row

_FIND = f"SELECT {RECORD} FROM runs WHERE id = %s"  # noqa: S608 - no values in it
_STORED = f"SELECT {STORED} FROM runs WHERE id = %s"  # noqa: S608 - the same
_WHICH_GO_ON = "SELECT id FROM runs WHERE id = ANY(%s) AND state <> 'ended'"
_LIST = f"""
    SELECT {RECORD} FROM runs
    WHERE {{state}} (%s::bytea IS NULL OR session_key = %s) AND (%s::bytea IS NULL OR agent_id = %s)
        AND (%s::bytea IS NULL OR principal_id = %s) AND (%s::text IS NULL OR status = %s)
        AND (%s::bigint IS NULL OR number < %s)
    ORDER BY number DESC LIMIT %s"""  # noqa: S608 - the same
_LIST_ALL = _LIST.format(state="")
_LIST_UNFINISHED = _LIST.format(state="state <> 'ended' AND")
"""With an index that has no ended Runs, which are many more."""
_UNFINISHED = f"""
    SELECT {STORED} FROM runs
    WHERE state <> 'ended' AND (%s::bytea IS NULL OR session_key = %s)
        AND (%s OR state <> 'waiting')
    ORDER BY number"""  # noqa: S608 - the same

_COUNT = "SELECT state, count(*)::integer FROM runs WHERE state <> 'ended' GROUP BY state"


async def find_run(database: Database, run_id: str) -> Numbered | None:
    row = await database.row(_FIND, (data(run_id),))
    return None if row is None else record_of_row(row)


async def which_go_on(database: Database, run_ids: Sequence[str]) -> frozenset[str]:
    """Those of the Runs that are there and have not ended."""
    rows = await database.rows(_WHICH_GO_ON, ([data(run_id) for run_id in run_ids],))
    return frozenset(text(run_id) for (run_id,) in rows)


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
    goes_on = query.status is not None and not query.status.final
    listing = _LIST_UNFINISHED if goes_on else _LIST_ALL
    rows = await database.rows(
        listing, (*(value for one in filters for value in (one, one)), limit)
    )
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

"""Which sessions a summary is being written of, at whichever node."""

from __future__ import annotations

from .....domain.sessions import SessionKey
from ..columns import data
from ..database import Database

# A process calls it once for a session, so one that finds its own lock repeats a call whose answer
# was lost.
_LOCK = """
    INSERT INTO summary_locks AS known VALUES (%s, %s, server_now() + %s)
    ON CONFLICT (session_key) DO UPDATE SET node = excluded.node, until = excluded.until
        WHERE known.until < server_now() OR known.node = excluded.node OR NOT EXISTS (
            SELECT FROM nodes n
            WHERE n.id = known.node AND n.heartbeat_at > server_now() - n.lease)
    RETURNING true"""
_UNLOCK = "DELETE FROM summary_locks WHERE session_key = %s AND node = %s"


class PostgresSummaryLocks:
    """SummaryLocks of the process `node_id`. It must be in the table of nodes: the lock of a
    process that is not alive does not count."""

    def __init__(self, database: Database, node_id: str) -> None:
        self._database = database
        self._node_id = node_id

    async def lock(self, key: SessionKey, seconds: float) -> bool:
        values = (data(str(key)), self._node_id, seconds)
        return await self._database.row(_LOCK, values) is not None

    async def unlock(self, key: SessionKey) -> None:
        await self._database.execute(_UNLOCK, (data(str(key)), self._node_id))

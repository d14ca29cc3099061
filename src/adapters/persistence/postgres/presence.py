"""The connected clients of each process in PostgreSQL."""

from __future__ import annotations

from .database import Database

_PUT = """
    WITH gone AS (DELETE FROM presence WHERE seen_at < server_now() - %(expires)s)
    INSERT INTO presence VALUES (%(node)s, %(clients)s, server_now())
    ON CONFLICT (node) DO UPDATE SET clients = excluded.clients, seen_at = excluded.seen_at"""
_OTHERS = """
    SELECT clients FROM presence
    WHERE node <> %s AND seen_at >= server_now() - %s ORDER BY node"""
_REMOVE = "DELETE FROM presence WHERE node = %s"


class PostgresPresence:
    """A PresenceBook in a Database, which others open and close. `expires`: seconds after which the
    clients of a process that does not repeat them are not listed."""

    def __init__(self, database: Database, node_id: str, *, expires: float = 30.0) -> None:
        self._database = database
        self._node_id = node_id
        self._expires = expires

    async def put(self, clients: str) -> None:
        values = {"node": self._node_id, "clients": clients, "expires": self._expires}
        await self._database.execute(_PUT, values)

    async def others(self) -> tuple[str, ...]:
        rows = await self._database.rows(_OTHERS, (self._node_id, self._expires))
        return tuple(clients for (clients,) in rows)

    async def remove(self) -> None:
        await self._database.execute(_REMOVE, (self._node_id,))

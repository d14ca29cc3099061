"""Forgets Runs that ended long ago, and events that take too much room."""

from __future__ import annotations

from ..database import Database

_AT_ONCE = 1_000
_PRUNE = """
    WITH mine AS MATERIALIZED (
        SELECT pg_try_advisory_xact_lock(
            hashtextextended('prune runs ' || current_schema(), 0)) AS it
    ), old AS MATERIALIZED (
        SELECT r.number FROM runs r, mine
        WHERE mine.it AND r.state = 'ended' AND r.kept_from < server_now() - %s
        ORDER BY r.kept_from LIMIT %s FOR UPDATE OF r SKIP LOCKED
    ), events_gone AS (
        DELETE FROM events e USING old WHERE e.run = old.number
    )
    DELETE FROM runs r USING old WHERE r.number = old.number"""
_SHRINK = """
    WITH mine AS MATERIALIZED (
        SELECT pg_try_advisory_xact_lock(
            hashtextextended('prune runs ' || current_schema(), 0)) AS it
    ), sized AS (
        SELECT r.number, r.size, r.kept_from,
            sum(r.size) OVER (ORDER BY r.kept_from DESC, r.number DESC) AS newer
        FROM runs r, mine WHERE mine.it AND r.state = 'ended'
    ), large AS MATERIALIZED (
        SELECT s.number FROM sized s WHERE s.newer > %s AND s.size > 0
        ORDER BY s.kept_from LIMIT %s
    ), events_gone AS (
        DELETE FROM events e USING large WHERE e.run = large.number
    )
    UPDATE runs r SET size = 0 FROM large WHERE r.number = large.number"""


class Pruner:
    """Runs are known for `keep_seconds` after their end, by the database's clock; the events of all
    ended Runs take about `keep_bytes`, and those of the oldest go first."""

    def __init__(self, database: Database, *, keep_seconds: float, keep_bytes: int) -> None:
        self._database = database
        self._keep_seconds = keep_seconds
        self._keep_bytes = keep_bytes

    async def prune(self) -> None:
        """Nothing happens where another process does it right now. Raises StoreFailed."""
        while await self._database.execute(_PRUNE, (self._keep_seconds, _AT_ONCE)) == _AT_ONCE:
            pass
        while await self._database.execute(_SHRINK, (self._keep_bytes, _AT_ONCE)) == _AT_ONCE:
            pass

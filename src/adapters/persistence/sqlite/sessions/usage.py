"""What the turns of a SQLite database have used, as a function of a connection."""

from __future__ import annotations

import sqlite3
from bisect import bisect_right

from .....domain.sessions import PeriodUsage, UsageQuery
from ...common import Cells, DamageLog
from ..columns import column

# `total` where `sum` would refuse what absurd counts of a provider add up to.
_USAGE = """
    SELECT period_of(turns.at) AS period, sessions.agent_id, turns.model, count(*),
           CAST(total(turns.message_count) AS INTEGER),
           CAST(total(turns.input_tokens) AS INTEGER), CAST(total(turns.output_tokens) AS INTEGER),
           CAST(total(turns.cached_tokens) AS INTEGER), min(turns.at), max(turns.at)
    FROM turns JOIN transcripts ON transcripts.id = turns.transcript
    JOIN sessions ON sessions.id = transcripts.session
    WHERE turns.at >= :first AND turns.at < :end
        AND (:agent IS NULL OR sessions.agent_id = :agent)
        AND (:key IS NULL OR sessions.key = :key)
    GROUP BY period, sessions.agent_id, turns.model"""
_OF_SESSION = _USAGE.replace(":key IS NULL OR ", "")
"""The same where a key is given: found by the key's index, not among all turns."""


def read_usage(
    connection: sqlite3.Connection, query: UsageQuery, damage: DamageLog
) -> tuple[PeriodUsage, ...]:
    """SessionCatalog.usage. Turns whose time is not a number are in no period. Raises
    sqlite3.Error."""
    bounds = query.bounds
    # Days of a time zone are of unequal length, which SQL cannot count.
    connection.create_function("period_of", 1, lambda at: bisect_right(bounds, at) - 1)
    values = {
        "first": bounds[0],
        "end": bounds[-1],
        "agent": None if query.agent_id is None else column(query.agent_id),
        "key": None if query.key is None else column(str(query.key)),
    }
    rows = connection.execute(_USAGE if query.key is None else _OF_SESSION, values).fetchall()
    cells = Cells("turns", damage)
    found = (
        PeriodUsage(period, cells.text("agent", agent_id), cells.text("model", model), *sums)
        for period, agent_id, model, *sums in rows
    )
    return tuple(sorted(found, key=lambda usage: (usage.period, usage.agent_id, usage.model)))

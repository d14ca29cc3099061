"""What the turns in PostgreSQL have used."""

from __future__ import annotations

from typing import Any

from .....domain.sessions import PeriodUsage, UsageQuery
from ...common import MAX_INTEGER, Cells
from ..columns import data, optional_data
from ..database import Values

_SUM = f"greatest(least(coalesce(sum({{}}), 0), {MAX_INTEGER}), -{MAX_INTEGER})::bigint"
# Periods are numbered from 0; those of a time zone are of unequal length.
_USAGE = f"""
    SELECT width_bucket(turns.at, %(bounds)s::float8[]) - 1 AS period, sessions.agent_id,
           turns.model, count(*), {_SUM.format("turns.message_count")},
           {_SUM.format("turns.input_tokens")}, {_SUM.format("turns.output_tokens")},
           {_SUM.format("turns.cached_tokens")}, min(turns.at), max(turns.at)
    FROM turns JOIN transcripts ON transcripts.id = turns.transcript
    JOIN sessions ON sessions.id = transcripts.session
    WHERE turns.at >= %(first)s AND turns.at < %(end)s {{where}}
    GROUP BY period, sessions.agent_id, turns.model"""  # noqa: S608 - no values in it


def usage_query(query: UsageQuery) -> tuple[str, Values]:
    conditions = ""
    if query.agent_id is not None:
        conditions += " AND sessions.agent_id = %(agent)s"
    if query.key is not None:
        conditions += " AND sessions.key = %(key)s"
    bounds = [float(bound) for bound in query.bounds]
    return _USAGE.format(where=conditions), {
        "bounds": bounds,
        "first": bounds[0],
        "end": bounds[-1],
        "agent": optional_data(query.agent_id),
        "key": None if query.key is None else data(str(query.key)),
    }


def usage_of(rows: list[tuple[Any, ...]], cells: Cells) -> tuple[PeriodUsage, ...]:
    found = (
        PeriodUsage(period, cells.text("agent", agent_id), cells.text("model", model), *sums)
        for period, agent_id, model, *sums in rows
    )
    return tuple(sorted(found, key=lambda usage: (usage.period, usage.agent_id, usage.model)))

"""`GET /metrics` of nodes that share a database."""

from __future__ import annotations

from pathlib import Path

import psycopg

from tests.app.nodes import serving_nodes
from tests.app.serving import config
from tests.app.test_metrics import ECHO, scraped

_WAITING = """
    INSERT INTO runs (id, token, session_key, agent_id, principal_id, source, on_leave, fingerprint,
        accepted_at, state, lane, position, depth, queued_at)
    SELECT n::text::bytea, n, 'agent:main:x', 'main', '', '', 'abort', '', 0, 'ready',
        n::text::bytea, n, 7, 0
    FROM generate_series(1, 3) AS n"""


async def test_each_node_shows_the_runs_of_all_and_its_own_work(
    emptied_postgres: str, tmp_path: Path
) -> None:
    roles = ("gateway", "worker")
    async with serving_nodes(tmp_path, emptied_postgres, config(agents=ECHO), roles) as nodes:
        gateway = nodes[0]
        await gateway.text(user="u")
        shown = [await scraped(node) for node in nodes]
    for values in shown:
        assert values["store_up"] == 1
        assert 0 < values["bell_lag_seconds"] < 2
        assert values["database_connections"] >= 1
        assert values["database_connections_waited_for"] == 0
        assert values["runs_running"] == values["runs_waiting"] == values["take_overs_total"] == 0
    assert shown[1]["flushes_total"] > 0
    assert shown[1]["flush_seconds_total"] > 0
    assert 0.02 <= shown[1]["flush_window_seconds"] <= 0.16


async def test_runs_that_wait_for_a_slot_are_counted_by_every_node(
    emptied_postgres: str, tmp_path: Path
) -> None:
    """Kubernetes scales the workers by this number."""
    content = config(agents=ECHO)
    async with serving_nodes(tmp_path, emptied_postgres, content, ("gateway",)) as (gateway,):
        with psycopg.connect(emptied_postgres) as connection:
            connection.execute(_WAITING)
        assert (await scraped(gateway))["runs_waiting"] == 3

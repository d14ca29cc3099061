"""Which runs a process claims that cannot execute each agent."""

from __future__ import annotations

import re

from opensoul.domain.sessions import SessionKey
from tests.fakes.domain import run

from .postgres_runs import LEASE, node, set_clock, stop_clock


async def test_a_process_does_not_claim_runs_of_agents_that_it_cannot_execute(
    postgres_url: str,
) -> None:
    async with node(postgres_url, "gateway", works=False) as gateway:
        await stop_clock(gateway)
        for agent in ("main", "other"):
            key = SessionKey(agent, "talk")
            await gateway.queue.enqueue(run(f"of {agent}", session_key=key, agent_id=agent))

        async def claimed(owner: str, *unable: str) -> list[str]:
            sql = "SELECT id FROM run_claim_able(%s, %s, %s, %s) ORDER BY id"
            values = (owner, LEASE, [5, 0], [agent.encode() for agent in unable])
            return [bytes(row[0]).decode() for row in await gateway.database.rows(sql, values)]

        assert await claimed("a", "main", "other") == []
        assert await claimed("a", "main") == ["of other"]
        await set_clock(gateway, LEASE + 1, started=-2 * LEASE)
        assert await claimed("b", "other") == ["of main"]
        assert await claimed("b", "main", "other") == []
        assert await claimed("c", "main") == ["of other"]
        await set_clock(gateway, 3 * LEASE, started=-2 * LEASE)
        assert await claimed("d") == ["of main", "of other"]


async def test_the_claims_of_all_processes_follow_the_same_rules(postgres_url: str) -> None:
    async with node(postgres_url) as one:
        source = "SELECT prosrc FROM pg_proc WHERE oid = %s::regproc"
        names = ("run_claim", "run_claim_able")
        (of_all,), (of_some,) = [(await one.database.rows(source, (name,)))[0] for name in names]
        condition = re.compile(r"\n +AND r\.agent_id <> ALL \(p_unable\)")
        assert len(condition.findall(of_some)) == 2
        assert condition.sub("", of_some) == of_all

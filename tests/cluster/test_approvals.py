"""Tool calls that wait for a person: asked for at one node, decided at another one."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from opensoul.client import CallFailed, Waiting
from tests.app.serving import config
from tests.approvals.office import ARGUMENTS, calls
from tests.cluster.nodes import Machines, machines
from tests.e2e.test_killed_approvals import install, said
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ROLES = {"a": "gateway", "b": "gateway", "w1": "worker", "w2": "worker"}


@asynccontextmanager
async def office(home: Path) -> AsyncIterator[tuple[Machines, FakeProvider]]:
    install(home / "packages")
    environment = {"PYTHONPATH": str(home / "packages"), "SENT": str(home / "sent")}
    async with FakeProvider() as provider:
        whole = config(provider.base_url, tools={"allow": ["send"]})
        sections = {name: whole[name] for name in ("models", "tools")}
        agents = {"list": [{"id": "main", "model": {"primary": "fake/m"}}]}
        async with machines(
            home, ROLES, environment=environment, agents=agents, **sections
        ) as started:
            yield started, provider


async def test_a_call_is_approved_at_the_other_node_after_its_worker_has_died(
    tmp_path: Path,
) -> None:
    async with office(tmp_path) as (started, provider):
        provider.will(calls(), answer("It is sent."))
        async with started["a"].client() as asker, started["b"].client() as decider:
            run = await asker.run_agent("Send it.")
            async for event in run.events():
                if isinstance(event, Waiting):
                    break
            for worker in started.workers:
                await worker.kill()
            (waiting,) = await decider.approvals()
            await decider.decide(waiting.id, "allow-once")
            for worker in started.workers:
                await worker.start()
            result = await run.result(120)
            with pytest.raises(CallFailed):
                await asker.decide(waiting.id, "deny")
            approved = await asker.approval(waiting.id)

    assert result.status == "ok", result
    assert result.text.endswith("It is sent.")
    assert approved.run_id == run.run_id
    assert (tmp_path / "sent").read_text() == f"{json.dumps(ARGUMENTS)}\n"


async def test_a_code_is_good_at_the_other_node_and_only_once(tmp_path: Path) -> None:
    async with office(tmp_path) as (started, provider):
        provider.will(calls(), answer("It is sent."))
        _, asked = await said(started["a"].process, "Send it.")
        (code,) = re.findall(r"^approve (\S+)$", asked, re.MULTILINE)

        assert await said(started["b"].process, f"approve {code}") == (200, "It is sent.")
        assert (await said(started["a"].process, f"approve {code}"))[0] in (404, 409)

    assert (tmp_path / "sent").read_text() == f"{json.dumps(ARGUMENTS)}\n"


async def test_of_two_decisions_at_two_processes_at_once_one_counts(tmp_path: Path) -> None:
    async with office(tmp_path) as (started, provider):
        sent = 0
        async with started["a"].client() as asker, started["b"].client() as decider:
            for number in range(10):
                provider.will(calls({**ARGUMENTS, "number": number}), answer("Done."))
                run = await asker.run_agent("Send it.")
                async for event in run.events():
                    if isinstance(event, Waiting):
                        break
                (waiting,) = await decider.approvals()
                outcomes = await asyncio.gather(
                    asker.decide(waiting.id, "deny"),
                    decider.decide(waiting.id, "allow-once"),
                    return_exceptions=True,
                )
                (refused,) = [one for one in outcomes if isinstance(one, BaseException)]
                assert isinstance(refused, CallFailed)
                assert "was decided before" in str(refused)
                allowed = not isinstance(outcomes[1], BaseException)
                assert (await asker.approval(waiting.id)).decision == (
                    "allow-once" if allowed else "deny"
                )
                await run.result(60)
                sent += allowed
        lines = (tmp_path / "sent").read_text().splitlines() if sent else []
        assert len(lines) == sent

"""Sub-agents of a real Gateway: what their parent gets, their limits, and how they end."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from opensoul.domain.errors import ApprovalDecided
from opensoul.domain.runs import (
    Aborted,
    OnLeave,
    RunStatus,
    ToolProgress,
    ToolStarted,
)
from opensoul.domain.tools import Approval, Decision
from tests.app.delegating import (
    ANY,
    OPERATOR,
    STORES,
    Holding,
    Office,
    call,
    content,
    office,
    spawn,
)

PARENT_ENDED = "The run that started it has ended."
EACH_STORE = pytest.mark.parametrize("gateway", STORES, indirect=True)


@pytest_asyncio.fixture
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Office]:
    configuration = content(
        getattr(request, "param", "memory"),
        subagents={"maxSpawnDepth": 2, "maxChildrenPerAgent": 3},
    )
    async with office(tmp_path, configuration) as made:
        yield made


@EACH_STORE
async def test_the_answer_of_a_sub_agent_is_the_result_of_the_call(gateway: Office) -> None:
    run_id = await gateway.submit(spawn("Say hello.", label="greeter"))

    result = await gateway.result(run_id)

    (child,) = await gateway.children()
    assert result == {
        "childSessionKey": str(child.session_key),
        "runId": child.id,
        "status": "ok",
        "reply": "You said: Say hello.",
    }
    assert (child.status, child.source) == (RunStatus.FINISHED, "subagent")
    assert child.session_key.rest.startswith("subagent:")
    progress = [
        one.event for one in await gateway.events(run_id) if isinstance(one.event, ToolProgress)
    ]
    assert [json.loads(event.text)["runId"] for event in progress] == [child.id]


@pytest.mark.parametrize("task", ["/new", "/stop", "/help"])
async def test_a_task_is_no_command(gateway: Office, task: str) -> None:
    result = await gateway.result(await gateway.submit(spawn(task)))
    assert (result["status"], result["reply"]) == ("ok", f"You said: {task}")


@EACH_STORE
async def test_sub_agents_of_one_step_work_at_the_same_time(gateway: Office) -> None:
    tasks = [spawn(call("hold", name=name)) for name in "abc"]
    run_id = await gateway.submit("\n".join(tasks))

    begun = {await gateway.holding.begun.get() for _ in tasks}
    gateway.holding.let_go.set()
    answer = await gateway.answer(run_id)

    assert begun == {"a", "b", "c"}
    assert [f"held {name}" in answer for name in "abc"] == [True] * 3


async def test_one_run_has_only_so_many_sub_agents_at_the_same_time(gateway: Office) -> None:
    run_id = await gateway.held()
    context = await gateway.context(run_id)
    for number in range(3):
        task = call("hold", name=f"child {number}")
        begun, failed = await gateway.call(
            context, "sessions_spawn", key=f"k{number}", task=task, timeoutSeconds=0
        )
        assert (begun["status"], failed) == ("accepted", False)
        await gateway.holding.begun.get()

    refused, failed = await gateway.call(context, "sessions_spawn", key="k4", task="One more.")

    assert failed
    assert "maxChildrenPerAgent is 3" in refused["error"]
    assert len(await gateway.children()) == 3


async def test_the_deepest_sub_agents_start_no_others(gateway: Office) -> None:
    deepest = spawn("Too deep.")
    run_id = await gateway.submit(spawn(spawn(deepest)))

    answer = await gateway.answer(run_id)

    assert "'sessions_spawn' is not allowed here" in answer or "no tool" in answer
    depths = sorted(run.session_key.depth for run in (await gateway.runs()).values())
    assert depths == [0, 1, 2]


@EACH_STORE
async def test_a_call_that_is_made_again_starts_no_second_sub_agent(gateway: Office) -> None:
    context = await gateway.context(await gateway.held())

    first = await gateway.call(context, "sessions_spawn", key="k", task="Once.", label="one")
    again = await gateway.call(context, "sessions_spawn", key="k", task="Once.", label="one")
    another = await gateway.call(context, "sessions_spawn", key="k2", task="Once.")

    assert first == again
    assert another[0]["runId"] != first[0]["runId"]
    assert len(await gateway.children()) == 2


@EACH_STORE
async def test_sub_agents_end_with_the_run_that_started_them_at_every_depth(
    gateway: Office,
) -> None:
    run_id = await gateway.submit(spawn(spawn(call("hold", name="grandchild"))))
    assert await gateway.holding.begun.get() == "grandchild"
    runs = await gateway.runs()

    assert await gateway.gateway.abort(OPERATOR, run_id, "Enough.")

    ended = {run.session_key.depth: await gateway.end(run.id) for run in runs.values()}
    assert ended == {0: Aborted("Enough."), 1: Aborted(PARENT_ENDED), 2: Aborted(PARENT_ENDED)}


async def test_a_sub_agent_that_nobody_waits_for_ends_with_its_parent(gateway: Office) -> None:
    run_id = await gateway.submit(spawn(call("hold", name="child"), timeoutSeconds=0) + "\nDone.")

    assert await gateway.answer(run_id) == "Done."

    (child,) = await gateway.children()
    assert await gateway.end(child.id) == Aborted(PARENT_ENDED)


async def test_a_sub_agent_that_fails_is_an_error_for_its_parent(gateway: Office) -> None:
    task = call("hold", name="child")
    run_id = await gateway.submit(spawn(task, runTimeoutSeconds=0.05))

    answer = await gateway.result(run_id)

    assert answer["status"] == "error"
    assert "longer than the 0.05 s it may" in answer["error"]


async def test_waiting_for_a_sub_agent_can_be_limited(gateway: Office) -> None:
    context = await gateway.context(await gateway.held())
    task = call("hold", name="child")

    result, failed = await gateway.call(context, "sessions_spawn", task=task, timeoutSeconds=0.01)

    assert (result["status"], failed) == ("timeout", False)
    state, _ = await gateway.call(context, "session_status", sessionKey=result["childSessionKey"])
    assert (state["status"], state["activeRunIds"]) == ("running", [result["runId"]])


@EACH_STORE
async def test_a_sub_agent_has_the_settings_of_the_call(gateway: Office) -> None:
    context = await gateway.context(await gateway.held())

    result, _ = await gateway.call(
        context,
        "sessions_spawn",
        task="Hello.",
        label="greeter",
        thinking="low",
        model="scripted/m",
        cleanup="delete",
    )

    (info,) = [
        one
        for one in (await gateway.served.container.session_service().list(OPERATOR, ANY)).sessions
        if str(one.key) == result["childSessionKey"]
    ]
    assert dict(info.settings) == {
        "spawnedBy": "agent:main:talk",
        "label": "greeter",
        "thinkingLevel": "low",
        "model": "scripted/m",
        "archived": True,
    }


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"agentId": "helper"}, "may not start sub-agents of the agent 'helper'. Allowed: main"),
        ({"agentId": "nobody"}, "may not start sub-agents of the agent 'nobody'"),
        ({"model": "scripted/other"}, "model not allowed"),
        ({"thinking": "very"}, "invalid thinkingLevel"),
        ({"label": "taken"}, "label already in use: taken"),
        ({"task": ""}, "task: String should have at least 1 character"),
        ({"cleanup": "burn"}, "cleanup: Input should be 'keep' or 'delete'"),
    ],
)
async def test_what_cannot_be_started_is_refused(
    gateway: Office, arguments: dict[str, Any], why: str
) -> None:
    context = await gateway.context(await gateway.held())
    await gateway.call(context, "sessions_spawn", key="k0", task="x", label="taken")

    refused, failed = await gateway.call(
        context, "sessions_spawn", key="k1", **{"task": "Hello.", **arguments}
    )

    assert failed
    assert why in refused["error"]
    assert len(await gateway.children()) == 1


async def test_a_run_that_has_ended_starts_no_sub_agent(gateway: Office) -> None:
    run_id = await gateway.held()
    context = await gateway.context(run_id)
    gateway.holding.let_go.set()
    await gateway.end(run_id)

    refused, failed = await gateway.call(context, "sessions_spawn", task="Hello.")

    assert (refused["error"], failed) == ("Only a run that goes on may do this.", True)


async def test_another_agent_is_started_where_that_is_allowed(tmp_path: Path) -> None:
    configuration = content("memory", subagents={"allowAgents": ["helper"]})
    async with office(tmp_path, configuration) as gateway:
        run_id = await gateway.submit(spawn("Help.", agentId="helper"))
        result = await gateway.result(run_id)

    assert result["childSessionKey"].startswith("agent:helper:subagent:")
    assert result["status"] == "ok"


async def test_parents_that_wait_do_not_keep_their_sub_agents_from_working(
    tmp_path: Path,
) -> None:
    configuration = content(
        "memory", maxConcurrent=2, subagents={"maxConcurrent": 1, "maxSpawnDepth": 2}
    )
    async with office(tmp_path, configuration) as gateway:
        runs = [
            await gateway.submit(spawn(spawn("Hello.")), key=f"talk-{number}")
            for number in range(6)
        ]
        answers = [await gateway.result(run_id) for run_id in runs]

    assert {answer["status"] for answer in answers} == {"ok"}


# Approvals


@pytest_asyncio.fixture
async def asking(tmp_path: Path) -> AsyncIterator[tuple[Office, asyncio.Queue[Approval]]]:
    """A Gateway whose tool `hold` needs an approval, and the approvals that are requested."""
    async with office(tmp_path, content("memory", tools={"ask": ["hold"]})) as made:
        requested: asyncio.Queue[Approval] = asyncio.Queue()
        made.served.container.approvals().on_requested(requested.put_nowait)
        yield made, requested


async def test_a_sub_agent_waits_for_an_approval_and_its_parent_for_the_sub_agent(
    asking: tuple[Office, asyncio.Queue[Approval]],
) -> None:
    gateway, requested = asking
    run_id = await gateway.submit(spawn(call("hold", name="child")))
    approval = await requested.get()
    gateway.holding.let_go.set()

    approvals = gateway.served.container.approvals()
    await approvals.decide(OPERATOR, approval.id, Decision.ALLOW)
    result = await gateway.result(run_id)

    assert approval.session_key == result["childSessionKey"]
    assert "held child" in result["reply"]


async def test_a_sub_agent_that_waits_for_an_approval_ends_with_its_parent(
    asking: tuple[Office, asyncio.Queue[Approval]],
) -> None:
    gateway, requested = asking
    run_id = await gateway.submit(spawn(call("hold", name="child")))
    approval = await requested.get()

    await gateway.gateway.abort(OPERATOR, run_id, "Enough.")

    assert await gateway.end(approval.run_id) == Aborted(PARENT_ENDED)
    with pytest.raises(ApprovalDecided):
        await gateway.served.container.approvals().decide(OPERATOR, approval.id, Decision.ALLOW)


# After a restart


def killed(state: Path, after: Path) -> None:
    """Leave in `after` what `kill -9` would leave now."""
    after.mkdir()
    shutil.copytree(state / "state", after / "state")


async def test_a_parent_that_goes_on_after_a_crash_waits_for_the_same_sub_agent(
    tmp_path: Path,
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    script = spawn(call("hold", name="child"))
    async with office(before, content("sqlite")) as gateway:
        run_id = await gateway.submit(script)
        assert await gateway.holding.begun.get() == "child"
        await kept(gateway)
        killed(before, after)

    holding = Holding()
    async with office(after, content("sqlite"), holding) as gateway:
        assert await holding.begun.get() == "child"
        holding.let_go.set()
        result = await gateway.result(run_id)
        (child,) = await gateway.children()

    assert (result["status"], result["runId"]) == ("ok", child.id)
    assert child.status is RunStatus.FINISHED
    assert holding.calls == ["child"]


async def test_a_crash_leaves_no_sub_agent_that_works_for_nobody(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    script = spawn(call("hold", name="child"))
    async with office(before, content("sqlite")) as gateway:
        run_id = await gateway.submit(script, on_leave=OnLeave.ABORT)
        assert await gateway.holding.begun.get() == "child"
        await kept(gateway)
        killed(before, after)

    holding = Holding()
    async with office(after, content("sqlite"), holding) as gateway:
        (child,) = await gateway.children()
        parent = await gateway.gateway.run(OPERATOR, run_id)
        again = await gateway.submit(spawn("Hello."))
        assert (await gateway.result(again))["status"] == "ok"

    assert (parent.status, child.status) == (RunStatus.INTERRUPTED, RunStatus.INTERRUPTED)
    assert holding.calls == []


async def test_parent_and_sub_agent_go_on_after_an_orderly_stop(tmp_path: Path) -> None:
    configuration = content("sqlite")
    configuration["gateway"]["shutdown"] = {"graceSeconds": 0}
    first = Holding()
    async with office(tmp_path, configuration, first) as gateway:
        run_id = await gateway.submit(spawn(call("hold", name="child")))
        assert await first.begun.get() == "child"
        await gateway.gateway.drain(0)

    holding = Holding()
    async with office(tmp_path, configuration, holding) as gateway:
        assert await holding.begun.get() == "child"
        holding.let_go.set()
        result = await gateway.result(run_id)
        children = await gateway.children()

    assert result["status"] == "ok"
    assert [child.status for child in children] == [RunStatus.FINISHED]


async def test_a_sub_agent_that_a_stopping_gateway_does_not_take_is_started_by_the_next(
    tmp_path: Path,
) -> None:
    first = Holding()
    async with office(tmp_path, content("sqlite"), first) as gateway:
        run_id = await gateway.submit(call("hold", name="parent") + "\n/then\n" + spawn("Hello."))
        assert await first.begun.get() == "parent"
        gateway.served.container.queue().refuse()
        first.let_go.set()
        async for batch in gateway.gateway.watch(OPERATOR, run_id):
            names = [one.event.name for one in batch if isinstance(one.event, ToolStarted)]
            if "sessions_spawn" in names:
                break
        await gateway.gateway.drain(0)

    async with office(tmp_path, content("sqlite")) as gateway:
        result = await gateway.result(run_id)
        children = await gateway.children()

    assert result["status"] == "ok"
    assert len(children) == 1


async def test_a_sub_agent_of_a_chat_completion_ends_with_an_orderly_stop(tmp_path: Path) -> None:
    first = Holding()
    async with office(tmp_path, content("sqlite"), first) as gateway:
        script = spawn(call("hold", name="child"))
        run_id = await gateway.submit(script, on_leave=OnLeave.ABORT)
        assert await first.begun.get() == "child"
        await gateway.gateway.drain(0)

    second = Holding()
    async with office(tmp_path, content("sqlite"), second) as gateway:
        parent = await gateway.gateway.run(OPERATOR, run_id)
        (child,) = await gateway.children()
        again = await gateway.submit(spawn("Hello."))
        assert (await gateway.result(again))["status"] == "ok"

    assert parent.status is RunStatus.ABORTED
    assert child.status is RunStatus.INTERRUPTED
    assert second.calls == []


async def kept(gateway: Office) -> None:
    """Return once the events of all runs are in the file."""
    for run in (await gateway.runs()).values():
        async for _ in gateway.served.container.run_events().follow_kept(run.id):
            break

"""What the periodic look at approvals asks the stores for, and what it decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import pytest

from opensoul.adapters.persistence.memory import MemoryApprovals, SingleNode
from opensoul.domain.access import Principal, Scope
from opensoul.domain.messages import ToolCall
from opensoul.domain.ports import NodeBus
from opensoul.domain.runs import Aborted, RunPage, RunQuery, RunRecord, record_of
from opensoul.domain.services import Approvals
from opensoul.domain.tools import Approval, Decision
from tests.app.quiet_nodes import Deaf
from tests.fakes.domain import FakeQueue, FakeRunEvents, run

OPERATOR = Principal("operator", frozenset({Scope.ADMIN}), "token")


class CountingRuns(FakeRunEvents):
    """Counts how often each method that reads is called."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = Counter[str]()

    async def find(self, run_id: str) -> RunRecord | None:
        self.asked["find"] += 1
        return await super().find(run_id)

    async def which_go_on(self, run_ids: Collection[str]) -> frozenset[str]:
        self.asked["which_go_on"] += 1
        return await super().which_go_on(run_ids)

    async def list(self, query: RunQuery) -> RunPage:
        self.asked["list"] += 1
        return await super().list(query)


async def approval(book: MemoryApprovals, run_id: str, expires_at: float) -> None:
    call = ToolCall(f"call of {run_id}", "send", "{}")
    await book.add(Approval(f"of {run_id}", run_id, "ada", call, 0.0, expires_at))


@pytest.mark.parametrize("bus", [SingleNode("one"), Deaf()], ids=["one process", "several"])
async def test_a_look_asks_once_however_many_approvals_wait(bus: NodeBus) -> None:
    book, runs, queue = MemoryApprovals(), CountingRuns(), FakeQueue()
    service = Approvals(
        book=book, queue=queue, signals=queue, run_events=runs, clock=lambda: 1_000.0, bus=bus
    )
    for number in range(200):
        run_id = f"run-{number}"
        runs.open(record_of(run(run_id)))
        await approval(book, run_id, expires_at=1_500.0 if number else 900.0)
    runs.events["run-1"].append(Aborted("enough"))
    await approval(book, "run that nobody knows", expires_at=1_500.0)

    await service.expire()
    assert runs.asked["which_go_on"] == 1
    assert not runs.asked["find"]
    assert runs.asked["list"] <= 1
    decided = {one.run_id: one.decision for one in [await found(book, n) for n in range(200)]}
    assert decided == {f"run-{n}": Decision.EXPIRED if n < 2 else None for n in range(200)}
    assert (await book.find("of run that nobody knows")) is not None
    assert len(await book.pending()) == 198

    shown = await service.pending(OPERATOR)
    assert len(shown) == 198
    assert runs.asked["which_go_on"] == 2
    assert not runs.asked["find"]


async def found(book: MemoryApprovals, number: int) -> Approval:
    kept = await book.find(f"of run-{number}")
    assert kept is not None
    return kept

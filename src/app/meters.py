"""Measurements of every process, with any store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..domain.execution import Executor
from ..domain.ports import Metric, MetricKind, RunCounter


@dataclass(frozen=True, slots=True)
class RunMeter:
    """Counts the Runs of all nodes. The number of nodes is to be scaled by `runs_waiting`."""

    runs: RunCounter

    async def metrics(self) -> Sequence[Metric]:
        counts = await self.runs.counts()
        behind = "Runs of all nodes that wait behind another run of their session."
        paused = "Runs of all nodes that wait for a decision or a message."
        return (
            Metric("runs_waiting", "Runs of all nodes that wait for a free slot.", counts.waiting),
            Metric("runs_queued", behind, counts.queued),
            Metric("runs_running", "Runs of all nodes that are executed.", counts.running),
            Metric("runs_paused", paused, counts.paused),
        )


@dataclass(frozen=True, slots=True)
class NodeMeter:
    """Measures this process. `slots`: how many runs it may execute at once."""

    executor: Executor
    slots: Callable[[], int]

    async def metrics(self) -> Sequence[Metric]:
        executor, counter = self.executor, MetricKind.COUNTER
        losses = "Runs that this node has lost, because it did not renew their leases in time."
        taken = "Runs that this node has taken over, because their leases had expired."
        return (
            Metric("node_runs", "Runs that this node executes.", len(executor)),
            Metric("node_slots", "Runs that this node executes at most.", self.slots()),
            Metric("lease_losses_total", losses, executor.lease_losses, counter),
            Metric("take_overs_total", taken, executor.take_overs, counter),
        )

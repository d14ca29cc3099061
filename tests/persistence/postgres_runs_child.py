"""A process that executes Runs until it is killed: `python -m ... URL LEASE TOKENS SECONDS`."""

from __future__ import annotations

import asyncio
import secrets
import sys

from opensoul.domain.errors import GatewayError, LeaseLost
from opensoul.domain.models.calls import TextDelta
from opensoul.domain.runs.claims import Claim, Signal
from opensoul.domain.runs.events import Aborted, Resumed, Started
from opensoul.domain.runs.spec import RunSpec

from .postgres_runs import Node, node
from .run_logs import END


class Work:
    """Answers each Run with numbered tokens, and renews its claims."""

    def __init__(self, node: Node, tokens: int, pause: float) -> None:
        self._node = node
        self._tokens = tokens
        self._pause = pause
        self._tasks: dict[str, tuple[Claim, asyncio.Task[None]]] = {}

    def take(self, claim: Claim) -> None:
        task = asyncio.create_task(self._answer(claim))
        self._tasks[claim.spec.id] = claim, task

    def abort(self, run_id: str, reason: str) -> bool:
        return False

    def deliver(self, run_id: str, signal: Signal) -> None:
        """It reads none."""

    def closed(self, spec: RunSpec, ending: Aborted) -> None:
        """It keeps nothing of Runs."""

    async def renew(self, lease: float) -> None:
        while True:
            await asyncio.sleep(lease / 3)
            claims = [claim for claim, _ in self._tasks.values()]
            try:
                lost = await self._node.queue.renew(self._node.name, claims)
            except GatewayError:
                continue  # The database is away.
            for claim in lost:
                current, task = self._tasks.get(claim.spec.id, (None, None))
                if current is claim and task is not None:
                    task.cancel()

    async def _answer(self, claim: Claim) -> None:
        events = self._node.events
        try:
            record = await events.find(claim.spec.id)
            void = 0 if record is None else record.last_seq
            begin = Started(0, 0) if claim.attempt == 1 else Resumed(claim.attempt, void, "died")
            await events.append(claim, [begin])
            for number in range(self._tokens):
                await events.append(claim, [TextDelta(f"{number} ")])
                await asyncio.sleep(self._pause)
            await self._node.queue.finish(claim, END)
        except (LeaseLost, GatewayError):
            return  # Another process has it, or will have it.
        finally:
            if self._tasks.get(claim.spec.id, (None, None))[0] is claim:
                del self._tasks[claim.spec.id]


async def main(url: str, lease: float, tokens: int, pause: float) -> None:
    async with node(url, secrets.token_hex(8), lease=lease, look_every=lease / 4) as one:
        work = Work(one, tokens, pause)
        one.queue.withdraw(one.name)
        one.queue.serve(one.name, work)
        print("ready", flush=True)
        await work.renew(lease)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))

"""Sessions with turns at a Gateway of several processes, which are killed meanwhile, and what must
hold of them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field

import aiohttp

from opensoul.client import ChatMessage
from tests.cluster.following import Talker, Turn, sse_events
from tests.cluster.nodes import Line, Machines, Node, question, text

KILL_EVERY = 3.0
PAUSED_LEASES = 3
MOST_LATE = 1
AWAY = 1.0
"""Seconds between a kill and the start of the next process."""
PATIENCE = 600.0
"""A hang guard, in seconds, for the turns of a round."""
NO_DATABASE = "The database cannot be opened"
LOST_TOO_OFTEN = "What executed the run died 3 times."


@dataclass
class Chaos:
    """`tokens` and `pause`: of each answer."""

    machines: Machines
    chance: random.Random
    sessions: int = 50
    turns: int = 4
    tokens: int = 20
    pause: float = 0.05
    counts: Counter[str] = field(default_factory=Counter)
    talked: list[Turn] = field(default_factory=list)

    async def kill_processes(self, seconds: float) -> list[str]:
        """Rounds of turns for so long, with kills meanwhile. What was wrong."""
        return await self._disturbed_by(self._kill_nodes(seconds), self._kill_database(seconds / 2))

    async def pause_workers(self, times: int) -> list[str]:
        """Rounds of turns, while workers are paused so often. What was wrong."""
        return await self._disturbed_by(self._pause_workers(times))

    async def _disturbed_by(self, *disturbances: Coroutine[None, None, None]) -> list[str]:
        async with asyncio.TaskGroup() as tasks:
            under_way = {tasks.create_task(one) for one in disturbances}
            while not self.talked or not all(task.done() for task in under_way):
                await self._round()
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as http:
            return [wrong async for wrong in self._violations(http)]

    async def _kill_nodes(self, seconds: float) -> None:
        starting: list[asyncio.Task[None]] = []
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while loop.time() < until:
            await asyncio.sleep(KILL_EVERY)
            started = [one for one in self.machines.nodes.values() if one.serves]
            if len(started) > 2:  # Else this machine is too busy to start them as quickly.
                node = self.chance.choice(started)
                await node.kill()
                self.counts["kills"] += 1
                starting.append(asyncio.create_task(self._start_later(node)))
        await asyncio.gather(*starting)

    async def _pause_workers(self, times: int) -> None:
        for _ in range(times):
            node = await self._busy_worker()
            node.pause()
            paused = at_work(self.machines.work.lines(), node.pid)
            await asyncio.sleep(PAUSED_LEASES * self.machines.lease)
            node.resume()
            self.counts["pauses"] += 1
            self.counts["runs at work in paused processes"] += paused
            await asyncio.sleep(self.machines.lease)

    async def _busy_worker(self) -> Node:
        async with asyncio.timeout(PATIENCE):
            while True:
                lines = self.machines.work.lines()
                busy = [one for one in self.machines.workers if at_work(lines, one.pid)]
                if busy:
                    return self.chance.choice(busy)
                await asyncio.sleep(0.05)  # Files do not say that they change.

    async def _start_later(self, node: Node) -> None:
        """As a supervisor does: again where the process ends at once without its database."""
        while not node.serves:
            await asyncio.sleep(AWAY)
            try:
                await node.start()
            except AssertionError as error:
                if NO_DATABASE not in str(error):
                    raise
                node.process.err.clear()
                self.counts["starts without a database"] += 1

    async def _kill_database(self, after: float) -> None:
        await asyncio.sleep(after)
        await asyncio.to_thread(self.machines.postgres.kill_and_restart)
        self.counts["kills of the database"] += 1

    async def _round(self) -> None:
        """All turns of all sessions at once, each at a random gateway."""
        number = self.counts["rounds"]
        self.counts["rounds"] += 1
        limits = aiohttp.ClientTimeout(total=None, connect=10, sock_read=60)
        async with aiohttp.ClientSession(
            timeout=limits, connector=aiohttp.TCPConnector(limit=0)
        ) as http:
            talkers = [
                self._talker(number, session, "http" if session % 2 else "websocket", http)
                for session in range(self.sessions)
            ]
            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
                for talker in talkers:
                    tasks.create_task(talker.live())
        for talker in talkers:
            self.talked += talker.turns
            self.counts["attempts repeated by clients"] += len(talker.unserved)

    def _talker(self, round_: int, session: int, over: str, http: aiohttp.ClientSession) -> Talker:
        names = [f"r{round_}-s{session}-t{turn}" for turn in range(self.turns)]
        turns = [
            Turn(
                name,
                f"agent:main:r{round_}-s{session}",
                question(name, self.tokens, self.pause),
                text(name, self.tokens),
            )
            for name in names
        ]
        return Talker(over, self._urls, turns, http, self.chance)

    def _urls(self) -> Sequence[str]:
        return [one.url for one in self.machines.gateways]

    async def _violations(self, http: aiohttp.ClientSession) -> AsyncIterator[str]:
        lines = self.machines.work.lines()
        for wrong in overlaps(lines):
            yield wrong
        begun = Counter(line.run for line in lines if line.kind == "begin")
        self.counts |= {
            "runs": len(self.talked),
            "attempts": begun.total(),
            "runs that were taken over": sum(times > 1 for times in begun.values()),
            "resumptions of followers": sum(turn.resumptions for turn in self.talked),
            "runs lost too often": sum(lost_too_often(turn) for turn in self.talked),
        }
        sessions: defaultdict[str, list[Turn]] = defaultdict(list)
        for turn in self.talked:
            sessions[turn.session].append(turn)
            for wrong in wrong_events(turn):
                yield wrong
            url = self.chance.choice(self._urls())
            again = [event async for event in sse_events(http, url, turn.run_id, 0)]
            if again != turn.events:
                yield f"{turn.name} is read again as {again}, and was {turn.events}"
        async with self.machines.gateways[-1].client() as client:
            for key, turns in sessions.items():
                for wrong in wrong_transcript(turns, await client.history(key)):
                    yield wrong

    @property
    def summary(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in self.counts.items())


def lost_too_often(turn: Turn) -> bool:
    return turn.ending is not None and turn.ending[1:] == ("failed", LOST_TOO_OFTEN)


def wrong_events(turn: Turn) -> Iterator[str]:
    """What is wrong with a run as its follower has seen it."""
    seqs = [seq for seq, _, _ in turn.events]
    if seqs != list(range(1, len(seqs) + 1)):
        yield f"{turn.name} has the events {seqs}"
    if lost_too_often(turn):  # Counted apart: it is not lost without a word.
        return
    if turn.ending is None or turn.ending[1] != "finished":
        yield f"{turn.name} has the end {turn.ending}"
    if turn.text != turn.answer:
        yield f"{turn.name} has the answer {turn.text!r}"


def wrong_transcript(turns: Sequence[Turn], messages: Sequence[ChatMessage]) -> Iterator[str]:
    """Turns that a session has lost, doubled, changed or in another order."""
    answered = [turn for turn in turns if not lost_too_often(turn)]
    given_up = {turn.message for turn in turns} - {turn.message for turn in answered}
    pairs = zip(messages[::2], messages[1::2], strict=False)
    kept = [(one.text, other.text) for one, other in pairs if one.text not in given_up]
    wanted = [(turn.message, turn.answer) for turn in answered]
    if kept != wanted or len(messages) % 2:
        yield f"{turns[0].session} has {kept} in place of {wanted}"


def overlaps(lines: Sequence[Line]) -> Iterator[str]:
    """Runs that were at work while another attempt, or another run of the same session, was at work
    in a process that was alive.

    A process that was paused goes on where it stood, and may take one step before it sees that its
    time is over: the begin of a run that it had claimed, with its first token; a token; or the end.
    """
    working: dict[str, set[tuple[str, int]]] = defaultdict(set)
    stopped: set[int] = set()
    resumed: set[int] = set()
    begun: dict[str, set[int]] = defaultdict(set)
    late: dict[tuple[str, int], int] = {}
    """Steps of attempts that were paused, behind the begin of another one."""
    for line in lines:
        if line.kind in ("killed", "paused"):
            stopped.add(line.pid)
        elif line.kind == "resumed":
            stopped.discard(line.pid)
            resumed.add(line.pid)
        else:
            own, others = (line.run, line.pid), working[line.session]
            if line.kind == "begin":
                replaced = {one for one in others if one[1] in stopped}
                late |= dict.fromkeys(replaced, 0)
                others -= replaced
                if line.pid in resumed and begun[line.run] - {line.pid} - stopped:
                    late[own] = 0  # Another process, which is alive, has begun it meanwhile.
                    continue
                if others:
                    yield f"{line.session}: {line.run} begins in {line.pid} beside {others}"
                others.add(own)
                begun[line.run].add(line.pid)
            elif own in late:
                late[own] += line.kind in ("token", "end")
            elif line.kind != "token":
                others.discard(own)
    for (run_id, pid), steps in late.items():
        if steps > MOST_LATE:
            yield f"{run_id} took {steps} steps in {pid} after it was taken over"


def at_work(lines: Sequence[Line], pid: int) -> int:
    """How many runs the process has at work."""
    kinds = Counter(line.kind for line in lines if line.pid == pid)
    return kinds["begin"] - kinds["end"] - kinds["left"]

"""What is true of a World once everything in it has come to its end."""

from __future__ import annotations

from typing import Any

from opensoul.adapters.persistence.queue import LocalQueue
from opensoul.domain.runs.records import RunStatus
from tests.control.world import World

ENDED = ("final", "aborted", "error")


async def check(world: World) -> None:
    """Let everything come to its end, and see that it is as it should be."""
    await world.rest()
    records = await world.records()
    assert [record.id for record in records] == [run.id for run in world.runs]
    assert all(record.status.final for record in records)
    last = {record.id: record.last_seq for record in records}
    followers_were_told_all(world, last)
    listeners_were_told_the_end(world, last)
    nothing_is_left(world)
    await nothing_is_broadcast(world)
    finished = {record.id for record in records if record.status is RunStatus.FINISHED}
    for session in ("main", "a", "b"):
        await history_is_right(world, session, finished)


def followers_were_told_all(world: World, last: dict[str, int]) -> None:
    """From where they asked to the end; and nothing of it in another way besides."""
    for one in world.followings:
        if one.witness in world.witnesses:
            assert one.numbers == list(range(one.after + 1, last[one.run_id] + 1))


def listeners_were_told_the_end(world: World, last: dict[str, int]) -> None:
    for witness in world.witnesses:
        followed = {f.run_id for f in world.followings if f.witness is witness}
        for run_id in last.keys() - followed:
            told = [payload["seq"] for payload in witness.told_of(run_id)]
            assert not told or told == list(range(told[0], last[run_id] + 1))
        for run_id in last:
            ends = [f for f in witness.frames if is_end_of_chat(f, run_id)]
            assert len(ends) <= 1
            if witness.told_of(run_id) and run_id not in followed:
                assert len(ends) == 1
        assert all(witness.last_answers(request_id) == 1 for request_id in witness.asked)


def nothing_is_left(world: World) -> None:
    parts = world.parts
    lanes, hub, queue = parts.lanes(), parts.control().hub, parts.work_queue()
    assert isinstance(queue, LocalQueue)
    assert (lanes.working, lanes.waiting, len(queue)) == (0, 0, 0)
    assert lanes.sessions == parts.gateway().followed == 0
    assert len(hub) == len(world.witnesses)
    assert not any(connection.following | connection.followed for connection in hub.connections)
    listening = {c for run in world.runs for c in hub.subscriptions.of(run.session_key)}
    assert listening <= set(hub.connections)


async def nothing_is_broadcast(world: World) -> None:
    hub = world.parts.control().hub
    assert [await hub.broadcast_done(run.id) for run in world.runs] == [None] * len(world.runs)


async def history_is_right(world: World, session: str, finished: set[str]) -> None:
    told = await world.witnesses[0].call("chat.history", {"sessionKey": session, "limit": 1_000})
    roles = [message["role"] for message in told["messages"]]
    expected = [run_id for run_id in world.finished(session) if run_id in finished]
    assert roles == ["user", "assistant"] * len(expected)
    assert [message["runId"] for message in told["messages"][::2]] == expected


def is_end_of_chat(frame: dict[str, Any], run_id: str) -> bool:
    payload = frame.get("payload") or {}
    told = frame.get("event") == "chat" and payload["runId"] == run_id
    return told and payload["state"] in ENDED

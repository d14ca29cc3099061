"""Clients of two Gateways whose agents work in three other processes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from opensoul.client import Aborted, CallFailed, Finished, TextDelta
from tests.app.serving import SECRET
from tests.cluster.nodes import Machines, Node, machines, official, question, text
from tests.e2e.test_clients import CLIENTS, node_packages

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Machines]:
    async with machines(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.mark.parametrize("at", ["a", "b"])
async def test_a_chat_completion_is_answered_by_a_worker(shared: Machines, at: str) -> None:
    async with official(shared[at]) as client:
        answer = await client.chat.completions.create(
            model="opensoul", messages=[{"role": "user", "content": question(f"whole-{at}")}]
        )

    assert answer.choices[0].message.content == text(f"whole-{at}")
    assert answer.choices[0].finish_reason == "stop"
    assert worker_of(shared, f"whole-{at}") in ("w1", "w2", "w3")


@pytest.mark.parametrize("at", ["a", "b"])
async def test_a_stream_comes_from_a_worker_as_it_is_written(shared: Machines, at: str) -> None:
    name = f"stream-{at}"
    async with official(shared[at]) as client:
        stream = await client.chat.completions.create(
            model="opensoul",
            messages=[{"role": "user", "content": question(name, 20, 0.05)}],
            stream=True,
        )
        pieces: list[str] = []
        first_seen = 0
        async for chunk in stream:
            if piece := chunk.choices[0].delta.content or "":
                pieces.append(piece)
                first_seen = first_seen or sum(line.kind == "token" for line in of(shared, name))

    assert "".join(pieces) == text(name, 20)
    assert first_seen < 20  # The first piece came before the last one was written.
    assert worker_of(shared, name) in ("w1", "w2", "w3")


async def test_both_gateways_answer_in_one_session(shared: Machines) -> None:
    for number, at in enumerate("abab"):
        async with official(shared[at]) as client:
            await client.chat.completions.create(
                model="opensoul",
                messages=[{"role": "user", "content": question(f"turn-{number}", 1)}],
                extra_headers={"x-opensoul-session-key": "agent:main:both"},
            )

    for at in "ab":
        async with shared[at].client() as client:
            messages = await client.history("agent:main:both")
        assert [one.text for one in messages if one.role == "assistant"] == [
            text(f"turn-{number}", 1) for number in range(4)
        ]


async def test_a_run_begun_at_one_gateway_is_followed_at_the_other(shared: Machines) -> None:
    async with shared["b"].client() as beginner, shared["a"].client() as follower:
        begun = await beginner.run_agent(question("followed", 30, 0.03))
        run = follower.follow(begun.run_id)
        events = [event async for event in run.events()]
        result = await begun.result(60)

    assert isinstance(events[-1], Finished)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert run.text == result.text == text("followed", 30)


async def test_the_client_of_a_killed_gateway_resumes_at_the_other(shared: Machines) -> None:
    async with shared["b"].client() as beginner:
        begun = await beginner.run_agent(question("resumed", 40, 0.05))
        async with shared["a"].client(reconnect=False) as client:
            lost = client.follow(begun.run_id)
            before = []
            async for event in lost.events():
                before.append(event)
                if sum(isinstance(one, TextDelta) for one in before) == 5:
                    break
            await shared["a"].kill()
            last = before[-1].seq
        async with shared["b"].client() as client:
            again = client.follow(begun.run_id, after_seq=last)
            after = [event async for event in again.events()]
    await shared["a"].start()

    assert [event.seq for event in (*before, *after)] == list(range(1, after[-1].seq + 1))
    told = [event.text for event in (*before, *after) if isinstance(event, TextDelta)]
    assert "".join(told) == text("resumed", 40)
    assert isinstance(after[-1], Finished)


async def test_a_run_is_aborted_at_the_other_gateway(shared: Machines) -> None:
    async with shared["b"].client() as beginner, shared["a"].client() as other:
        begun = await beginner.run_agent(question("aborted", 10_000, 0.02))
        await shared.work.until("token", begun.run_id)

        assert await other.abort_run(begun.run_id)
        result = await begun.result(60)
        events = [event async for event in other.follow(begun.run_id).events()]
        assert not await other.abort_run(begun.run_id)

    assert result.status == "aborted"
    assert isinstance(events[-1], Aborted)
    assert await shared.work.until("left", begun.run_id)


async def test_a_run_is_cancelled_over_http_at_the_other_gateway(shared: Machines) -> None:
    async with shared["a"].client() as beginner, official(shared["b"]) as other:
        begun = await beginner.run_agent(question("cancelled", 10_000, 0.02))
        await shared.work.until("token", begun.run_id)
        answer = await other.post(f"/runs/{begun.run_id}/cancel", cast_to=object)
        result = await begun.result(60)

    assert isinstance(answer, dict)
    assert answer["id"] == begun.run_id
    assert result.status == "aborted"


async def test_a_run_that_waits_in_its_session_is_aborted_without_work(shared: Machines) -> None:
    key = "agent:main:queue"
    async with shared["a"].client() as one, shared["b"].client() as other:
        first = await one.run_agent(question("ahead", 10_000, 0.02), session_key=key)
        behind = await other.run_agent(question("behind"), session_key=key)
        await shared.work.until("token", first.run_id)
        assert await one.abort_run(behind.run_id)
        assert (await behind.result(60)).status == "aborted"
        assert await other.abort_run(first.run_id)
        assert (await first.result(60)).status == "aborted"

    assert not shared.work.of("begin", behind.run_id)


async def test_an_unknown_run_is_unknown_everywhere(shared: Machines) -> None:
    for at in "ab":
        async with shared[at].client() as client:
            with pytest.raises(CallFailed):
                await client.run("no-such-run")


async def test_a_client_that_leaves_ends_its_run_at_the_worker(shared: Machines) -> None:
    async with official(shared["a"]) as client:
        stream = await client.chat.completions.create(
            model="opensoul",
            messages=[{"role": "user", "content": question("left", 10_000, 0.02)}],
            stream=True,
        )
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
    (begin,) = [line for line in of(shared, "left") if line.kind == "begin"]

    assert await shared.work.until("left", begin.run)


async def test_a_program_for_the_sibling_gateway_works_at_each_node(shared: Machines) -> None:
    packages = await asyncio.to_thread(node_packages)
    for at in "ab":
        seen = await asyncio.to_thread(_node_client, shared[at], packages)
        assert seen["connected"] is True
        assert seen["text"] == seen["whole"] == seen["again"] == text("hello", 3)
        assert "error" not in seen["chunks"]
        assert "agent:main:main" in seen["sessions"]


def _node_client(node: Node, packages: Path) -> dict[str, Any]:
    env = node.process.env | {
        "GATEWAY_URL": node.url,
        "GATEWAY_TOKEN": SECRET,
        "NODE_PACKAGES": str(packages),
        "PATH": os.environ["PATH"],
    }
    program = ["node", str(CLIENTS / "openclaw_node.mjs")]
    done = subprocess.run(
        program, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def of(shared: Machines, name: str) -> list[Any]:
    """The lines of the work with this name."""
    return [line for line in shared.work.lines() if line.words[2:3] == [name]]


def worker_of(shared: Machines, name: str) -> str:
    (begin,) = [line for line in of(shared, name) if line.kind == "begin"]
    return shared.of_pid(begin.pid).name

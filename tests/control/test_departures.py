"""Clients that go while something of theirs is on its way."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from dependency_injector import providers

from opensoul.adapters.persistence.common.live_logs import Bounds
from opensoul.adapters.persistence.memory.run_events import MemoryRunEvents
from opensoul.domain.runs.records import RunRecord
from opensoul.domain.runs.spec import RunSpec
from tests.app.serving import SECRET, config, serving
from tests.control.client import PATIENCE, connected
from tests.fakes.behaviours import Behaviour, Exchange, answer, chunk
from tests.fakes.provider import FakeProvider

pytestmark = pytest.mark.both_loops

ASKED = {"message": "hi", "sessionKey": "main", "idempotencyKey": "K"}


class PatientRunLog(MemoryRunEvents):
    """Reserves an id when it may."""

    def __init__(self) -> None:
        super().__init__(clock=time.time)
        self.asked = asyncio.Event()
        self.may = asyncio.Event()

    async def reserve(self, record: RunRecord, spec: RunSpec | None = None) -> RunRecord | None:
        self.asked.set()
        await self.may.wait()
        return await super().reserve(record, spec)


async def test_a_run_whose_client_left_before_it_began_goes_on_and_nobody_is_told(
    tmp_path: Path,
) -> None:
    async with FakeProvider(answer("Hel", "lo!")) as provider:
        run_log = PatientRunLog()
        parts = {"run_events": providers.Object(run_log)}
        async with serving(tmp_path, config(provider.base_url), **parts) as served:
            hub = served.container.control().hub
            async with connected(served.client, SECRET) as stays:
                async with connected(served.client, SECRET) as leaves:
                    leaves.send("agent", ASKED)
                    await asyncio.wait_for(run_log.asked.wait(), PATIENCE)
                async with asyncio.timeout(PATIENCE):
                    while len(hub) > 1:
                        await stays.call("health")
                run_log.may.set()
                ended = await stays.call("agent", ASKED)

                if ended["status"] != "ok":  # It has not ended yet.
                    assert ended["status"] == "accepted"
                    await stays.event("chat", runId="K", state="final")
                [listener] = hub.connections
                key = served.container.gateway().session_key("main")
                assert listener.sessions == {key}
        assert len(provider.requests) == 1


async def test_who_comes_back_to_a_run_whose_beginning_is_gone_hears_its_end(
    tmp_path: Path,
) -> None:
    words, gate = ["a", "b", "c", "d", "e", "f"], asyncio.Event()
    async with FakeProvider(gated(words, gate)) as provider:
        run_log = MemoryRunEvents(clock=time.time, bounds=Bounds(events_per_run=3))
        parts = {"run_events": providers.Object(run_log)}
        async with serving(tmp_path, config(provider.base_url), **parts) as served:
            async with connected(served.client, SECRET) as leaves:
                await leaves.answer(leaves.send("agent", ASKED))
            async with connected(served.client, SECRET) as looks, asyncio.timeout(PATIENCE):
                while (await looks.call("runs.get", {"runId": "K"}))["lastSeq"] < 7:
                    pass
            async with connected(served.client, SECRET) as comes:
                request = comes.send("agent", ASKED)
                assert (await comes.answer(request))["status"] == "accepted"
                await comes.call("health")
                gate.set()
                final = await comes.answer(request)
                told = [frame for frame in comes.events if frame["event"] in ("agent", "chat")]

    assert (final["status"], final["result"]["payloads"]) == ("ok", [{"text": "abcdefg"}])
    assert [frame["payload"]["seq"] for frame in told if frame["event"] == "agent"] == [8, 9]
    assert told[0]["payload"]["data"] == {"delta": "g"}
    [chat] = [frame["payload"] for frame in told if frame["event"] == "chat"]
    # A part of the answer is not told as if it were all of it.
    assert (chat["state"], "message" in chat) == ("final", False)


async def test_a_run_that_is_faster_than_can_be_told_is_told_to_its_end(tmp_path: Path) -> None:
    words = [f"{number} " for number in range(300)]
    async with FakeProvider(answer(*words)) as provider:
        run_log = MemoryRunEvents(clock=time.time, bounds=Bounds(events_per_run=2))
        parts = {"run_events": providers.Object(run_log)}
        async with (
            serving(tmp_path, config(provider.base_url), **parts) as served,
            connected(served.client, SECRET) as peer,
        ):
            request = peer.send("agent", ASKED)
            await peer.answer(request)
            final = await peer.answer(request)
            told = [frame["payload"] for frame in peer.events if frame["event"] == "agent"]

    assert final["result"]["payloads"] == [{"text": "".join(words)}]
    numbers = [payload["seq"] for payload in told]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == len(words) + 2


def gated(words: list[str], gate: asyncio.Event) -> Behaviour:
    """These words, and one more when the gate opens."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        for word in words:
            await exchange.event(chunk({"content": word}))
        await gate.wait()
        await exchange.event(chunk({"content": "g"}))
        await exchange.event(chunk({}, "stop"))
        await exchange.piece(b"data: [DONE]\n\n")
        await exchange.end()

    return behave

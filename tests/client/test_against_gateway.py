"""The client and a Gateway as a process of its own, which may be killed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from opensoul.client import (
    Aborted,
    Backoff,
    Client,
    ConnectionLost,
    DeviceIdentity,
    DeviceTokens,
    HandshakeRefused,
    Options,
    Resumed,
    Started,
    TextDelta,
)
from tests.cli.scripted import CONFIG
from tests.e2e.process import GatewayProcess

pytestmark = pytest.mark.e2e

QUICK = Backoff(first=0.05, longest=0.2, give_up_after=60)


async def options(gateway: GatewayProcess) -> Options:
    token = await asyncio.to_thread(lambda: gateway.token)
    return Options(
        url=f"ws://127.0.0.1:{gateway.port}",
        token=token,
        client_id="cli",
        mode="cli",
        backoff=QUICK,
    )


async def test_a_run_is_followed_over_the_death_of_the_gateway(tmp_path: Path) -> None:
    first = GatewayProcess(tmp_path, CONFIG)
    async with first:
        client = Client(await options(first))
        async with client:
            run = await client.run_agent("go", agent_id="slow")
            events = run.events()
            seen = [await anext(events) for _ in range(3)]
            await asyncio.to_thread(first.kill)
            async with GatewayProcess(tmp_path, CONFIG, port=first.port):
                while not isinstance(seen[-1], Resumed):
                    seen.append(await anext(events))
                await run.abort()
                seen += [event async for event in events]
    assert isinstance(seen[0], Started)
    assert isinstance(seen[1], TextDelta)
    assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
    assert isinstance(seen[-1], Aborted)
    (resumed,) = [event for event in seen if isinstance(event, Resumed)]
    assert resumed.void


async def test_a_repeated_request_gets_the_same_run_after_a_restart(tmp_path: Path) -> None:
    results = []
    for _ in range(2):
        gateway = GatewayProcess(tmp_path, CONFIG)
        async with gateway, Client(await options(gateway)) as client:
            run = await client.run_agent("hi", idempotency_key="K")
            results.append(await run.result(30))
            page = await client.runs()
    before, after = results
    assert before.text == "[scripted] You said: hi"
    assert (after.status, after.text) == ("ok", before.text)
    assert [info.id for info in page.runs] == ["K"]


async def test_a_device_is_let_in_by_its_own_token_until_that_is_void(tmp_path: Path) -> None:
    device = DeviceIdentity.load_or_create(tmp_path / "device.json")
    tokens = DeviceTokens(tmp_path / "device-auth.json")
    async with GatewayProcess(tmp_path, CONFIG) as gateway:
        known = await options(gateway)
        first = replace(known, device=device, device_tokens=tokens, reconnect=False)
        async with Client(replace(first, mode="ui", client_id="opensoul-tui")) as client:
            assert set(client.hello.scopes) == {"operator.read", "operator.write"}
        again = replace(first, token=None)
        async with Client(again) as client:
            run = await client.run_agent("hi")
            assert (await run.result(30)).text == "[scripted] You said: hi"
        admin = replace(known, scopes=("operator.pairing", "operator.admin"))
        async with Client(admin) as client, Client(again) as theirs:
            events = theirs.events()
            await client.call("device.pair.remove", {"deviceId": device.id})
            with pytest.raises(ConnectionLost):
                async for _ in events:
                    pass
        with pytest.raises(HandshakeRefused):
            await Client(again).__aenter__()
        assert tokens.get(again.url, "operator") is None

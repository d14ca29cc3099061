"""A configuration that changes while serving."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.app.serving import SECRET, Served, config, serving
from tests.app.serving import provider as fake
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider


def agents(*ids: str) -> dict[str, Any]:
    listed = [{"id": agent_id} for agent_id in ids]
    return {"defaults": {"model": {"primary": "fake/m"}}, "list": listed}


async def test_an_added_agent_answers_the_next_request(
    served: Served, provider: FakeProvider
) -> None:
    async with served.ask(model="opensoul:beta") as response:
        assert response.status == 404

    served.configure(config(provider.base_url, agents=agents("main", "beta")))

    assert await served.text(model="opensoul:beta") == "Hello!"


async def test_a_run_ends_with_what_it_was_accepted_with(
    served: Served, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.will(answer("first", " done", gate=gate))
    first = asyncio.create_task(served.text(user="alice"))
    await provider.arrival()
    second = asyncio.create_task(served.text(user="alice"))
    while served.container.lanes().waiting == 0:  # noqa: ASYNC110 - nobody's event
        await asyncio.sleep(0)

    async with FakeProvider(answer("elsewhere")) as other:
        moved = {"providers": {"other": fake(other.base_url)}}
        defaults = {"defaults": {"model": {"primary": "other/m"}}, "list": [{"id": "new"}]}
        served.configure(config(models=moved, agents=defaults))
        assert await served.text() == "elsewhere"
        gate.set()

        assert await first == "first done"
        assert await second == "Hello!", "it was accepted before the change"


async def test_switching_the_endpoint_off_is_in_force_at_once(
    served: Served, provider: FakeProvider
) -> None:
    assert await served.text() == "Hello!"

    served.configure(config(provider.base_url, gateway={"auth": {"token": SECRET}}))

    async with served.ask() as response:
        assert response.status == 404
        body = await response.json()
    assert "chatCompletions.enabled" in body["error"]["message"]


async def test_a_broken_file_changes_nothing(served: Served) -> None:
    served.config_path.write_text("{ gateway: ")

    assert await served.text() == "Hello!"


async def test_a_lowered_limit_of_runs_is_in_force_at_once(
    served: Served, provider: FakeProvider
) -> None:
    one_at_a_time = {"defaults": {"model": {"primary": "fake/m"}, "maxConcurrent": 1}}
    served.configure(config(provider.base_url, agents=one_at_a_time))
    gate = asyncio.Event()
    provider.will(answer("first", " done", gate=gate))
    first = asyncio.create_task(served.text())
    await provider.arrival()
    second = asyncio.create_task(served.text())
    lanes = served.container.lanes()
    while lanes.waiting == 0:  # noqa: ASYNC110 - nobody's event
        await asyncio.sleep(0)
    assert len(provider.requests) == 1

    gate.set()
    assert await first == "first done"
    assert await second == "Hello!"


async def test_ten_wrong_guesses_lock_the_address_out_whatever_comes_then(
    tmp_path: Path, provider: FakeProvider
) -> None:
    async with serving(tmp_path, config(provider.base_url)) as served:
        for number in range(10):
            async with served.ask({"Authorization": f"Bearer guess {number}"}) as response:
                assert response.status == 401
        async with served.ask() as right:
            body = await right.json()
        async with served.ask({"Authorization": ""}) as missing:
            pass

    assert right.status == 429
    assert 290 < int(right.headers["Retry-After"]) <= 300
    assert body["error"]["code"] == "too_many_failures"
    assert missing.status == 401, "no credential is no guess"


async def test_a_secret_of_many_bytes_opens_the_door_and_a_wrong_one_is_a_401(
    tmp_path: Path, provider: FakeProvider
) -> None:
    content = config(provider.base_url)
    content["gateway"]["auth"] = {"mode": "password", "password": "пароль🔑"}
    async with serving(tmp_path, content) as served:
        url = f"{served.url}/v1/models"
        statuses = []
        for secret in ("пароль🔑", "пароль🔒", "парол"):
            bearer = f"Bearer {secret}"
            async with served.client.get(url, headers={"Authorization": bearer}) as response:
                statuses.append(response.status)

    assert statuses == [200, 401, 401]

"""Connections and streams stand while their grants do, over real sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from dependency_injector import providers

from examples.header_authenticator import HeaderAuthenticator
from opensoul.app import plugins
from tests.app.grants import (
    PATIENCE,
    READ,
    ask,
    content,
    first_text,
    people,
    provider,
    rest,
    served,
    through_proxy,
)
from tests.app.serving import SECRET, Served, serving
from tests.control.client import connected
from tests.control.signing import connected_device
from tests.fakes.behaviours import answer, hang_after
from tests.fakes.devices import Device
from tests.fakes.provider import FakeProvider

__all__ = ["people", "provider", "served"]


async def test_a_changed_secret_ends_the_streams_and_connections_that_used_it_and_no_others(
    served: Served, provider: FakeProvider
) -> None:
    device, gate = Device(), asyncio.Event()
    async with connected_device(served.client, device, SECRET, scopes=READ) as paired:
        token = paired.hello["auth"]["deviceToken"]
    provider.will(hang_after("Hel"), answer("Hel", "lo!", gate=gate))
    by_token = connected_device(served.client, device, token, scopes=READ)
    by_proxy = connected(served.client, None, headers=through_proxy("ada"))
    async with (
        connected(served.client, SECRET) as by_secret,
        by_token as phone,
        by_proxy as page,
        served.ask(stream=True) as ended,
        ask(served, through_proxy("ada"), stream=True) as standing,
    ):
        await first_text(ended)
        await first_text(standing)
        abandoned = await provider.arrival()

        served.configure(content(provider, "another secret"))

        assert await by_secret.closed() == (4001, "gateway auth changed")
        events = await rest(ended)
        assert "no longer valid: gateway auth changed" in events
        assert "[DONE]" not in events
        async with asyncio.timeout(PATIENCE):
            await abandoned.disconnected.wait()
        gate.set()
        assert "[DONE]" in await rest(standing)
        assert (await phone.call("health"))["ok"]
        assert (await page.call("health"))["ok"]


async def test_a_change_beside_the_secret_ends_nothing(
    served: Served, provider: FakeProvider
) -> None:
    async with connected(served.client, SECRET) as peer:
        changed = content(provider)
        changed["gateway"]["auth"]["rateLimit"] = {"maxAttempts": 3}
        served.configure(changed)
        while served.container.settings()().auth.lockout.max_attempts != 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert (await peer.call("health"))["ok"]


@pytest.mark.parametrize(
    ("method", "more", "reason"),
    [
        ("device.token.rotate", {"role": "operator"}, "device token rotated"),
        ("device.token.revoke", {"role": "operator"}, "device token revoked"),
        ("device.pair.remove", {}, "device removed"),
    ],
)
async def test_a_device_that_loses_its_token_loses_its_own_connections_alone(
    served: Served, method: str, more: dict[str, str], reason: str
) -> None:
    lost, other = Device(), Device()
    async with connected_device(served.client, lost, SECRET, scopes=READ) as paired:
        token = paired.hello["auth"]["deviceToken"]
    async with (
        connected_device(served.client, lost, token, scopes=READ) as by_token,
        connected_device(served.client, lost, SECRET, scopes=READ) as by_secret,
        connected_device(served.client, other, SECRET, scopes=READ) as untouched,
        connected(served.client, SECRET) as operator,
    ):
        await operator.call(method, {"deviceId": lost.id, **more})

        for peer in (by_token, by_secret):
            assert await peer.closed() == (4001, reason)
        assert (await untouched.call("health"))["ok"]
        assert (await operator.call("health"))["ok"]


async def test_a_person_who_is_removed_loses_stream_and_connection(
    served: Served, provider: FakeProvider, people: HeaderAuthenticator
) -> None:
    provider.will(hang_after("Hel"))
    async with (
        connected(served.client, None, headers=through_proxy("ada")) as page,
        connected(served.client, SECRET) as operator,
        ask(served, through_proxy("ada"), stream=True) as stream,
    ):
        await first_text(stream)

        del people.people["ada"]

        assert "no longer valid" in await rest(stream)
        assert (await page.closed())[0] == 4001
        assert (await operator.call("health"))["ok"]
    async with ask(served, through_proxy("ada")) as again:
        assert again.status == 401


async def test_the_header_counts_from_a_trusted_proxy_alone(
    served: Served, provider: FakeProvider
) -> None:
    async with ask(served, through_proxy("ada")) as known:
        assert known.status == 200
    async with ask(served, through_proxy("mallory")) as unknown:
        assert unknown.status == 401
    changed = content(provider)
    changed["gateway"]["trustedProxies"] = []
    served.configure(changed)
    async with ask(served, through_proxy("ada")) as by_stranger:
        assert by_stranger.status == 401


async def test_a_lesser_credential_does_not_forgive_guesses_at_the_secret(served: Served) -> None:
    statuses = []
    for number in range(12):
        wrong = {"Authorization": f"Bearer guess {number}", "X-Forwarded-For": "203.0.113.7"}
        async with ask(served, wrong) as response:
            statuses.append(response.status)
        if number < 9:
            async with ask(served, through_proxy("grace"), model="opensoul:guide") as right:
                assert right.status == 200
    assert statuses[:10] == [401] * 10
    assert statuses[-1] == 429


async def test_an_authenticator_that_is_not_installed_is_named(
    tmp_path: Path, provider: FakeProvider
) -> None:
    with pytest.raises(plugins.PluginMissing, match=r"'proxy'.*opensoul\.authenticators"):
        async with serving(
            tmp_path, content(provider), find_plugins=providers.Object(lambda _: [])
        ):
            pass

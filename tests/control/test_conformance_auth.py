"""Who is let in, row by row of the family's conformance list, with the answers that are ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from opensoul.adapters.transports.control import transport
from tests.app.serving import SECRET, Served, config, serving
from tests.control.client import Peer, Refused, connect_params, connected, knocking
from tests.control.conftest import Enter
from tests.control.signing import challenged, connected_device, signed
from tests.fakes.devices import Device

READ = ["operator.read"]
PAGE = {"id": "opensoul-control-ui", "version": "1", "platform": "linux", "mode": "webchat"}
PROXY = {"X-Forwarded-For": "203.0.113.7"}


@asynccontextmanager
async def guarded(home: Path, **gateway: Any) -> AsyncIterator[Served]:
    """A Gateway whose section `gateway` has these entries as well."""
    content = config()
    content["gateway"] |= gateway
    async with serving(home, content) as served:
        yield served


async def refused(peer: Peer, params: dict[str, Any]) -> dict[str, Any]:
    """The error that `connect` gets; the close frame says the same, as far as there is room."""
    with pytest.raises(Refused) as caught:
        await peer.call("connect", params)
    error: dict[str, Any] = caught.value.error
    code, reason = await peer.closed()
    assert code == 1008
    shared = min(len(error["message"]), 100)
    assert reason[:shared] == error["message"][:shared]
    return error


async def test_who_says_nothing_is_closed_with_a_reason(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "HANDSHAKE_SECONDS", 0.1)
    async with knocking(served.client) as peer:
        assert await peer.closed() == (1008, "handshake timeout")


async def test_a_first_request_that_is_not_connect_is_refused_and_ends_it(served: Served) -> None:
    async with knocking(served.client) as peer:
        with pytest.raises(Refused, match="first request must be connect") as caught:
            await peer.call("health")
        assert caught.value.error["code"] == "INVALID_REQUEST"
        assert (await peer.closed())[0] == 1008


@pytest.mark.parametrize("field", ["password", "token"])
async def test_a_password_lets_in_and_a_wrong_one_does_not(tmp_path: Path, field: str) -> None:
    auth = {"mode": "password", "password": SECRET}
    async with guarded(tmp_path, auth=auth) as served:
        async with connected(served.client, None, auth={field: SECRET}) as peer:
            assert peer.hello["type"] == "hello-ok"
        async with knocking(served.client) as peer:
            error = await refused(peer, connect_params(None, auth={field: "wrong"}))
    assert "unauthorized" in error["message"]
    assert error["details"]["code"] == "AUTH_PASSWORD_MISMATCH"


async def test_a_gateway_without_authentication_lets_in_who_is_here(tmp_path: Path) -> None:
    async with (
        guarded(tmp_path, auth={"mode": "none"}) as served,
        connected(served.client, None) as peer,
    ):
        assert (await peer.call("health"))["ok"] is True


@pytest.mark.parametrize("proxies", [[], ["127.0.0.1"]])
async def test_a_gateway_without_authentication_refuses_what_a_proxy_passes_on(
    tmp_path: Path, proxies: list[str]
) -> None:
    async with guarded(tmp_path, auth={"mode": "none"}, trustedProxies=proxies) as served:
        for header in ("X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "CF-Ray", "Via"):
            async with knocking(served.client, headers={header: "127.0.0.1"}) as peer:
                error = await refused(peer, connect_params(None))
            assert error["details"]["code"] == "AUTH_REQUIRED"
            assert "gateway.auth.mode to `token` or `password`" in error["message"]


async def test_a_web_page_without_a_token_is_told_where_to_paste_it(served: Served) -> None:
    async with knocking(served.client, headers={"Origin": served.url}) as peer:
        params = signed(Device(), await challenged(peer), None, client=PAGE)
        error = await refused(peer, params)
    assert "Control UI settings" in error["message"]
    assert error["details"]["code"] == "AUTH_TOKEN_MISSING"


@pytest.mark.parametrize("insecure", [False, True])
async def test_a_web_page_needs_a_device_whatever_the_configuration_says(
    tmp_path: Path, insecure: bool
) -> None:
    switches = {"allowInsecureAuth": insecure, "dangerouslyDisableDeviceAuth": insecure}
    async with (
        guarded(tmp_path, controlUi=switches) as served,
        knocking(served.client, headers={"Origin": served.url}) as peer,
    ):
        error = await refused(peer, connect_params(SECRET, client=PAGE))
    assert "secure context" in error["message"]
    assert error["details"]["code"] == "CONTROL_UI_DEVICE_IDENTITY_REQUIRED"


async def test_without_a_token_a_device_is_asked_for_and_with_it_none_is_needed(
    served: Served, enter: Enter
) -> None:
    async with knocking(served.client) as peer:
        error = await refused(peer, connect_params(None))
    assert (error["code"], error["message"]) == ("NOT_PAIRED", "device identity required")
    async with enter() as peer:
        assert peer.hello["auth"]["scopes"]


async def test_who_leaves_the_scopes_out_gets_none(served: Served) -> None:
    for protocol in (3, 4):
        params = connect_params(SECRET, protocol=protocol)
        del params["scopes"]
        async with knocking(served.client) as peer:
            hello = await peer.call("connect", params)
            assert hello["auth"] == {"role": "operator", "scopes": []}


@pytest.mark.parametrize("version", [2, 3])
async def test_both_forms_of_a_devices_signature_are_taken(served: Served, version: int) -> None:
    client = {
        "id": "cli",
        "version": "1",
        "platform": " Linux ",
        "deviceFamily": "PI",
        "mode": "cli",
    }
    options: dict[str, Any] = {"version": version, "client": client, "scopes": READ}
    async with connected_device(served.client, Device(), SECRET, **options) as peer:
        assert peer.hello["auth"]["scopes"] == READ
        assert peer.hello["auth"]["deviceToken"]


@pytest.mark.parametrize(
    ("changes", "message", "code"),
    [
        ({"late": 3_600}, "device signature expired", "DEVICE_AUTH_SIGNATURE_EXPIRED"),
        ({"late": -3_600}, "device signature expired", "DEVICE_AUTH_SIGNATURE_EXPIRED"),
        ({"nonce": None}, "device nonce required", "DEVICE_AUTH_NONCE_REQUIRED"),
        ({"nonce": "of another"}, "device nonce mismatch", "DEVICE_AUTH_NONCE_MISMATCH"),
        ({"signed_for": "x"}, "device signature invalid", "DEVICE_AUTH_SIGNATURE_INVALID"),
        ({"id": "0" * 64}, "device identity mismatch", "DEVICE_AUTH_DEVICE_ID_MISMATCH"),
        ({"publicKey": "AAAA"}, "device public key invalid", "DEVICE_AUTH_PUBLIC_KEY_INVALID"),
    ],
)
async def test_a_proof_that_does_not_prove_is_refused_beside_the_right_secret(
    served: Served, changes: dict[str, Any], message: str, code: str
) -> None:
    async with knocking(served.client) as peer:
        nonce = await challenged(peer)
        late = changes.get("late", 0.0)
        token = changes.get("signed_for", SECRET)
        params = signed(Device(), changes.get("nonce", nonce), token, late=late)
        params["auth"] = {"token": SECRET}
        params["device"] |= {name: changes[name] for name in ("id", "publicKey") if name in changes}
        error = await refused(peer, params)
    assert error["message"] == message
    assert error["details"]["code"] == code


@pytest.mark.parametrize("field", ["token", "deviceToken"])
async def test_a_device_comes_back_with_its_token_in_place_of_the_secret(
    served: Served, field: str
) -> None:
    device = Device()
    async with connected_device(served.client, device, SECRET, scopes=READ) as peer:
        token = peer.hello["auth"]["deviceToken"]
    again: dict[str, Any] = {"auth": {field: token}, "scopes": READ}
    async with connected_device(served.client, device, None, **again) as peer:
        assert peer.hello["auth"]["scopes"] == READ
        assert (await peer.call("sessions.list"))["sessions"] == []


async def test_at_this_machine_the_secret_widens_a_device_and_its_token_alone_does_not(
    served: Served, peer: Peer
) -> None:
    device, admin = Device(), ["operator.admin"]
    async with connected_device(served.client, device, SECRET, scopes=READ) as reader:
        token = reader.hello["auth"]["deviceToken"]
    async with knocking(served.client) as knocker:
        nonce = await challenged(knocker)
        error = await refused(knocker, signed(device, nonce, token, scopes=admin))
    assert (error["code"], error["details"]["reason"]) == ("NOT_PAIRED", "scope-upgrade")

    async with connected_device(served.client, device, SECRET, scopes=admin) as wider:
        assert wider.hello["auth"]["scopes"] == admin
    (paired,) = (await peer.call("device.pair.list"))["paired"]
    assert "operator.admin" in paired["scopes"]


async def test_a_revoked_token_ends_its_connection_at_once_and_lets_nobody_in(
    served: Served, peer: Peer
) -> None:
    device = Device()
    async with connected_device(served.client, device, SECRET, scopes=READ) as reader:
        token = reader.hello["auth"]["deviceToken"]
        revoked = {"deviceId": device.id, "role": "operator"}
        await peer.call("device.token.revoke", revoked)
        assert (await reader.closed())[0] in (1008, 4001)
    for brought in (token, SECRET):
        async with knocking(served.client) as knocker:
            nonce = await challenged(knocker)
            with pytest.raises(Refused):
                await knocker.call("connect", signed(device, nonce, brought, scopes=READ))


async def test_behind_a_proxy_a_device_waits_for_approval_and_then_gets_in(tmp_path: Path) -> None:
    device = Device()
    async with (
        guarded(tmp_path, trustedProxies=["127.0.0.1"]) as served,
        connected(served.client, SECRET) as operator,
    ):
        async with knocking(served.client, headers=PROXY) as peer:
            nonce = await challenged(peer)
            error = await refused(peer, signed(device, nonce, SECRET, scopes=READ))
        assert error["code"] == "NOT_PAIRED"
        assert error["message"] == "pairing required: device is not approved yet"
        request_id = error["details"]["requestId"]
        asked = await operator.event("device.pair.requested")
        assert asked["payload"]["requestId"] == request_id
        await operator.call("device.pair.approve", {"requestId": request_id})
        told = await operator.event("device.pair.resolved")
        assert told["payload"]["decision"] == "approved"
        options: dict[str, Any] = {"headers": PROXY, "scopes": READ}
        async with connected_device(served.client, device, SECRET, **options) as peer:
            assert peer.hello["auth"]["scopes"] == READ


async def test_who_guesses_is_told_when_to_try_again(tmp_path: Path) -> None:
    auth = {"token": SECRET, "rateLimit": {"maxAttempts": 3}}
    async with guarded(tmp_path, auth=auth) as served:
        for wrong in ("stale", "stale", "stale", "wrong", "false"):
            async with knocking(served.client) as peer:
                error = await refused(peer, connect_params(wrong))
            assert error["details"]["code"] == "AUTH_TOKEN_MISMATCH"
        async with knocking(served.client) as peer:
            error = await refused(peer, connect_params(SECRET))
    assert error["details"]["code"] == "AUTH_RATE_LIMITED"
    assert error["retryable"] is True
    assert error["retryAfterMs"] > 0


@pytest.mark.parametrize(
    ("client_id", "mode"),
    [
        ("opensoul-ios", "ui"),
        ("opensoul-android", "ui"),
        ("openclaw-macos", "ui"),
        ("gateway-client", "backend"),
        ("openclaw-probe", "probe"),
    ],
)
async def test_programs_of_the_family_are_known_by_their_ids(
    enter: Enter, client_id: str, mode: str
) -> None:
    client = {"id": client_id, "version": "1", "platform": "any", "mode": mode}
    async with enter(client=client) as peer:
        assert (await peer.call("health"))["ok"] is True


async def test_an_unknown_program_and_an_unknown_key_are_named(served: Served) -> None:
    unknown = {"id": "somebody", "version": "1", "platform": "any", "mode": "ui"}
    for changes, named in (({"client": unknown}, "client"), ({"colour": "red"}, "colour")):
        async with knocking(served.client) as peer:
            error = await refused(peer, connect_params(SECRET, **changes))
        assert error["message"].startswith("invalid connect params: ")
        assert named in error["message"]


async def test_a_node_gets_in_with_a_device_and_has_no_methods_of_operators(
    served: Served,
) -> None:
    client = {"id": "node-host", "version": "1", "platform": "linux", "mode": "node"}
    options: dict[str, Any] = {"client": client, "role": "node", "scopes": []}
    async with connected_device(served.client, Device(), SECRET, **options) as node:
        assert node.hello["auth"]["role"] == "node"
        with pytest.raises(Refused, match="unauthorized role: node"):
            await node.call("status")
        with pytest.raises(Refused, match="no method manages them") as told:
            await node.call("skills.bins")
        assert told.value.error["code"] == "UNAVAILABLE"


async def test_a_token_is_never_renewed_with_more_than_the_caller_may(
    served: Served, enter: Enter
) -> None:
    device = Device()
    async with connected_device(served.client, device, SECRET, scopes=READ):
        pass
    asked = {"deviceId": device.id, "role": "operator"}
    async with enter(scopes=["operator.pairing"]) as helper:
        for wider in ({"scopes": ["operator.admin"]}, {}):
            with pytest.raises(Refused, match="missing scope") as caught:
                await helper.call("device.token.rotate", {**asked, **wider})
            assert caught.value.error["code"] == "FORBIDDEN"
    async with enter() as operator:
        renewed = await operator.call("device.token.rotate", asked)
    again: dict[str, Any] = {"auth": {"deviceToken": renewed["token"]}, "scopes": READ}
    async with connected_device(served.client, device, None, **again) as peer:
        assert peer.hello["auth"]["scopes"] == READ


async def test_all_that_todays_clients_say_of_themselves_is_taken(enter: Enter) -> None:
    client = {
        "id": "cli",
        "version": "2026.9.6",
        "platform": "linux",
        "deviceFamily": "Linux",
        "modelIdentifier": "x",
        "mode": "cli",
        "instanceId": "i",
        "buildId": "b",
        "timeZone": "Europe/Rome",
    }
    more = {
        "caps": ["tool-events", "of tomorrow"],
        "commands": [],
        "permissions": {"camera": False},
        "pathEnv": "/bin",
        "locale": "en",
        "userAgent": "a program",
        "computerUse": {},
        "workerRuns": {},
        "modelCatalog": {"agentId": "main"},
    }
    async with enter(client=client, scopes=READ, **more) as peer:
        assert peer.hello["auth"] == {"role": "operator", "scopes": READ}

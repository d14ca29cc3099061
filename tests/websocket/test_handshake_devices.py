"""Who is let in with a device, with what, and how the others are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from opensoul.adapters.transports.control.handshake.origins import Peer
from opensoul.domain.access import Scope
from opensoul.domain.access.addresses import ClientAddress
from opensoul.domain.access.devices.pairing import MAX_PENDING, PairingRequired, Visitor
from opensoul.domain.access.devices.records import Role
from opensoul.domain.errors import StoreFailed
from opensoul.domain.settings import AuthMode
from tests.fakes.devices import ADMIN, Device

from .shaking import FORWARDED, LOCAL, PAGE, REMOTE, SECRET, Bench, details

READ = ["operator.read"]
WRITE = ["operator.write"]


@pytest_asyncio.fixture
async def bench() -> Bench:
    return await Bench().open()


async def paired(bench: Bench, device: Device, *scopes: str) -> str:
    """The device's token, after it was paired at this machine."""
    params = bench.signed(device, token=SECRET, scopes=list(scopes) or READ)
    minted = (await bench.admit(params)).minted
    assert minted is not None
    return minted.token


@pytest.mark.parametrize("version", [2, 3])
async def test_at_this_machine_the_secret_pairs_a_device_without_asking(
    bench: Bench, version: int
) -> None:
    device = Device()
    params = bench.signed(device, version=version, token=SECRET, scopes=READ)
    admitted = await bench.admit(params)
    assert admitted.minted is not None
    assert (admitted.minted.role, *admitted.minted.scopes) == (Role.OPERATOR, Scope.READ)
    assert admitted.minted.issued_at == bench.session_service.clock()
    assert (admitted.device_id, admitted.principal.method) == (device.id, "token")
    assert admitted.principal.id == f"device:{device.id}"
    assert admitted.principal.scopes == {Scope.READ}
    assert (await bench.admit(params)).minted is None, "a token is handed out once"


async def test_at_this_machine_the_secret_widens_what_a_device_may(bench: Bench) -> None:
    device = Device()
    await paired(bench, device, *READ)
    params = bench.signed(device, token=SECRET, scopes=["operator.admin"])
    admitted = await bench.admit(params)
    assert admitted.principal.scopes == {Scope.ADMIN}
    assert admitted.minted is not None
    assert admitted.minted.scopes == {Scope.ADMIN, Scope.READ}


@pytest.mark.parametrize(
    "caller",
    [
        REMOTE,
        replace(LOCAL, host="gateway.example:18789"),
        replace(LOCAL, host="192.0.2.1"),
        replace(LOCAL, host="box.tail.ts.net"),
        replace(LOCAL, host=""),
        replace(LOCAL, address=ClientAddress("127.0.0.1", forwarded_by_stranger=True)),
        replace(LOCAL, address=ClientAddress("127.0.0.1", unproven=True)),
    ],
)
async def test_from_anywhere_else_the_secret_alone_does_not(bench: Bench, caller: Peer) -> None:
    device = Device()
    refusal = await bench.refused(bench.signed(device, caller, token=SECRET, scopes=READ), caller)
    assert refusal.error.code == "NOT_PAIRED"
    assert refusal.error.message == "pairing required: device is not approved yet"
    found = details(refusal)
    assert (found["code"], found["reason"]) == ("PAIRING_REQUIRED", "not-paired")
    assert found["requestId"] in found["remediationHint"]
    assert refusal.close_code == 1008
    assert refusal.reason == f"{refusal.error.message} (requestId: {found['requestId']})"
    ((pending,), _) = await bench.devices.list(ADMIN)
    assert pending.info.address == caller.address.address

    await bench.devices.approve(ADMIN, found["requestId"])
    admitted = await bench.admit(bench.signed(device, caller, token=SECRET, scopes=READ), caller)
    assert admitted.minted is not None


async def test_a_close_frame_has_room_for_the_whole_request_id(bench: Bench) -> None:
    device = Device()
    token = await paired(bench, device)
    bench.session_service.new_id = lambda: "0" * 36
    for params in ({"scopes": WRITE}, {"role": "node"}):
        refusal = await bench.refused(bench.signed(device, token=token, **params))
        assert refusal.reason.endswith(f"(requestId: {'0' * 36})")


@pytest.mark.parametrize("field", ["token", "deviceToken"])
@pytest.mark.parametrize("caller", [LOCAL, REMOTE])
async def test_a_device_token_lets_in_without_the_secret(
    bench: Bench, field: str, caller: Peer
) -> None:
    device = Device()
    token = await paired(bench, device, "operator.write")
    params = bench.signed(device, caller, auth={field: token}, scopes=READ)
    admitted = await bench.admit(params, caller)
    assert (admitted.principal.method, *admitted.principal.scopes) == ("device-token", Scope.READ)
    assert admitted.minted is None
    assert len(bench.lockout) == 0


@pytest.mark.parametrize("field", ["token", "deviceToken"])
async def test_a_device_token_never_widens_itself(bench: Bench, field: str) -> None:
    device = Device()
    token = await paired(bench, device, *READ)
    params = bench.signed(device, auth={field: token}, scopes=["operator.admin"])
    refusal = await bench.refused(params)
    assert (refusal.error.code, details(refusal)["reason"]) == ("NOT_PAIRED", "scope-upgrade")
    params = bench.signed(device, auth={field: token}, role="node")
    assert details(await bench.refused(params))["reason"] == "role-upgrade"
    assert len(bench.lockout) == 0


async def test_a_revoked_token_is_refused_and_the_secret_does_not_bring_it_back(
    bench: Bench,
) -> None:
    device = Device()
    token = await paired(bench, device)
    admitted = await bench.admit(bench.signed(device, token=token))
    await bench.devices.revoke(ADMIN, device.id, "operator")

    assert not bench.stands(admitted)
    refusal = await bench.refused(bench.signed(device, token=token))
    assert details(refusal)["code"] == "AUTH_TOKEN_MISMATCH"
    refusal = await bench.refused(bench.signed(device, token=SECRET))
    assert details(refusal)["code"] == "PAIRING_REQUIRED"


async def test_a_token_is_of_no_use_to_another_device_or_without_one(bench: Bench) -> None:
    token = await paired(bench, Device())
    other = Device()
    assert await bench.refused(bench.signed(other, token=token))
    params = bench.signed(other, token=token)
    del params["device"]
    assert details(await bench.refused(params))["code"] == "AUTH_TOKEN_MISMATCH"
    assert (await bench.devices.list(ADMIN))[0] == ()


async def test_pairing_outlives_a_restart(bench: Bench) -> None:
    device = Device()
    token = await paired(bench, device)
    again = await Bench(session_service=bench.session_service).open()
    assert (await again.admit(again.signed(device, token=token, scopes=READ))).device_id


@pytest.mark.parametrize(
    ("change", "message", "code", "reason"),
    [
        ({"nonce": None}, "nonce required", "NONCE_REQUIRED", "device-nonce-missing"),
        ({"nonce": "old"}, "nonce mismatch", "NONCE_MISMATCH", "device-nonce-mismatch"),
        ({"signature": "AAAA"}, "signature invalid", "SIGNATURE_INVALID", "device-signature"),
        ({"signedAt": 1}, "signature expired", "SIGNATURE_EXPIRED", "device-signature-stale"),
        ({"id": "x"}, "identity mismatch", "DEVICE_ID_MISMATCH", "device-id-mismatch"),
        ({"publicKey": "x"}, "public key invalid", "PUBLIC_KEY_INVALID", "device-public-key"),
    ],
)
@pytest.mark.parametrize("caller", [LOCAL, REMOTE])
async def test_a_wrong_proof_is_refused_whatever_else_is_right(
    bench: Bench, change: dict[str, Any], message: str, code: str, reason: str, caller: Peer
) -> None:
    params = bench.signed(Device(), caller, token=SECRET)
    params["device"].update(change)
    refusal = await bench.refused(params, caller)
    assert (refusal.error.code, refusal.error.message) == ("INVALID_REQUEST", f"device {message}")
    assert details(refusal) == {"code": f"DEVICE_AUTH_{code}", "reason": reason}


async def test_what_another_connection_signed_is_of_no_use(bench: Bench) -> None:
    params = bench.signed(Device(), token=SECRET)
    assert await bench.admit(params)
    refusal = await bench.refused(params, replace(LOCAL, nonce="nonce-2"))
    assert refusal.error.message == "device nonce mismatch"


async def test_a_device_without_any_secret_is_told_so_and_not_counted(bench: Bench) -> None:
    refusal = await bench.refused(bench.signed(Device()))
    assert refusal.error.message.startswith("unauthorized: gateway token missing (set gateway.rem")
    assert details(refusal) == {
        "code": "AUTH_TOKEN_MISSING",
        "authReason": "token_missing",
        "canRetryWithDeviceToken": False,
        "recommendedNextStep": "update_auth_configuration",
    }
    assert len(bench.lockout) == 0


@pytest.mark.parametrize(
    ("mode", "hint"),
    [
        (AuthMode.TOKEN, "open the dashboard URL and paste the token in Control UI settings"),
        (AuthMode.PASSWORD, "enter the password in Control UI settings"),
    ],
)
async def test_the_control_page_is_told_where_its_settings_are(
    bench: Bench, mode: AuthMode, hint: str
) -> None:
    bench.mode(mode)
    params = bench.signed(Device(), PAGE, client="opensoul-control-ui", mode="ui")
    refusal = await bench.refused(params, PAGE)
    assert refusal.error.message == f"unauthorized: gateway {mode} missing ({hint})"


async def test_a_wrong_token_of_a_device_may_be_tried_as_a_device_token(bench: Bench) -> None:
    refusal = await bench.refused(bench.signed(Device(), token="wrong"))
    found = details(refusal)
    assert (found["code"], found["canRetryWithDeviceToken"]) == ("AUTH_TOKEN_MISMATCH", True)
    assert found["recommendedNextStep"] == "retry_with_device_token"
    both = bench.signed(Device(), auth={"token": "wrong", "deviceToken": "wrong too"})
    assert details(await bench.refused(both))["canRetryWithDeviceToken"] is False


@pytest.mark.parametrize(
    ("field", "code"),
    [
        ("deviceToken", "AUTH_DEVICE_TOKEN_MISMATCH"),
        ("bootstrapToken", "AUTH_BOOTSTRAP_TOKEN_INVALID"),
    ],
)
async def test_other_tokens_that_prove_nothing_are_named(
    bench: Bench, field: str, code: str
) -> None:
    refusal = await bench.refused(bench.signed(Device(), auth={field: SECRET}))
    assert details(refusal)["code"] == code


async def test_wrong_device_tokens_count_and_lock_out(bench: Bench) -> None:
    device = Device()
    token = await paired(bench, device)
    for _ in range(20):
        await bench.refused(bench.signed(device, auth={"deviceToken": "stale"}))
    for wrong in ("wrong", "false"):
        await bench.refused(bench.signed(device, auth={"deviceToken": wrong}))
    for auth in ({"token": token}, {"deviceToken": token}, {"token": SECRET}):
        refusal = await bench.refused(bench.signed(device, auth=auth))
        assert details(refusal)["code"] == "AUTH_RATE_LIMITED"


async def test_a_device_token_is_no_cover_for_guessing_at_the_secret(bench: Bench) -> None:
    device = Device()
    token = await paired(bench, device)
    # Enough for what is asked: what lies beside it is not even looked at.
    enough = bench.signed(device, auth={"token": "guess", "deviceToken": token}, scopes=READ)
    assert (await bench.admit(enough)).principal.method == "device-token"
    assert len(bench.lockout) == 0
    right = bench.signed(device, auth={"token": SECRET, "deviceToken": token}, scopes=READ)
    assert (await bench.admit(right)).principal.method == "device-token"
    # Not enough: then the guess counts, and being a known device forgives nothing.
    for number in range(3):
        auth = {"token": f"guess {number}", "deviceToken": token}
        more = bench.signed(device, auth=auth, scopes=["operator.admin"])
        assert details(await bench.refused(more))["code"] == "PAIRING_REQUIRED"
        if len(bench.lockout) == 0:
            pytest.fail("the guess was not counted")
    assert details(await bench.refused(more))["code"] == "AUTH_RATE_LIMITED"


async def test_a_device_token_beside_the_right_secret_may_be_widened(bench: Bench) -> None:
    device = Device()
    token = await paired(bench, device)
    auth = {"token": SECRET, "deviceToken": token}
    admitted = await bench.admit(bench.signed(device, auth=auth, scopes=["operator.admin"]))
    assert (admitted.principal.method, *admitted.principal.scopes) == ("token", Scope.ADMIN)


async def test_without_authentication_a_local_device_is_paired_without_asking(
    bench: Bench,
) -> None:
    bench.mode(AuthMode.NONE)
    admitted = await bench.admit(bench.signed(Device(), scopes=READ))
    assert admitted.minted is not None
    assert (admitted.principal.method, *admitted.principal.scopes) == ("none", Scope.READ)
    for caller in (REMOTE, FORWARDED):
        refusal = await bench.refused(bench.signed(Device(), caller), caller)
        assert details(refusal)["code"] == "AUTH_REQUIRED"
        assert "Set gateway.auth.mode to `token` or `password`" in refusal.error.message
        assert (refusal.close_code, refusal.error.retryable) == (1008, None)


async def test_a_node_is_paired_as_one_and_has_no_scopes(bench: Bench) -> None:
    device = Device()
    params = bench.signed(device, token=SECRET, role="node", scopes=["operator.admin"])
    admitted = await bench.admit(params)
    assert admitted.minted is not None
    assert (admitted.role, admitted.principal.scopes) == ("node", frozenset())
    assert bench.devices.grant(device.id, Role.NODE)
    assert not bench.devices.grant(device.id, Role.OPERATOR)


async def test_what_the_gateway_cannot_do_now_is_worth_another_try(bench: Bench) -> None:
    bench.session_service.book.failure = StoreFailed("devices.json cannot be written: full")
    refusal = await bench.refused(bench.signed(Device(), token=SECRET))
    assert (refusal.error.code, refusal.error.retryable) == ("UNAVAILABLE", True)
    assert refusal.close_code == 1013
    bench.session_service.book.failure = None
    for number in range(MAX_PENDING):
        visitor = Visitor(f"d{number}", "k", Role.OPERATOR, frozenset())
        with pytest.raises(PairingRequired):
            await bench.devices.enter(visitor, token=None)
    refusal = await bench.refused(bench.signed(Device(), REMOTE, token=SECRET), REMOTE)
    assert refusal.error.message == "Too many devices wait to be approved."
    assert refusal.error.retry_after_ms == 300_000

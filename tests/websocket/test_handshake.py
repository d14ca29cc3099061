"""Who is let in without a device, with what, and how the others are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from opensoul.adapters.transports.control.handshake.handshake import granted
from opensoul.domain.access import Scope, covers
from opensoul.domain.access.addresses import ClientAddress
from opensoul.domain.models.calls import Secret
from opensoul.domain.settings import AuthMode, AuthSettings

from .shaking import FORWARDED, LOCAL, PAGE, REMOTE, SECRET, Bench, connect, details

MODES = [AuthMode.TOKEN, AuthMode.PASSWORD]


@pytest_asyncio.fixture
async def bench() -> Bench:
    return await Bench().open()


async def test_the_first_request_is_connect(bench: Bench) -> None:
    refusal = await bench.refused({}, method="health")
    assert refusal.error.message == "invalid handshake: first request must be connect"
    assert (refusal.error.code, refusal.close_code) == ("INVALID_REQUEST", 1008)


@pytest.mark.parametrize(
    ("params", "where"),
    [
        (None, "at root"),
        ({**connect(), "client": {"id": "cli"}}, "at /client: must have required property"),
        (connect(nonsense=1), "at root: unexpected property 'nonsense'"),
        (connect(client="stranger"), "at /client/id: must be equal to one of"),
        (connect(scopes=["x"] * 65), "at /scopes"),
    ],
)
async def test_parameters_of_another_shape_are_refused(
    bench: Bench, params: object, where: str
) -> None:
    refusal = await bench.refused(params)
    assert refusal.error.message.startswith(f"invalid connect params: {where}")
    assert (refusal.close_code, refusal.reason[:24]) == (1008, "invalid connect params: ")


@pytest.mark.parametrize(
    ("least", "most", "protocol"), [(3, 3, 3), (4, 4, 4), (3, 4, 4), (1, 3, 3), (4, 99, 4)]
)
async def test_the_highest_common_protocol_is_spoken(
    bench: Bench, least: int, most: int, protocol: int
) -> None:
    params = connect(token=SECRET, minProtocol=least, maxProtocol=most)
    assert (await bench.admit(params)).protocol == protocol


@pytest.mark.parametrize(("least", "most"), [(1, 2), (5, 9), (4, 3)])
async def test_without_a_common_protocol_nobody_is_let_in(
    bench: Bench, least: int, most: int
) -> None:
    refusal = await bench.refused(connect(token=SECRET, minProtocol=least, maxProtocol=most))
    assert refusal.error.message == refusal.reason == "protocol mismatch"
    assert refusal.close_code == 1002
    assert details(refusal) == {
        "code": "PROTOCOL_MISMATCH",
        "clientMinProtocol": least,
        "clientMaxProtocol": most,
        "expectedProtocol": 4,
        "minimumProbeProtocol": 3,
    }


@pytest.mark.parametrize("role", ["", "admin", "worker", "Operator"])
async def test_a_role_that_is_none_is_refused(bench: Bench, role: str) -> None:
    assert (await bench.refused(connect(token=SECRET, role=role))).error.message == "invalid role"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("field", ["token", "password"])
async def test_the_secret_is_taken_in_either_field(
    bench: Bench, mode: AuthMode, field: str
) -> None:
    bench.mode(mode)
    params = connect(auth={field: SECRET}, scopes=["operator.read"])
    admitted = await bench.admit(params, REMOTE)
    assert admitted.principal.scopes == {Scope.READ}
    assert admitted.principal.address == "203.0.113.7"
    assert (admitted.principal.method, admitted.role, admitted.minted) == (
        mode.value,
        "operator",
        None,
    )
    assert admitted.device_id is None
    assert SECRET not in repr(admitted.principal)


@pytest.mark.parametrize("mode", MODES)
async def test_of_both_fields_the_one_of_the_mode_counts(bench: Bench, mode: AuthMode) -> None:
    bench.mode(mode)
    other = "password" if mode is AuthMode.TOKEN else "token"
    assert await bench.admit(connect(auth={mode.value: SECRET, other: "wrong"}))
    assert await bench.refused(connect(auth={mode.value: "wrong", other: SECRET}))


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("scopes", [{}, {"scopes": []}, {"scopes": ["operator.everything", "x"]}])
async def test_who_asks_for_nothing_known_gets_nothing(
    bench: Bench, protocol: int, scopes: dict[str, Any]
) -> None:
    params = connect(token=SECRET, minProtocol=protocol, maxProtocol=protocol, **scopes)
    assert (await bench.admit(params)).principal.scopes == frozenset()


async def test_the_secret_stands_for_every_scope_and_unknown_ones_are_ignored(
    bench: Bench,
) -> None:
    params = connect(token=SECRET, scopes=[*Scope, "operator.everything"])
    assert (await bench.admit(params, REMOTE)).principal.scopes == set(Scope)


async def test_a_node_has_no_scopes_of_operators(bench: Bench) -> None:
    admitted = await bench.admit(connect(token=SECRET, role="node", scopes=[*Scope]))
    assert (admitted.role, admitted.principal.scopes) == ("node", frozenset())


async def test_without_authentication_programs_of_this_machine_get_what_they_ask_for(
    bench: Bench,
) -> None:
    bench.mode(AuthMode.NONE)
    for auth in ({}, {"token": "whatever"}):
        admitted = await bench.admit(connect(auth=auth, scopes=["operator.admin"]))
        assert admitted.principal.scopes == {Scope.ADMIN}
        assert (admitted.principal.method, admitted.principal.id) == ("none", "anonymous")
        for caller in (REMOTE, FORWARDED):
            refusal = await bench.refused(connect(auth=auth), caller)
            assert details(refusal)["code"] == "AUTH_REQUIRED"


@pytest.mark.parametrize("auth", [{}, {"token": ""}, {"deviceToken": "x"}])
async def test_with_neither_device_nor_secret_a_device_is_asked_for(
    bench: Bench, auth: dict[str, str]
) -> None:
    refusal = await bench.refused(connect(auth=auth))
    assert (refusal.error.code, refusal.error.message) == ("NOT_PAIRED", "device identity required")
    assert details(refusal) == {"code": "DEVICE_IDENTITY_REQUIRED"}
    assert len(bench.lockout) == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("client", "client_mode", "hint"),
    [
        ("cli", "cli", "set gateway.remote.{0} to match gateway.auth.{0}"),
        ("gateway-client", "backend", "provide gateway auth {0}"),
    ],
)
async def test_a_wrong_secret_is_refused_with_a_hint(
    bench: Bench, mode: AuthMode, client: str, client_mode: str, hint: str
) -> None:
    bench.mode(mode)
    refusal = await bench.refused(connect(token="wrong", client=client, mode=client_mode))
    text = f"unauthorized: gateway {mode} mismatch ({hint.format(mode)})"
    assert (refusal.error.code, refusal.error.message) == ("INVALID_REQUEST", text)
    assert refusal.reason == text
    assert details(refusal) == {
        "code": f"AUTH_{mode.upper()}_MISMATCH",
        "authReason": f"{mode}_mismatch",
        "canRetryWithDeviceToken": False,
        "recommendedNextStep": "update_auth_credentials",
    }


async def test_a_gateway_without_a_secret_says_so(bench: Bench) -> None:
    bench.settings = replace(bench.settings, auth=AuthSettings(AuthMode.TOKEN, Secret("")))
    refusal = await bench.refused(connect(token="x"))
    assert details(refusal)["code"] == "AUTH_TOKEN_NOT_CONFIGURED"
    assert "token not configured on gateway (set gateway.auth.token)" in refusal.error.message


async def test_who_guesses_is_locked_out_as_on_http(bench: Bench) -> None:
    for _ in range(20):
        await bench.refused(connect(token="stale"), REMOTE)
    for wrong in ("wrong", "false"):
        await bench.refused(connect(token=wrong), REMOTE)
    refusal = await bench.refused(connect(token=SECRET), REMOTE)
    text = "unauthorized: too many failed authentication attempts (retry later)"
    assert refusal.error.message == text
    assert details(refusal)["code"] == "AUTH_RATE_LIMITED"
    assert (refusal.error.retryable, refusal.error.retry_after_ms) == (True, 300_000)
    other = replace(REMOTE, address=ClientAddress("203.0.113.8"))
    assert await bench.admit(connect(token=SECRET), other)


async def test_a_secret_that_is_not_ascii_is_compared_as_utf_8(bench: Bench) -> None:
    bench.settings = replace(bench.settings, auth=AuthSettings(AuthMode.TOKEN, Secret("schlüssel")))
    assert await bench.admit(connect(token="schlüssel"))
    assert await bench.refused(connect(token="schluessel"))


@pytest.mark.parametrize("client", ["opensoul-control-ui", "openclaw-control-ui"])
async def test_the_control_page_needs_a_device_whatever_it_brings(
    bench: Bench, client: str
) -> None:
    for mode in AuthMode:
        bench.mode(mode)
        refusal = await bench.refused(connect(token=SECRET, client=client, mode="ui"), PAGE)
        text = "control ui requires HTTPS or localhost (secure context)"
        assert refusal.error.message == text
        assert details(refusal) == {"code": "CONTROL_UI_DEVICE_IDENTITY_REQUIRED"}
    assert len(bench.lockout) == 0


@pytest.mark.parametrize(
    ("client", "mode", "origin"),
    [
        ("opensoul-control-ui", "ui", None),
        ("webchat-ui", "webchat", None),
        ("test", "webchat", None),
        ("cli", "cli", "https://evil.example"),
        ("cli", "cli", "null"),
        ("cli", "cli", ""),
    ],
)
async def test_a_page_from_elsewhere_is_refused(
    bench: Bench, client: str, mode: str, origin: str | None
) -> None:
    caller = replace(LOCAL, origin=origin)
    refusal = await bench.refused(connect(token=SECRET, client=client, mode=mode), caller)
    assert details(refusal) == {"code": "CONTROL_UI_ORIGIN_NOT_ALLOWED"}
    assert refusal.error.message.startswith("origin not allowed (open the Control UI")
    assert refusal.close_code == 1008


async def test_a_page_of_the_gateway_itself_is_let_in(bench: Bench) -> None:
    params = connect(token=SECRET, client="webchat-ui", mode="webchat")
    assert await bench.admit(params, PAGE)


async def test_a_connection_stands_while_its_secret_does(bench: Bench) -> None:
    admitted = await bench.admit(connect(token=SECRET))
    assert bench.stands(admitted)
    bench.settings = replace(bench.settings, auth=AuthSettings(AuthMode.TOKEN, Secret("new")))
    assert not bench.stands(admitted)


SCOPES = st.frozensets(st.sampled_from(list(Scope)))


@given(asked=SCOPES, held=SCOPES)
def test_what_is_granted_was_asked_for_and_is_held(
    asked: frozenset[Scope], held: frozenset[Scope]
) -> None:
    given_out = granted(asked, held)
    assert given_out <= asked
    assert all(covers(held, scope) for scope in given_out)
    assert granted(asked, given_out) == given_out

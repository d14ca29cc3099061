"""Who is let in, as whom, and what they may do."""

from __future__ import annotations

import logging

import pytest

from opensoul.adapters.persistence.memory import MemoryLimits
from opensoul.domain.access import (
    ALL_SCOPES,
    Credential,
    Principal,
    Scope,
    authorize,
)
from opensoul.domain.access.addresses import ClientAddress
from opensoul.domain.errors import Forbidden, LockedOut, NotLocal, Unauthenticated
from opensoul.domain.models.calls import Secret
from opensoul.domain.services.access import Access
from opensoul.domain.settings import AuthMode, AuthSettings, LockoutSettings
from tests.fakes.domain import FakeClock
from tests.fakes.domain import settings as settings_with

HERE = ClientAddress("203.0.113.7")
TOKEN = AuthSettings(AuthMode.TOKEN, Secret("right"), LockoutSettings(max_attempts=3))


async def authenticate(
    credential: Credential, settings: AuthSettings, lockout: MemoryLimits
) -> Principal:
    current = settings_with(auth=settings)
    return await Access(settings=lambda: current, limits=lockout).authenticate(credential)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def lockout(clock: FakeClock) -> MemoryLimits:
    return MemoryLimits(clock)


@pytest.mark.parametrize("mode", [AuthMode.TOKEN, AuthMode.PASSWORD])
async def test_the_right_secret_proves_the_operator(lockout: MemoryLimits, mode: AuthMode) -> None:
    principal = await authenticate(
        Credential(HERE, b"right"), AuthSettings(mode, Secret("right")), lockout
    )

    assert principal == Principal("operator", ALL_SCOPES, mode, "203.0.113.7")


@pytest.mark.parametrize("wrong", [b"wrong", b"", b"Right", b"right ", b"\xff\xfe", b"r" * 100_000])
async def test_a_wrong_secret_is_refused(lockout: MemoryLimits, wrong: bytes) -> None:
    with pytest.raises(Unauthenticated, match=r"This token is not the Gateway's\.") as refused:
        await authenticate(Credential(HERE, wrong), TOKEN, lockout)

    assert "right" not in str(refused.value)
    assert refused.value.code == "invalid_api_key"


@pytest.mark.parametrize("secret", ["pässwört", "秘密🔑", "\ud800"])
async def test_a_secret_of_many_bytes_is_compared_as_utf_8(
    lockout: MemoryLimits, secret: str
) -> None:
    settings = AuthSettings(AuthMode.PASSWORD, Secret(secret))
    right = secret.encode("utf-8", "surrogatepass")

    assert (await authenticate(Credential(HERE, right), settings, lockout)).id == "operator"
    with pytest.raises(Unauthenticated):
        await authenticate(Credential(HERE, right[:-1]), settings, lockout)
    with pytest.raises(Unauthenticated):
        await authenticate(
            Credential(HERE, secret.encode("utf-16", "surrogatepass")), settings, lockout
        )


async def test_without_a_configured_secret_nobody_gets_in(lockout: MemoryLimits) -> None:
    with pytest.raises(Unauthenticated):
        await authenticate(Credential(HERE, b""), AuthSettings(AuthMode.TOKEN), lockout)


async def test_an_empty_configured_secret_lets_nobody_in(lockout: MemoryLimits) -> None:
    with pytest.raises(Unauthenticated):
        await authenticate(Credential(HERE, b""), AuthSettings(AuthMode.TOKEN, Secret("")), lockout)


async def test_a_missing_credential_is_refused_but_does_not_count(lockout: MemoryLimits) -> None:
    for _ in range(10):
        with pytest.raises(Unauthenticated, match="Authorization: Bearer <token>") as refused:
            await authenticate(Credential(HERE), TOKEN, lockout)
        assert not isinstance(refused.value, LockedOut)

    assert len(lockout) == 0
    assert (await authenticate(Credential(HERE, b"right"), TOKEN, lockout)).id == "operator"


async def test_too_many_wrong_secrets_lock_the_right_one_out_too(
    lockout: MemoryLimits, clock: FakeClock
) -> None:
    for wrong in (b"wrong", b"false", b"untrue"):
        with pytest.raises(Unauthenticated):
            await authenticate(Credential(HERE, wrong), TOKEN, lockout)

    with pytest.raises(LockedOut) as refused:
        await authenticate(Credential(HERE, b"right"), TOKEN, lockout)
    assert refused.value.retry_after == 300.0
    clock.advance(300)
    assert (await authenticate(Credential(HERE, b"right"), TOKEN, lockout)).id == "operator"


async def test_a_locked_address_does_not_lock_out_another(lockout: MemoryLimits) -> None:
    for wrong in (b"wrong", b"false", b"untrue"):
        with pytest.raises(Unauthenticated):
            await authenticate(Credential(HERE, wrong), TOKEN, lockout)

    other = Credential(ClientAddress("203.0.113.8"), b"right")
    assert (await authenticate(other, TOKEN, lockout)).address == "203.0.113.8"


async def test_a_right_secret_forgives_the_wrong_ones_before_it(lockout: MemoryLimits) -> None:
    for _ in range(3):
        for wrong in (b"wrong", b"false"):
            with pytest.raises(Unauthenticated):
                await authenticate(Credential(HERE, wrong), TOKEN, lockout)
        assert (await authenticate(Credential(HERE, b"right"), TOKEN, lockout)).id == "operator"


async def test_without_authentication_every_program_of_this_machine_may_do_everything(
    lockout: MemoryLimits,
) -> None:
    settings = AuthSettings(AuthMode.NONE)

    for secret in (None, b"whatever"):
        principal = await authenticate(Credential(ClientAddress("::1"), secret), settings, lockout)
        assert principal == Principal("anonymous", ALL_SCOPES, "none", "::1")


@pytest.mark.parametrize("secret", [None, b"whatever"])
@pytest.mark.parametrize(
    ("client", "cause"),
    [
        (HERE, "the request came from 203.0.113.7"),
        (ClientAddress("local socket"), "the request came from local socket"),
        (ClientAddress("127.0.0.1", forwarded_by_stranger=True), "forwarding headers"),
        (ClientAddress("127.0.0.1", through_proxy=True), "forwarding headers"),
        (ClientAddress("127.0.0.1", unproven=True, through_proxy=True), "forwarding headers"),
        (ClientAddress("203.0.113.7", through_proxy=True), "forwarding headers"),
    ],
)
async def test_without_authentication_only_this_machine_is_served(
    lockout: MemoryLimits, client: ClientAddress, cause: str, secret: bytes | None
) -> None:
    with pytest.raises(NotLocal, match=cause) as refused:
        await authenticate(Credential(client, secret), AuthSettings(AuthMode.NONE), lockout)

    assert "Set gateway.auth.mode to `token` or `password`" in refused.value.message


async def test_a_lockout_is_logged_without_the_secret(
    lockout: MemoryLimits, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            with pytest.raises(Unauthenticated):
                await authenticate(Credential(HERE, b"guess %d" % number), TOKEN, lockout)

    assert [record.message for record in caplog.records] == [
        "too many wrong credentials: the address is locked out"
    ]
    assert "guess" not in repr([vars(record) for record in caplog.records])


async def test_failures_through_an_unlisted_proxy_on_loopback_are_warned_about(
    lockout: MemoryLimits, caplog: pytest.LogCaptureFixture
) -> None:
    through = ClientAddress("127.0.0.1", forwarded_by_stranger=True)

    with caplog.at_level(logging.WARNING), pytest.raises(Unauthenticated):
        await authenticate(Credential(through, b"wrong"), TOKEN, lockout)

    assert "gateway.trustedProxies" in caplog.text


@pytest.mark.parametrize(
    ("held", "allowed"),
    [
        ({Scope.READ}, {Scope.READ, Scope.SESSIONS_READ}),
        (
            {Scope.WRITE},
            {
                Scope.READ,
                Scope.WRITE,
                Scope.TALK,
                Scope.SESSIONS_READ,
                Scope.SESSIONS_WRITE,
            },
        ),
        ({Scope.SESSIONS_WRITE}, {Scope.SESSIONS_READ, Scope.SESSIONS_WRITE}),
        ({Scope.ADMIN}, set(Scope)),
        ({Scope.APPROVALS}, {Scope.APPROVALS}),
        ({Scope.PAIRING}, {Scope.PAIRING}),
        (set(), set()),
    ],
)
def test_writing_includes_reading_and_admin_includes_all(
    held: set[Scope], allowed: set[Scope]
) -> None:
    principal = Principal("somebody", frozenset(held), "token")

    for scope in Scope:
        assert principal.may(scope) == (scope in allowed)
        if scope in allowed:
            authorize(principal, scope)
        else:
            with pytest.raises(Forbidden, match=f"missing scope: {scope.value}"):
                authorize(principal, scope)


def test_a_credential_and_a_secret_do_not_show_themselves() -> None:
    credential, secret = Credential(HERE, b"hunter2"), Secret("hunter2")

    for shown in (repr(credential), str(credential), repr(secret), str(secret), f"{secret}"):
        assert "hunter2" not in shown
    assert "hunter2" not in repr(AuthSettings(AuthMode.TOKEN, secret))
    assert "secret=none" in repr(Credential(HERE))


def test_secrets_are_equal_when_their_values_are() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2

"""Who is paired, who approves, what tokens are worth, and who is told."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensoul.domain.access import Principal, Scope, covers
from opensoul.domain.access.devices.pairing import (
    MAX_PAIRED,
    MAX_PENDING,
    Entry,
    PairingRequired,
    TokenRefused,
    Visitor,
)
from opensoul.domain.access.devices.records import (
    DeviceRemoved,
    DeviceState,
    PairingReason,
    PairingRequested,
    PairingResolved,
    Role,
    TokenRevoked,
    TokenRotated,
)
from opensoul.domain.errors import Forbidden, GatewayBusy, InvalidRequest, StoreFailed
from opensoul.domain.services.devices import Devices
from tests.fakes.devices import ADMIN, Desk, Device, FakeDeviceBook, accepts, names

READ, WRITE, PAIRING = Scope.READ, Scope.WRITE, Scope.PAIRING


def holding(*scopes: Scope) -> Principal:
    return Principal("somebody", frozenset(scopes), "token")


async def asked(devices: Devices, visitor: Visitor, token: str | None = None) -> PairingRequired:
    with pytest.raises(PairingRequired) as required:
        await devices.enter(visitor, token=token)
    return required.value


async def paired(devices: Devices, device: Device, *scopes: Scope) -> str:
    """The device's token, after it was approved at this machine."""
    entry = await devices.enter(device.visitor(*scopes), token=None, silent=True)
    assert entry.minted is not None
    return entry.minted.token


async def test_an_unknown_device_waits_until_it_is_approved_and_then_gets_a_token() -> None:
    session_service, device = Desk(), Device()
    devices = await session_service.open()

    required = await asked(devices, device.visitor(READ))
    assert required.reason is PairingReason.NOT_PAIRED
    (pending,), nobody = await devices.list(ADMIN)
    assert (pending.request_id, nobody) == (required.request_id, ())
    assert pending.scopes == {READ}
    await devices.approve(ADMIN, required.request_id)
    entry = await devices.enter(device.visitor(READ), token=None)

    assert entry.scopes == {READ}
    assert entry.minted is not None
    assert entry.minted.token not in repr((entry, session_service.book.state))
    assert await accepts(devices, device.id, entry.minted.token)
    assert names(session_service.events) == ["PairingRequested", "PairingResolved"]
    assert isinstance(session_service.events[1], PairingResolved)
    assert session_service.events[1].decision == "approved"


async def test_a_token_is_handed_out_once_and_lets_in_from_then_on() -> None:
    session_service, device = Desk(), Device()
    devices = await session_service.open()
    token = await paired(devices, device, READ)

    for _ in range(2):
        assert await devices.enter(device.visitor(READ), token=token) == Entry(frozenset({READ}))
    assert await devices.enter(device.visitor(READ), token=None) == Entry(frozenset({READ}))


async def test_asking_for_nothing_gives_nothing() -> None:
    devices, device = await Desk().open(), Device()
    token = await paired(devices, device, Scope.ADMIN)
    assert (await devices.enter(device.visitor(), token=token)).scopes == frozenset()


async def test_the_book_holds_the_digest_only_and_survives_a_restart() -> None:
    session_service, device = Desk(), Device()
    token = await paired(await session_service.open(), device, READ)
    other = await asked(await session_service.open(), Device().visitor(READ))

    again = await session_service.open()
    assert token not in repr(
        session_service.book.state.paired[device.id].tokens[Role.OPERATOR].digest
    )
    assert (await again.enter(device.visitor(READ), token=token)).scopes == {READ}
    assert [p.request_id for p in (await again.list(ADMIN))[0]] == [other.request_id]


async def test_a_token_never_widens_itself_not_even_at_this_machine() -> None:
    session_service, device = Desk(), Device()
    devices = await session_service.open()
    token = await paired(devices, device, READ)

    for silent in (False, True):
        with pytest.raises(PairingRequired) as required:
            await devices.enter(device.visitor(READ, WRITE), token=token, silent=silent)
        assert required.value.reason is PairingReason.SCOPE
    with pytest.raises(PairingRequired) as required:
        await devices.enter(device.visitor(role=Role.NODE), token=token, silent=True)
    assert required.value.reason is PairingReason.ROLE
    assert not devices.suffices(device.visitor(WRITE), token)
    assert not devices.suffices(device.visitor(role=Role.NODE), token)


async def test_a_wider_approval_gives_a_new_token_and_the_old_one_ends() -> None:
    session_service, device = Desk(), Device()
    devices = await session_service.open()
    old = await paired(devices, device, READ)
    required = await asked(devices, device.visitor(WRITE), old)
    await devices.approve(ADMIN, required.request_id)

    entry = await devices.enter(device.visitor(WRITE), token=old)

    assert entry.scopes == {WRITE}
    assert entry.minted is not None
    assert entry.minted.scopes == {READ, WRITE}
    assert not await accepts(devices, device.id, old)
    with pytest.raises(TokenRefused):
        await devices.enter(device.visitor(READ), token=old)


@pytest.mark.parametrize("wrong", ["", "token-0", "ü\ud800"])
async def test_a_wrong_token_is_refused_and_asks_for_nothing(wrong: str) -> None:
    session_service, device, stranger = Desk(), Device(), Device()
    devices = await session_service.open()
    token = await paired(devices, device, READ)

    for visitor, brought in (
        (device.visitor(READ), wrong),
        (stranger.visitor(READ), token),
        (stranger.visitor(READ), wrong),
    ):
        with pytest.raises(TokenRefused):
            await devices.enter(visitor, token=brought)
        assert not devices.suffices(visitor, brought)
    assert (await devices.list(ADMIN))[0] == ()


async def test_what_is_revoked_stays_so_until_somebody_approves() -> None:
    session_service, device = Desk(), Device()
    devices = await session_service.open()
    token = await paired(devices, device, Scope.ADMIN)
    assert devices.grant(device.id, Role.OPERATOR)

    revoked = await devices.revoke(ADMIN, device.id, "operator")
    assert await devices.revoke(ADMIN, device.id, "operator") == revoked
    assert session_service.events[-1] == TokenRevoked(device.id, Role.OPERATOR)
    assert not devices.grant(device.id, Role.OPERATOR)

    with pytest.raises(TokenRefused):
        await devices.enter(device.visitor(), token=token)
    with pytest.raises(InvalidRequest, match="approved again"):
        await devices.rotate(ADMIN, device.id, "operator")
    with pytest.raises(PairingRequired) as required:
        await devices.enter(device.visitor(READ), token=None, silent=True)
    await devices.approve(ADMIN, required.value.request_id)
    entry = await devices.enter(device.visitor(READ), token=None)
    assert entry.minted is not None
    assert entry.minted.scopes == {READ}, "nothing is left of what was revoked"
    assert not await accepts(devices, device.id, token)


async def test_nobody_approves_what_they_do_not_hold() -> None:
    session_service, device = Desk(), Device()
    devices = await session_service.open()
    required = await asked(devices, device.visitor(Scope.ADMIN))

    with pytest.raises(Forbidden, match=r"missing scope: operator\.admin"):
        await devices.approve(holding(PAIRING, WRITE), required.request_id)
    assert len((await devices.list(ADMIN))[0]) == 1
    less = await asked(devices, device.visitor(READ))
    assert (await devices.approve(holding(PAIRING, WRITE), less.request_id)).id == device.id


async def test_nobody_rotates_to_what_they_or_the_device_do_not_hold() -> None:
    devices, device = await Desk().open(), Device()
    await paired(devices, device, Scope.ADMIN)

    with pytest.raises(Forbidden, match=r"operator\.admin"):
        await devices.rotate(holding(PAIRING, READ), device.id, "operator")
    with pytest.raises(Forbidden, match=r"operator\.admin"):
        await devices.rotate(holding(PAIRING, READ), device.id, "operator", frozenset({READ}))
    narrow = await devices.rotate(ADMIN, device.id, "operator", frozenset({READ}))
    assert narrow.scopes == {READ}
    with pytest.raises(InvalidRequest, match=r"not approved for operator\.write"):
        await devices.rotate(ADMIN, device.id, "operator", frozenset({WRITE}))


async def test_a_rotated_token_takes_the_place_of_the_old_one() -> None:
    session_service, device = Desk(), Device()
    devices = await session_service.open()
    old = await paired(devices, device, READ)

    new = await devices.rotate(ADMIN, device.id, "operator")

    assert not await accepts(devices, device.id, old)
    assert await accepts(devices, device.id, new.token)
    assert session_service.events[-1] == TokenRotated(device.id, Role.OPERATOR)


async def test_a_removed_device_is_unknown() -> None:
    session_service, device = Desk(), Device()
    devices = await session_service.open()
    token = await paired(devices, device, READ)
    await asked(devices, device.visitor(WRITE), token)

    assert (await devices.remove(ADMIN, device.id)).id == device.id

    assert await devices.list(ADMIN) == ((), ())
    assert names(session_service.events[-2:]) == ["DeviceRemoved", "PairingResolved"]
    assert session_service.events[-2] == DeviceRemoved(device.id, (Role.OPERATOR,))
    with pytest.raises(TokenRefused):
        await devices.enter(device.visitor(READ), token=token)
    await paired(devices, device, READ)
    await devices.remove(ADMIN, device.id)
    assert session_service.events[-1] == DeviceRemoved(device.id, (Role.OPERATOR,))


async def test_every_decision_needs_the_scope() -> None:
    devices = await Desk().open()
    nobody = holding(READ, WRITE, Scope.APPROVALS)
    for refused in (
        devices.list(nobody),
        devices.approve(nobody, "x"),
        devices.reject(nobody, "x"),
        devices.remove(nobody, "x"),
        devices.rotate(nobody, "x", "operator"),
        devices.revoke(nobody, "x", "operator"),
    ):
        with pytest.raises(Forbidden, match=r"missing scope: operator\.pairing"):
            await refused


async def test_what_is_not_there_cannot_be_decided_on() -> None:
    devices, device = await Desk().open(), Device()
    await paired(devices, device, READ)
    for text, refused in (
        ("unknown requestId", devices.approve(ADMIN, "x")),
        ("unknown requestId", devices.reject(ADMIN, "x")),
        ("unknown deviceId", devices.remove(ADMIN, "x")),
        ("unknown deviceId", devices.rotate(ADMIN, "x", "operator")),
        ("unknown deviceId/role", devices.rotate(ADMIN, device.id, "node")),
        ("unknown deviceId/role", devices.revoke(ADMIN, device.id, "x")),
    ):
        with pytest.raises(InvalidRequest, match=f"^{text}$"):
            await refused


async def test_a_rejected_request_is_gone() -> None:
    session_service, device = Desk(), Device()
    devices = await session_service.open()
    required = await asked(devices, device.visitor(READ))
    assert (await devices.reject(ADMIN, required.request_id)).device_id == device.id
    resolved = PairingResolved(required.request_id, device.id, "rejected", session_service.clock())
    assert session_service.events[-1] == resolved
    with pytest.raises(InvalidRequest):
        await devices.approve(ADMIN, required.request_id)


async def test_a_request_expires_after_five_minutes_and_that_is_told() -> None:
    session_service, device = Desk(), Device()
    devices = await session_service.open()
    required = await asked(devices, device.visitor(READ))
    session_service.clock.advance(299)
    await devices.expire()
    assert names(session_service.events) == ["PairingRequested"]
    session_service.clock.advance(1)

    with pytest.raises(InvalidRequest, match="unknown requestId"):
        await devices.approve(ADMIN, required.request_id)

    resolved = PairingResolved(required.request_id, device.id, "expired", session_service.clock())
    assert session_service.events[-1] == resolved
    assert session_service.book.state.pending == {}


async def test_the_same_request_again_is_one_request_and_a_new_one_takes_its_place() -> None:
    session_service, device = Desk(), Device()
    devices = await session_service.open()
    first = await asked(devices, device.visitor(READ))
    saves = session_service.book.saves
    same = await asked(devices, device.visitor(READ))
    assert (same.request_id, session_service.book.saves) == (first.request_id, saves)
    renamed = await asked(devices, device.visitor(READ, name="tablet"))
    assert renamed.request_id == first.request_id
    assert names(session_service.events) == ["PairingRequested"]

    other = await asked(devices, device.visitor(Scope.ADMIN, name="tablet"))

    assert other.request_id != first.request_id
    (pending,), _ = await devices.list(ADMIN)
    assert pending.scopes == {Scope.ADMIN}
    assert pending.info.display_name == "tablet"
    with pytest.raises(InvalidRequest):
        await devices.approve(ADMIN, first.request_id)
    resolved, requested = session_service.events[-2:]
    assert isinstance(resolved, PairingResolved)
    assert resolved.decision == "superseded"
    assert requested == PairingRequested(pending)


async def test_a_waiting_request_does_not_stand_in_the_way_at_this_machine() -> None:
    session_service, device = Desk(), Device()
    devices = await session_service.open()
    await asked(devices, device.visitor(READ))
    await paired(devices, device, READ, WRITE)
    assert (await devices.list(ADMIN))[0] == ()


async def test_requests_and_devices_are_bounded_and_so_is_what_they_say() -> None:
    devices = await Desk().open()
    for number in range(MAX_PENDING):
        await asked(devices, Visitor(f"d{number}", "k", Role.OPERATOR, frozenset()))
    with pytest.raises(GatewayBusy):
        await devices.enter(Visitor("one more", "k", Role.OPERATOR, frozenset()), token=None)
    devices = await Desk().open()
    await asked(devices, Device().visitor(name="x" * 5_000))
    ((pending,), _) = await devices.list(ADMIN)
    assert len(pending.info.display_name) == 256
    for number in range(MAX_PAIRED):
        visitor = Visitor(f"d{number}", "k", Role.OPERATOR, frozenset())
        await devices.enter(visitor, token=None, silent=True)
    with pytest.raises(GatewayBusy, match="remove one"):
        await paired(devices, Device(), READ)


async def test_another_key_under_a_known_id_has_nothing_of_what_the_first_had() -> None:
    devices, device = await Desk().open(), Device()
    token = await paired(devices, device, Scope.ADMIN)
    other = Visitor(device.id, "another key", Role.OPERATOR, frozenset({READ}))
    with pytest.raises(PairingRequired) as required:
        await devices.enter(other, token=None)
    assert required.value.reason is PairingReason.NOT_PAIRED
    await devices.approve(ADMIN, required.value.request_id)
    assert not await accepts(devices, device.id, token)


async def test_a_connection_is_not_worth_a_write() -> None:
    session_service, device = Desk(), Device()
    devices = await session_service.open()
    token = await paired(devices, device, READ)
    saves = session_service.book.saves
    for _ in range(3):
        await devices.enter(device.visitor(READ), token=token)
    assert session_service.book.saves == saves
    session_service.clock.advance(3_600)
    await devices.enter(device.visitor(READ), token=token)
    used = session_service.book.state.paired[device.id].tokens[Role.OPERATOR].last_used_at
    assert (session_service.book.saves, used) == (saves + 1, session_service.clock())


async def test_what_could_not_be_kept_has_not_happened() -> None:
    session_service, device = Desk(), Device()
    devices = await session_service.open()
    session_service.book.failure = StoreFailed("full")
    with pytest.raises(StoreFailed):
        await paired(devices, device, READ)
    assert (await devices.list(ADMIN), session_service.events) == (((), ()), [])
    session_service.book.failure = None
    assert await paired(devices, device, READ)


async def test_who_stops_waiting_does_not_stop_a_change_half_way() -> None:
    session_service = Desk(book=SlowBook())
    devices, device = await session_service.open(), Device()
    assert isinstance(session_service.book, SlowBook)
    entering = asyncio.create_task(paired(devices, device, READ))
    await session_service.book.reached.wait()
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    session_service.book.go_on.set()
    await devices.expire()
    assert [d.id for d in (await devices.list(ADMIN))[1]] == [device.id]


class SlowBook(FakeDeviceBook):
    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()

    async def save(self, state: DeviceState) -> bool:
        self.reached.set()
        await self.go_on.wait()
        return await super().save(state)


async def test_who_no_longer_wants_to_be_told_is_not() -> None:
    devices, told = await Desk().open(), []  # type: ignore[var-annotated]
    stop = devices.on_change(told.append)
    await paired(devices, Device(), READ)
    stop()
    await paired(devices, Device(), READ)
    assert len(told) == 1


async def test_devices_that_were_not_opened_let_nobody_in_and_keep_nothing() -> None:
    session_service = Desk()
    devices = Devices(
        book=session_service.book, clock=session_service.clock, verify=lambda *_: True
    )
    with pytest.raises(RuntimeError, match="not opened"):
        await devices.enter(Device().visitor(), token=None, silent=True)
    assert session_service.book.saves == 0
    await devices.open()
    tokens = {await paired(devices, Device()) for _ in range(2)}
    assert len(tokens) == 2
    assert all(len(token) == 43 for token in tokens)


SCOPES = st.frozensets(st.sampled_from(list(Scope)))


@given(first=SCOPES, asks=SCOPES, silent=st.booleans(), by_token=st.booleans())
def test_what_is_granted_was_always_asked_for_and_held(
    first: frozenset[Scope], asks: frozenset[Scope], silent: bool, by_token: bool
) -> None:
    async def go() -> None:
        devices, device = await Desk().open(), Device()
        token = await paired(devices, device, *first)
        try:
            entry = await devices.enter(
                device.visitor(*asks), token=token if by_token else None, silent=silent
            )
        except PairingRequired:
            assert not all(covers(first, scope) for scope in asks)
            return
        assert entry.scopes <= asks
        held = first | asks if silent and not by_token else first
        assert all(covers(held, scope) for scope in entry.scopes)

    asyncio.run(go())

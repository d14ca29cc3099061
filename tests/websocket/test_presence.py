"""Presence shows devices: a device with two windows is there until both are closed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from opensoul.adapters.transports.control.broadcast.presence import Presence
from opensoul.adapters.transports.control.connection.connection import Connection
from opensoul.adapters.transports.control.protocol.frames import ClientInfo
from opensoul.domain.access import Principal, Scope
from tests.fakes.domain import FakeClock

PHONE, TABLET = "a" * 64, "b" * 64
_NUMBERS: Iterator[int] = count(1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1_000_000.0)


@pytest.fixture
def presence(clock: FakeClock) -> Presence:
    return Presence(clock, "1")


def window(
    device: str | None = None,
    instance: str | None = None,
    *,
    role: str = "operator",
    scopes: tuple[Scope, ...] = (Scope.READ,),
    mode: str = "ui",
) -> Connection:
    client = ClientInfo.model_validate(
        {"id": "test", "version": "1", "platform": "x", "mode": mode, "instanceId": instance}
    )
    principal = Principal("somebody", frozenset(scopes), "token")
    name = f"connection-{next(_NUMBERS)}"
    return Connection(
        name, principal, role, 4, client, frozenset(), "127.0.0.1", 0.0, device_id=device
    )


def shown(presence: Presence) -> list[dict[str, Any]]:
    """The entries without the Gateway's own, and without what differs in each test."""
    own, *others = presence.entries()
    assert own["reason"] == "self"
    return others


def reasons(presence: Presence) -> list[str]:
    return [entry["reason"] for entry in shown(presence)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (window(PHONE), window(PHONE)),
        (window(PHONE, "tab-1"), window(PHONE, "tab-2")),
        (window(None, "Tab-1"), window(None, "tab-1")),
    ],
    ids=["device", "device with two windows", "instance"],
)
@pytest.mark.parametrize("newest_leaves_first", [False, True])
def test_a_device_is_present_until_its_last_connection_has_left(
    presence: Presence, first: Connection, second: Connection, newest_leaves_first: bool
) -> None:
    leaving, staying = (second, first) if newest_leaves_first else (first, second)
    presence.connected(first)
    presence.connected(second)
    assert reasons(presence) == ["connect"]

    assert presence.disconnected(leaving)
    (entry,) = shown(presence)
    assert entry["reason"] == "connect"
    assert entry.get("instanceId") == staying.client.instance_id
    assert presence.disconnected(staying)
    assert reasons(presence) == ["disconnect"]


def test_windows_without_a_common_device_or_instance_are_entries_of_their_own(
    presence: Presence,
) -> None:
    windows = [window(PHONE), window(TABLET), window(None, "one"), window(None, "two"), window()]
    for one in (*windows, window()):
        presence.connected(one)
    presence.disconnected(windows[0])

    assert sorted(reasons(presence)) == ["connect"] * 5 + ["disconnect"]


def test_somebody_who_stays_is_not_forgotten_when_another_window_left_long_ago(
    presence: Presence, clock: FakeClock
) -> None:
    first, second = window(PHONE), window(PHONE)
    presence.connected(first)
    presence.connected(second)
    presence.disconnected(first)
    clock.advance(86_400)
    assert reasons(presence) == ["connect"]

    presence.disconnected(second)
    assert reasons(presence) == ["disconnect"]
    clock.advance(301)
    assert reasons(presence) == []


def test_roles_and_scopes_are_those_of_all_connections_of_the_device(presence: Presence) -> None:
    operator = window(PHONE, scopes=(Scope.READ, Scope.WRITE))
    node = window(PHONE, role="node", scopes=())
    presence.connected(operator)
    presence.connected(node)
    (both,) = shown(presence)
    presence.disconnected(operator)
    (one,) = shown(presence)

    assert both["roles"] == ["node", "operator"]
    assert both["scopes"] == [Scope.READ, Scope.WRITE]
    assert (one["roles"], one["scopes"]) == (["node"], [])


def test_what_a_device_told_of_itself_stays_when_one_of_its_windows_closes(
    presence: Presence,
) -> None:
    first, second = window(PHONE), window(PHONE)
    presence.connected(first)
    presence.connected(second)
    presence.update(PHONE, {"lastInputSeconds": 7})
    presence.disconnected(first)

    (entry,) = shown(presence)
    assert entry["lastInputSeconds"] == 7


def test_every_change_has_a_new_version(presence: Presence) -> None:
    first, second = window(PHONE), window(PHONE)
    versions = [presence.version]
    for change in (presence.connected, presence.disconnected):
        for one in (first, second):
            change(one)
            versions.append(presence.version)

    assert versions == sorted(set(versions))


@pytest.mark.parametrize("mode", ["cli", "probe"])
def test_programs_that_come_and_go_are_not_shown(presence: Presence, mode: str) -> None:
    program = window(PHONE, mode=mode)
    assert not presence.connected(program)
    assert not presence.disconnected(program)
    assert shown(presence) == []

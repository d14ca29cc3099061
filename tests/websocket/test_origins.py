"""Which pages may connect, and under which names the Gateway may be reached."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opensoul.adapters.transports.control.handshake.origins import (
    Peer,
    check_upgrade,
    is_at_this_machine,
)
from opensoul.adapters.transports.control.protocol.problems import ConnectRejection
from opensoul.domain.access.addresses import ClientAddress
from opensoul.domain.settings import (
    AuthMode,
    AuthSettings,
    ControlSettings,
    ListenSettings,
    Settings,
)
from tests.fakes.domain import settings

from .shaking import LOCAL, REMOTE, details

SETTINGS = settings(
    control=ControlSettings(
        allowed_origins=("https://panel.example", "app://panel"), allowed_hosts=("box.lan",)
    ),
    listen=ListenSettings(hosts=("192.0.2.9",)),
)


def refusal(caller: Peer, settings: Settings = SETTINGS) -> str | None:
    """The code of the refusal, if there is one."""
    try:
        check_upgrade(caller, settings)
    except ConnectRejection as error:
        return str(details(error)["code"])
    return None


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:18789",
        "localhost.",
        "127.0.0.1:18789",
        "127.1.2.3",
        "[::1]:18789",
        "box.tail1234.ts.net",
        "192.0.2.1:80",
        "[2001:db8::1]",
        "box.lan:18789",
        "Box.Lan",
        "panel.example",
    ],
)
def test_names_of_this_gateway_are_let_in(host: str) -> None:
    assert refusal(replace(LOCAL, host=host)) is None


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:18789", "localhost.evil.example", "a@localhost", "::1",
     "localhost:x", "127.0.0.1.nip.example", "box.lan.evil.example", "évil", "localhost localhost"],
)  # fmt: skip
def test_any_other_name_is_refused_also_on_loopback(host: str) -> None:
    for caller in (LOCAL, REMOTE):
        assert refusal(replace(caller, host=host)) == "HOST_NOT_ALLOWED"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]:18789", "x.ts.net"])
def test_names_of_this_machine_are_for_who_is_on_it(host: str) -> None:
    assert refusal(replace(REMOTE, host=host)) == "HOST_NOT_ALLOWED"


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:18789", "localhost:18789"),
        ("http://localhost:5173", "127.0.0.1:18789"),
        ("http://[::1]:1", "localhost:18789"),
        ("http://192.0.2.1:18789", "192.0.2.1:18789"),
        ("https://box.lan", "box.lan"),
        ("https://box.lan", "box.lan:443"),
        ("http://BOX.lan:80", "box.lan"),
        ("https://panel.example", "192.0.2.1:18789"),
        ("HTTPS://Panel.Example", "localhost"),
        ("app://panel", "localhost"),
    ],
)
def test_pages_of_this_gateway_and_listed_ones_are_let_in(origin: str, host: str) -> None:
    assert refusal(replace(LOCAL, host=host, origin=origin)) is None


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("null", "localhost"),
        ("", "localhost"),
        ("https://evil.example", "localhost:18789"),
        ("http://localhost.evil.example", "localhost"),
        ("http://localhost:18789", "192.0.2.1:18789"),
        ("http://192.0.2.1:18789", "localhost:18789"),
        ("http://192.0.2.1:1", "192.0.2.1:18789"),
        ("http://box.lan", "box.lan:18789"),
        ("https://panel.example:8443", "localhost"),
        ("http://panel.example", "localhost"),
        ("https://panel.example/", "localhost"),
        ("https://panel.example https://evil.example", "localhost"),
        ("app://box.lan", "box.lan"),
        ("localhost", "localhost"),
    ],
)
def test_any_other_page_is_refused_also_on_loopback(origin: str, host: str) -> None:
    caller = replace(LOCAL, host=host, origin=origin)
    assert refusal(caller) == "CONTROL_UI_ORIGIN_NOT_ALLOWED"


def test_a_page_whose_name_leads_here_is_refused_for_its_host() -> None:
    rebound = replace(LOCAL, host="evil.example:18789", origin="http://evil.example:18789")
    assert refusal(rebound) == "HOST_NOT_ALLOWED"


WITHOUT_CREDENTIAL = replace(SETTINGS, auth=AuthSettings(AuthMode.NONE))


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("http://localhost:18789", "localhost:18789", True),
        ("https://panel.example", "localhost:18789", True),
        ("http://localhost:5173", "localhost:18789", False),
        ("http://127.0.0.1:18789", "localhost:18789", False),
        ("http://[::1]:1", "127.0.0.1:18789", False),
        ("http://localhost", "localhost:18789", False),
        ("null", "localhost:18789", False),
    ],
)
def test_without_a_credential_the_page_of_another_local_server_is_a_strangers(
    origin: str, host: str, allowed: bool
) -> None:
    caller = replace(LOCAL, host=host, origin=origin)
    expected = None if allowed else "CONTROL_UI_ORIGIN_NOT_ALLOWED"
    assert refusal(caller, WITHOUT_CREDENTIAL) == expected


@pytest.mark.parametrize(
    ("address", "host", "here"),
    [
        (ClientAddress("127.0.0.1"), "localhost:1", True),
        (ClientAddress("::1"), "[::1]", True),
        (ClientAddress("127.0.0.1"), "x.ts.net", False),
        (ClientAddress("127.0.0.1"), "192.0.2.1", False),
        (ClientAddress("127.0.0.1"), "", False),
        (ClientAddress("192.0.2.1"), "localhost", False),
        (ClientAddress("127.0.0.1", forwarded_by_stranger=True), "localhost", False),
        (ClientAddress("127.0.0.1", unproven=True), "localhost", False),
    ],
)
def test_only_who_is_here_and_says_so_is_at_this_machine(
    address: ClientAddress, host: str, here: bool
) -> None:
    assert is_at_this_machine(replace(LOCAL, address=address, host=host)) is here

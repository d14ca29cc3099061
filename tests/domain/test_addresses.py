"""Where a request comes from, and who can make the Gateway believe otherwise."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensoul.domain.access.addresses import ClientAddress, client_address

LOCAL_PROXY = (ip_network("127.0.0.1/32"),)
PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"), ip_network("127.0.0.1/32"))


def test_without_proxies_the_client_is_the_peer() -> None:
    assert client_address("203.0.113.7") == ClientAddress("203.0.113.7")


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::1%lo"])
def test_a_peer_on_loopback_is_local(peer: str) -> None:
    assert client_address(peer).is_local


@pytest.mark.parametrize("peer", ["203.0.113.7", "::", "2001:db8::1", "::ffff:203.0.113.7"])
def test_a_peer_elsewhere_is_not_local(peer: str) -> None:
    assert not client_address(peer).is_local


@pytest.mark.parametrize("peer", [None, ""])
def test_a_unix_socket_is_named_as_such_and_is_not_local(peer: str | None) -> None:
    client = client_address(peer, forwarding_headers=True)

    assert client == ClientAddress("local socket", forwarded_by_stranger=True)
    assert not client.is_local


def test_a_mapped_ipv4_address_is_told_as_ipv4() -> None:
    assert client_address("::ffff:203.0.113.7").address == "203.0.113.7"


def test_a_strangers_headers_are_ignored_and_noted() -> None:
    client = client_address("203.0.113.7", forwarded_for=["127.0.0.1"], forwarding_headers=True)

    assert client == ClientAddress("203.0.113.7", forwarded_by_stranger=True)


def test_a_stranger_on_loopback_is_not_local_once_it_forwards() -> None:
    client = client_address("127.0.0.1", forwarded_for=["198.51.100.1"], forwarding_headers=True)

    assert client.is_loopback
    assert not client.is_local


@given(
    peer=st.ip_addresses().map(str),
    forwarded_for=st.lists(st.text(max_size=40) | st.just("127.0.0.1, ::1"), max_size=4),
    real_ip=st.none() | st.just("127.0.0.1") | st.text(max_size=20),
)
def test_no_header_of_a_stranger_makes_it_local_or_moves_it(
    peer: str, forwarded_for: list[str], real_ip: str | None
) -> None:
    client = client_address(
        peer, forwarded_for=forwarded_for, real_ip=real_ip, forwarding_headers=True
    )

    assert not client.is_local
    assert client.address == client_address(peer).address


@pytest.mark.parametrize(
    ("forwarded_for", "expected"),
    [
        (["198.51.100.1"], "198.51.100.1"),
        (["198.51.100.1, 10.0.0.9"], "198.51.100.1"),
        (["1.1.1.1, 198.51.100.1, 10.0.0.9"], "198.51.100.1"),
        (["1.1.1.1", "198.51.100.1", "10.0.0.9, 10.0.0.8"], "198.51.100.1"),
        (["10.0.0.7, 10.0.0.8"], "10.0.0.7"),
        (["198.51.100.1:4711"], "198.51.100.1"),
        (["[2001:db8::5]:4711"], "2001:db8::5"),
        (["[2001:db8::5]"], "2001:db8::5"),
        (["2001:db8::5"], "2001:db8::5"),
        (["::ffff:198.51.100.1"], "198.51.100.1"),
        (["[::ffff:198.51.100.1]:80, ::ffff:10.0.0.3"], "198.51.100.1"),
        (["198.51.100.1, fd00::7"], "198.51.100.1"),
        ([" 198.51.100.1 ,, "], "198.51.100.1"),
    ],
)
def test_the_client_is_the_right_most_hop_that_is_no_trusted_proxy(
    forwarded_for: list[str], expected: str
) -> None:
    client = client_address(
        "10.0.0.2", forwarded_for=forwarded_for, forwarding_headers=True, trusted=PROXIES
    )

    assert client == ClientAddress(expected, through_proxy=True)
    assert client.is_forwarded


@pytest.mark.parametrize("hop", ["unknown", "_hidden", "999.1.1.1", "[::1", "1.2.3.4.5:1", "%"])
def test_behind_a_malformed_hop_nothing_is_believed(hop: str) -> None:
    client = client_address(
        "10.0.0.2",
        forwarded_for=[f"198.51.100.1, {hop}, 10.0.0.9"],
        forwarding_headers=True,
        trusted=PROXIES,
    )

    assert client.address in {"10.0.0.9", "::1"}
    assert not client.is_local


def test_the_real_ip_counts_only_without_forwarded_for() -> None:
    only = client_address(
        "10.0.0.2", real_ip="198.51.100.1", forwarding_headers=True, trusted=PROXIES
    )
    both = client_address(
        "10.0.0.2",
        forwarded_for=["198.51.100.2"],
        real_ip="198.51.100.1",
        forwarding_headers=True,
        trusted=PROXIES,
    )

    assert only.address == "198.51.100.1"
    assert both.address == "198.51.100.2"


def test_a_client_of_a_proxy_on_this_machine_is_local_when_it_is_on_it_too() -> None:
    client = client_address(
        "127.0.0.1", forwarded_for=["127.0.0.1"], forwarding_headers=True, trusted=LOCAL_PROXY
    )

    assert client.is_local


def test_who_connects_from_the_address_of_a_local_proxy_without_headers_is_local() -> None:
    assert client_address("127.0.0.1", trusted=LOCAL_PROXY).is_local


@pytest.mark.parametrize("forwarded_for", [[], ["unknown"], ["127.0.0.1, unknown"], [" , "]])
def test_a_local_proxy_that_does_not_say_for_whom_makes_nobody_local(
    forwarded_for: list[str],
) -> None:
    client = client_address(
        "127.0.0.1", forwarded_for=forwarded_for, forwarding_headers=True, trusted=LOCAL_PROXY
    )

    assert client == ClientAddress("127.0.0.1", unproven=True, through_proxy=True)
    assert not client.is_local


@pytest.mark.parametrize("told", ["127.0.0.1", "::1", "127.0.0.1, 10.0.0.9"])
def test_the_loopback_of_a_distant_proxy_is_not_this_machine(told: str) -> None:
    client = client_address(
        "10.0.0.2", forwarded_for=[told], forwarding_headers=True, trusted=PROXIES
    )

    assert client.is_loopback
    assert not client.is_local

"""The address of a request's client, with or without reverse proxies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from ..immutable import immutable

Network = IPv4Network | IPv6Network
_LONGEST = 64
"""Maximum characters of an address with its zone; longer texts are not parsed or cached."""


@immutable(frozen=True, slots=True)
class ClientAddress:
    """The address, and how it was determined.

    `forwarded_by_stranger`: forwarding headers of a peer that is not a trusted proxy were ignored.
    `through_proxy`: forwarding headers came from a trusted proxy. `unproven`: trusted proxies
    reported a loopback address, or an unreadable one, but not every hop was on this machine. A
    client of the first or the last kind is not local.
    """

    address: str
    forwarded_by_stranger: bool = False
    unproven: bool = False
    through_proxy: bool = False

    @property
    def is_forwarded(self) -> bool:
        """Whether the request has forwarding headers."""
        return self.forwarded_by_stranger or self.through_proxy

    @property
    def is_loopback(self) -> bool:
        parsed = _parse(self.address)
        return parsed is not None and parsed.is_loopback

    @property
    def is_local(self) -> bool:
        return self.is_loopback and not self.forwarded_by_stranger and not self.unproven


def client_address(
    peer: str | None,
    *,
    forwarded_for: Sequence[str] = (),
    real_ip: str | None = None,
    forwarding_headers: bool = False,
    trusted: Sequence[Network] = (),
) -> ClientAddress:
    """The client's address: the right-most hop that is not a trusted proxy.

    `peer`: the address of the socket's peer, None for a Unix socket. `forwarded_for`: the values of
    X-Forwarded-For in order, each possibly a list. `forwarding_headers`: the request has any
    forwarding header. Headers of a peer that is not trusted are ignored.
    """
    nearest = _parse(peer or "")
    if nearest is None:
        return ClientAddress(peer or "local socket", forwarding_headers)
    if not _is_trusted(nearest, trusted):
        return ClientAddress(str(nearest), forwarding_headers)
    hops = _hops(forwarded_for, real_ip)
    client, here = nearest, nearest.is_loopback and (bool(hops) or not forwarding_headers)
    for hop in reversed(hops):
        parsed = _parse(_without_port(hop))
        here = here and parsed is not None and parsed.is_loopback
        if parsed is None:
            break
        client = parsed
        if not _is_trusted(parsed, trusted):
            break
    unproven = client.is_loopback and not here
    return ClientAddress(str(client), unproven=unproven, through_proxy=forwarding_headers)


def stands_for_many(peer: str, trusted: Sequence[Network]) -> bool:
    """Whether many clients can connect through the peer: a trusted proxy, or a program on this
    machine, which may be a proxy or a tunnel."""
    parsed = _parse(peer)
    return parsed is None or parsed.is_loopback or _is_trusted(parsed, trusted)


def _hops(forwarded_for: Sequence[str], real_ip: str | None) -> list[str]:
    hops = [hop.strip() for value in forwarded_for for hop in value.split(",") if hop.strip()]
    return hops or ([real_ip.strip()] if real_ip else [])


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    return _parsed(text) if len(text) <= _LONGEST else None


@lru_cache(maxsize=1_024)
def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(text.split("%", 1)[0])
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed


def _is_trusted(address: IPv4Address | IPv6Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)


def _without_port(hop: str) -> str:
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    if hop.count(":") == 1:
        return hop.partition(":")[0]
    return hop

"""An HTTP client that reaches the public internet only."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from ...domain.ports import WebFailed, WebLimits, WebResource
from ...domain.text import escape_line
from .addresses import Address, address_of, is_public

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host, for a port. Raises OSError."""
AddressInfo = tuple[int, int, int, str, tuple[object, ...]]

MAX_URL = 2_048
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?")
"""A name, in ASCII also where it was not, or an address of IPv6."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = {
    "User-Agent": "Mozilla/5.0 (compatible; OpenSoul)",
    "Accept-Encoding": "gzip, deflate",
}


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, by the system."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(info[4][0]) for info in found]


@dataclass(frozen=True, slots=True)
class GuardedClient:
    """A WebClient.

    The addresses of a host are looked up once for each request and checked, all of them, and the
    connection is made to one of those. A redirect is a request of its own, with the same checks.
    """

    resolve: Resolve = resolve
    is_allowed: Callable[[Address], bool] = is_public

    async def get(
        self, url: str, limits: WebLimits, is_wanted: Callable[[str], bool]
    ) -> WebResource:
        async with asyncio.timeout(limits.seconds):
            checked = _checked(url)
            for _ in range(limits.max_redirects + 1):
                found = await self._get(checked, limits, is_wanted)
                if isinstance(found, WebResource):
                    return found
                checked = _checked(found)
        raise WebFailed(f"The address was redirected more than {limits.max_redirects} times.")

    async def _get(
        self, url: URL, limits: WebLimits, is_wanted: Callable[[str], bool]
    ) -> WebResource | str:
        """The resource, or where it is redirected to."""
        addresses = await self._addresses(url)
        connector = aiohttp.TCPConnector(
            resolver=_Pinned(addresses),
            socket_factory=_only(addresses),
            use_dns_cache=False,
            force_close=True,
        )
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers={**_HEADERS, "Accept": limits.accept},
                    timeout=aiohttp.ClientTimeout(total=None),
                    auto_decompress=False,  # It has no limit.
                    trust_env=False,
                ) as session,
                session.get(url, allow_redirects=False) as response,
            ):
                location = response.headers.get("Location", "")
                if response.status in _REDIRECTS and location:
                    return _joined(url, location)
                kind = response.content_type
                if not is_wanted(kind):
                    shown = escape_line(kind)[:100]
                    raise WebFailed(f"The type of the resource cannot be used: it is {shown!r}.")
                body, is_whole = await _body(response, limits.max_bytes)
                charset = (response.charset or "")[:40]
                host = str(url.raw_host)
                return WebResource(str(url), host, response.status, kind, charset, body, is_whole)
        except (aiohttp.ClientError, OSError, zlib.error) as error:
            reason = escape_line(str(error))[:200] or type(error).__name__
            raise WebFailed(f"{url.raw_host} cannot be reached: {reason}.") from None

    async def _addresses(self, url: URL) -> list[Address]:
        host, port = url.raw_host or "", url.port or 0
        try:
            found = [address_of(text) for text in await self.resolve(host, port)]
        except (OSError, ValueError):
            raise WebFailed(f"There is no host {host!r}.") from None
        if not found or not all(map(self.is_allowed, found)):
            raise WebFailed(f"The host {host!r} is not one of the public internet.")
        return found


class _Pinned(AbstractResolver):
    """Gives the addresses that were checked, whatever the name."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """There is nothing to release."""


def _only(addresses: Sequence[Address]) -> Callable[[AddressInfo], socket.socket]:
    """Makes sockets for these addresses only. An address in a URL is not looked up by a resolver,
    so that this is the one place that every connection passes."""

    def make(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, target = info
        if address_of(str(target[0])) not in addresses:
            raise OSError(errno.EACCES, "the address is not the one that was checked")
        return socket.socket(family, kind, protocol)

    return make


def _checked(text: str) -> URL:
    try:
        url = URL(text.strip())
        usable = bool(_HOST.fullmatch(url.raw_host or "")) and url.port != 0
    except ValueError:
        raise WebFailed("The address is not a URL.") from None
    if url.scheme not in ("http", "https") or not usable:
        raise WebFailed("The address has to begin with http:// or https:// and name a host.")
    if url.raw_user is not None or url.raw_password is not None:
        raise WebFailed("The address contains a user or a password, which is not allowed.")
    if len(str(url)) > 2 * MAX_URL:
        raise WebFailed("The address is too long.")
    return url


def _joined(url: URL, location: str) -> str:
    try:
        return str(url.join(URL(location)))
    except ValueError:
        raise WebFailed("The address was redirected to something that is not a URL.") from None


async def _body(response: aiohttp.ClientResponse, max_bytes: int) -> tuple[bytes, bool]:
    """The decompressed body, and whether it is whole."""
    unpack = _unpacker(response.headers.get("Content-Encoding", "").strip().lower())
    body, received = bytearray(), 0
    async for chunk in response.content.iter_any():
        received += len(chunk)
        body += unpack(chunk, max_bytes + 1 - len(body))
        if max(len(body), received) > max_bytes:
            return bytes(body[:max_bytes]), False
    return bytes(body), True


def _unpacker(encoding: str) -> Callable[[bytes, int], bytes]:
    """A function that decompresses the next chunk, to that many bytes at most."""
    if encoding in ("", "identity"):
        return lambda chunk, room: chunk[:room]
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise WebFailed(f"The resource is compressed as {escape_line(encoding)[:40]!r}, unasked.")
    # With a header of gzip or zlib, whichever there is.
    return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress

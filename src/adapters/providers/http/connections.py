"""The HTTP connections to providers: pooled, and replaced when a pooled one is stale."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp

from ....domain.models import read_proxy
from .protocol import BoundedConnection

_LONG_BODY_BYTES = 256 * 1024
LONGEST_HEADER = 64 * 1024
"""Bytes. Providers behind several layers of a cloud exceed the usual 8 kB."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a provider with everything needed to reach it."""

    address: str
    headers: Mapping[str, str]
    limits: aiohttp.ClientTimeout
    proxy: str | None = None
    """The proxy's URL, without credentials."""
    proxy_headers: Mapping[str, str] | None = None
    """Headers that only the proxy receives, when it opens a tunnel."""


def through_proxy(endpoint: Endpoint, proxy_url: str) -> Endpoint:
    """The endpoint, reached through a proxy. Raises ValueError with a clause, like `read_proxy`."""
    url = read_proxy(proxy_url)
    proxy = urlunsplit((url.scheme, url.netloc.rpartition("@")[2], "", "", ""))
    headers = {}
    if url.username is not None:
        credentials = f"{unquote(url.username)}:{unquote(url.password or '')}"
        headers["Proxy-Authorization"] = "Basic " + b64encode(credentials.encode()).decode()
    if urlsplit(endpoint.address).scheme == "https":  # Through a tunnel.
        return replace(endpoint, proxy=proxy, proxy_headers=headers)
    return replace(endpoint, proxy=proxy, headers={**endpoint.headers, **headers})


@dataclass(slots=True)
class _RequestTrace:
    """`reused`: the request was sent on a connection that had served an earlier one."""

    reused: bool = False


class _Connector(aiohttp.TCPConnector):
    """A connector that makes BoundedConnections."""

    def __init__(self, *, limit: int, force_close: bool) -> None:
        super().__init__(limit=limit, force_close=force_close)
        # aiohttp has no public option for the class of its connections.
        factory = partial(BoundedConnection, loop=self._loop)
        self._factory = factory  # type: ignore[assignment]  # A partial is invariant in its class.


class Connections:
    """Sends requests, over a pooled connection if there is one.

    Redirects, netrc and the proxies of the environment are disabled: each could send credentials to
    an unintended host. Cookies are not stored.
    """

    def __init__(self) -> None:
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def post(self, endpoint: Endpoint, body: bytes) -> aiohttp.ClientResponse:
        """Send a request and return the response once its headers arrived. Raises aiohttp's errors.

        A server may close a pooled connection at the moment it is reused (llama.cpp's server does
        after every response). If there was no response, the request is sent once more on a new
        connection: https://www.rfc-editor.org/rfc/rfc9112#section-9.3.1
        """
        trace = _RequestTrace()
        try:
            return await self._send(endpoint, body, trace, once=False)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if not trace.reused or isinstance(error, aiohttp.ClientConnectorError):
                raise
        return await self._send(endpoint, body, trace, once=True)

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()

    async def _send(
        self, endpoint: Endpoint, body: bytes, trace: _RequestTrace, *, once: bool
    ) -> aiohttp.ClientResponse:
        return await self._session(once).post(
            endpoint.address,
            # aiohttp writes bytes in one go, but a stream in chunks, between which others run.
            data=io.BytesIO(body) if len(body) > _LONG_BODY_BYTES else body,
            headers=endpoint.headers,
            timeout=endpoint.limits,
            allow_redirects=False,
            trace_request_ctx=trace,
            proxy=endpoint.proxy,
            proxy_headers=endpoint.proxy_headers,
        )

    def _session(self, once: bool) -> aiohttp.ClientSession:
        """Created on first trace, within the event loop. `once`: without a pool."""
        if once not in self._sessions:
            config = aiohttp.TraceConfig()
            config.on_connection_reuseconn.append(_note_reuse)
            self._sessions[once] = aiohttp.ClientSession(
                # The Gateway's lanes limit the number of concurrent calls.
                connector=_Connector(limit=0, force_close=once),
                cookie_jar=aiohttp.DummyCookieJar(),
                max_line_size=LONGEST_HEADER,
                max_field_size=LONGEST_HEADER,
                trust_env=False,
                trace_configs=[config],
            )
        return self._sessions[once]


async def _note_reuse(
    _: aiohttp.ClientSession,
    context: SimpleNamespace,
    __: aiohttp.TraceConnectionReuseconnParams,
) -> None:
    context.trace_request_ctx.reused = True

"""The connections to providers: kept for the next call, and replaced when one turns out stale."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import aiohttp

from .protocol import BoundedConnection

_LONG_BODY_BYTES = 256 * 1024
LONGEST_HEADER = 64 * 1024
"""Bytes. Providers behind several layers of a cloud do exceed the 8 kB that are usual."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How a provider is reached."""

    address: str
    headers: Mapping[str, str]
    limits: aiohttp.ClientTimeout
    proxy: str | None = None
    """Its URL, without credentials."""
    proxy_headers: Mapping[str, str] | None = None
    """For the proxy alone, when it opens a tunnel."""


@dataclass(slots=True)
class _Use:
    """What became of one request. `kept`: its connection had served an earlier one."""

    kept: bool = False


class _Connector(aiohttp.TCPConnector):
    """Connects as the library does, with connections that are bounded."""

    def __init__(self, *, limit: int, force_close: bool) -> None:
        super().__init__(limit=limit, force_close=force_close)
        # The library has no public way to choose the class of its connections.
        factory = partial(BoundedConnection, loop=self._loop)
        self._factory = factory  # type: ignore[assignment]  # A partial is invariant in its class.


class Connections:
    """Sends requests, over a kept connection where there is one.

    Redirects are not followed, and netrc and the proxies of the environment are not looked up here:
    each would send a credential to a place that nobody configured for it. Cookies are not kept.
    """

    def __init__(self) -> None:
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def post(self, way: Endpoint, body: bytes) -> aiohttp.ClientResponse:
        """The head of the answer. Raises what aiohttp raises.

        A server may close a kept connection at the very moment it is used again (llama.cpp's does
        so after every answer). Nothing was answered then, so the request goes out once more, on a
        connection of its own: https://www.rfc-editor.org/rfc/rfc9112#section-9.3.1
        """
        use = _Use()
        try:
            return await self._send(way, body, use, once=False)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if not use.kept or isinstance(error, aiohttp.ClientConnectorError):
                raise
        return await self._send(way, body, use, once=True)

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()

    async def _send(
        self, way: Endpoint, body: bytes, use: _Use, *, once: bool
    ) -> aiohttp.ClientResponse:
        return await self._session(once).post(
            way.address,
            # A long body given as bytes would be written without a pause.
            data=io.BytesIO(body) if len(body) > _LONG_BODY_BYTES else body,
            headers=way.headers,
            timeout=way.limits,
            allow_redirects=False,
            trace_request_ctx=use,
            proxy=way.proxy,
            proxy_headers=way.proxy_headers,
        )

    def _session(self, once: bool) -> aiohttp.ClientSession:
        """Made on first use, which takes a running event loop; `once`: connections are not kept."""
        if once not in self._sessions:
            trace = aiohttp.TraceConfig()
            trace.on_connection_reuseconn.append(_note_kept)
            self._sessions[once] = aiohttp.ClientSession(
                # How many calls run at a time is for the Gateway's lanes to say.
                connector=_Connector(limit=0, force_close=once),
                cookie_jar=aiohttp.DummyCookieJar(),
                max_line_size=LONGEST_HEADER,
                max_field_size=LONGEST_HEADER,
                trust_env=False,
                trace_configs=[trace],
            )
        return self._sessions[once]


async def _note_kept(
    _: aiohttp.ClientSession,
    context: SimpleNamespace,
    __: aiohttp.TraceConnectionReuseconnParams,
) -> None:
    context.trace_request_ctx.kept = True

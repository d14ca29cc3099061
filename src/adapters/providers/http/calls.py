"""Requests to one HTTP API of providers, over pooled connections."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from ....domain.concurrency import off_loop
from ....domain.errors import ModelFailed
from ....domain.models import Provider, Secret
from ....domain.ports import Clock
from .connections import Connections, Endpoint, through_proxy
from .errors import retry_after
from .failures import ApiDescription, FailureFactory

_MAX_ERROR_BYTES = 64 * 1024
_ERROR_BODY_TIMEOUT = 5.0
"""Seconds to wait for the body of an error response; its status is reported in any case."""
_MAX_ENDPOINTS = 16
_REUSE_TIMEOUT = 0.5
"""Seconds to wait for the end of a body after [DONE], so that its connection can be reused."""


class Called(Protocol):
    """An API in requests and error messages."""

    description: ApiDescription

    def headers(self, provider: Provider) -> dict[str, str]:
        """The headers of the API itself, with the key."""
        ...


A = TypeVar("A", bound=Called)


class HttpCaller(Generic[A]):
    """Sends requests to one API. It is shared by all providers; each request names its own."""

    def __init__(self, api: A, *, now: Clock = time.time) -> None:
        self._api = api
        self._now = now
        self._connections = Connections()
        self._endpoints: dict[int, tuple[Provider, Endpoint]] = {}
        self._open: set[aiohttp.ClientResponse] = set()
        self._closed = False

    async def close(self) -> None:
        """Abort the open calls and close all connections."""
        self._closed = True
        for response in tuple(self._open):
            _abort(response)
        await self._connections.close()

    async def _post(
        self, provider: Provider, failures: FailureFactory, size: int, encode: Callable[[], bytes]
    ) -> aiohttp.ClientResponse:
        """Send a request and wait for the response headers. `encode` makes its body, whose large
        parts have `size` bytes."""
        if self._closed:
            raise failures.unreachable("the Gateway is shutting down", "")
        body = await off_loop(size, encode)
        endpoint = self._endpoint_of(provider, failures)
        try:
            # aiohttp's timeouts cover connecting and each read. The outer one covers a provider
            # that does not read the request, or sends its headers byte by byte.
            async with asyncio.timeout(provider.connect_timeout + provider.idle_timeout):
                return await self._connections.post(endpoint, body)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = failures.of_call(error)
        raise failure

    def _endpoint_of(self, provider: Provider, failures: FailureFactory) -> Endpoint:
        """The provider's endpoint. Cached by the identity of the configured Provider object."""
        known = self._endpoints.get(id(provider))
        if known is not None and known[0] is provider:
            return known[1]
        headers = _headers(provider, self._api.headers(provider))
        limits = aiohttp.ClientTimeout(
            connect=provider.connect_timeout, sock_read=provider.idle_timeout
        )
        endpoint = Endpoint(self._address(provider, headers, failures), headers, limits)
        if provider.proxy is not None:
            endpoint = self._through_proxy(endpoint, provider.proxy, failures)
        if len(self._endpoints) >= _MAX_ENDPOINTS:
            del self._endpoints[next(iter(self._endpoints))]
        self._endpoints[id(provider)] = (provider, endpoint)
        return endpoint

    def _address(
        self, provider: Provider, headers: Mapping[str, str], failures: FailureFactory
    ) -> str:
        """The URL of calls. A query in the base URL (Azure's `api-version`) is preserved.

        Raises ModelFailed (UNREACHABLE) if the base URL is not an http or https URL.
        """
        try:
            url = urlsplit(provider.base_url)
        except ValueError:
            url = urlsplit("")
        if url.scheme not in ("http", "https") or not url.hostname:
            raise failures.bad_address()
        netloc = url.netloc
        if any(name.lower() == "authorization" for name in headers):
            netloc = netloc.rpartition("@")[2]  # aiohttp would add one for `user:password@`.
        path = self._api.description.path(url.path.rstrip("/"))
        return urlunsplit((url.scheme, netloc, path, url.query, ""))

    def _through_proxy(
        self, endpoint: Endpoint, proxy: Secret, failures: FailureFactory
    ) -> Endpoint:
        try:
            return through_proxy(endpoint, proxy.reveal())
        except ValueError as error:
            problem = f"the proxy in its configuration or the environment {error}"
        raise failures.unreachable(problem)

    def _wait(self, response: aiohttp.ClientResponse) -> float | None:
        """The `Retry-After` of a response, in seconds."""
        if "Retry-After" in response.headers or "Retry-After-Ms" in response.headers:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return retry_after(headers, self._now())
        return None

    async def _error_response(
        self, response: aiohttp.ClientResponse, failures: FailureFactory
    ) -> ModelFailed:
        body = bytearray()
        try:
            async with asyncio.timeout(_ERROR_BODY_TIMEOUT):
                while len(body) < _MAX_ERROR_BYTES and (piece := await response.content.readany()):
                    body += piece
        except (aiohttp.ClientError, OSError) as error:
            body += f" ({type(error).__name__} while reading the body)".encode()
        start = bytes(body[:_MAX_ERROR_BYTES])
        return failures.refused(response.status, start, response.headers, self._now())


def _headers(provider: Provider, of_api: Mapping[str, str]) -> dict[str, str]:
    """The headers of every call. Configured headers override the default ones.

    Compression is not requested, because it delays the chunks of a stream.
    """
    defaults = {
        "Accept": "text/event-stream, application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": "OpenSoul",
        **of_api,
    }
    configured = {name: secret.reveal() for name, secret in provider.headers}
    overridden = {name.lower() for name in configured}
    kept = {name: value for name, value in defaults.items() if name.lower() not in overridden}
    return kept | configured


async def release(response: aiohttp.ClientResponse, *, complete: bool) -> None:
    """Return the connection to the pool if the answer is complete, else abort it.

    aiohttp returns a connection to the pool when the last byte of its body has been read.
    """
    try:
        if complete and not response.content.at_eof():
            with contextlib.suppress(aiohttp.ClientError, OSError):  # TimeoutError is an OSError.
                async with asyncio.timeout(_REUSE_TIMEOUT):
                    while await response.content.readany():
                        pass
    finally:
        _abort(response)


def _abort(response: aiohttp.ClientResponse) -> None:
    """Abort the connection if the response still has one. (A TLS close would wait for the peer.)"""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()

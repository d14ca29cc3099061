"""The ModelClient for every provider that speaks OpenAI's chat completions."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from functools import partial

import aiohttp

from ....domain.concurrency import image_bytes, off_loop
from ....domain.errors import ModelFailed
from ....domain.models import ModelEvent, ModelRequest, Provider
from ....domain.ports import Clock
from . import proxy as openai_proxy
from . import request as openai_request
from .answer import Answer, Body
from .connections import Connections, Endpoint
from .failures import FailureFactory
from .http import why_undecoded, why_unreadable
from .proxy import Proxy
from .retry import retry_after

_MAX_ERROR_BYTES = 64 * 1024
_ERROR_BODY_TIMEOUT = 5.0
"""Seconds that the body of a refusal may take; its status is told in any case."""
_MOST_WAYS = 16
_END_TIMEOUT = 2.0
"""Seconds that usage and [DONE] may take behind the finish reason."""
_REUSE_TIMEOUT = 0.5
"""Seconds to wait for the end of a body behind [DONE], which lets its connection be used again."""


class OpenAICompletions:
    """Calls chat completions, always as a stream, over connections that are used again.

    Nothing here belongs to one provider: each request brings its own. `end_timeout`: seconds to
    wait for the end of an answer whose finish reason came.
    """

    def __init__(self, *, now: Clock = time.time, end_timeout: float = _END_TIMEOUT) -> None:
        self._now = now
        self._end_timeout = end_timeout
        self._encode = openai_request.Encoder()
        self._connections = Connections()
        self._ways: dict[int, tuple[Provider, Endpoint]] = {}
        self._open: set[aiohttp.ClientResponse] = set()
        self._closed = False

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[ModelEvent]]:
        """Call the model, as the ModelClient port promises."""
        failures = FailureFactory(request.target)
        response = await self._post(request, failures)
        self._open.add(response)
        complete = False
        try:
            if not 200 <= response.status < 300:
                raise await self._refusal(response, failures)
            if problem := why_undecoded(response.headers.get("Content-Encoding", "")):
                raise failures.unusable(problem)
            body = Body(response, failures, request.target.provider, self._end_timeout)
            answer = Answer(failures, body.content_type, self._wait(response))
            if await body.is_json():
                events = answer.whole(await body.read_all(), body.failure)
                if events:
                    yield events
                answer.check()
            while not answer.done:
                piece = await body.read()
                events = answer.feed(piece) if piece else answer.end(body.failure)
                if events:
                    yield events
                answer.check()
                if answer.has_finished:
                    body.expect_end(again=bool(events))
            complete = not body.abandoned
            yield (answer.finished(),)
        finally:
            self._open.discard(response)
            await _hand_back(response, complete=complete)

    async def close(self) -> None:
        """End the calls that are still open, and let go of all connections."""
        self._closed = True
        for response in tuple(self._open):
            _hang_up(response)
        await self._connections.close()

    async def _post(
        self, request: ModelRequest, failures: FailureFactory
    ) -> aiohttp.ClientResponse:
        """Send the request and wait for the headers of the answer."""
        if self._closed:
            raise failures.unreachable("the Gateway is shutting down", "")
        provider = request.target.provider
        encode = partial(openai_request.body, request, self._encode, failures)
        body = await off_loop(image_bytes(request.messages), encode)
        way = self._way_to(provider, failures)
        try:
            # aiohttp's own limits begin once a connection is asked for, and once the body is
            # sent: the one around them is for a provider that does not read what it is sent, or
            # that answers byte by byte.
            async with asyncio.timeout(provider.connect_timeout + provider.idle_timeout):
                return await self._connections.post(way, body)
        except aiohttp.ClientHttpProxyError as error:
            failure = failures.unreachable(openai_proxy.refusal(error.status), error.message)
        except aiohttp.ClientResponseError as error:
            failure = failures.unusable(why_unreadable(error.message), error.message)
        except aiohttp.InvalidURL:
            failure = failures.bad_address()
        except aiohttp.ClientProxyConnectionError as error:
            failure = failures.unreachable("its proxy could not be reached", str(error))
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
            failure = failures.unreachable("no connection", str(error))
        except TimeoutError:
            failure = failures.silent(provider.idle_timeout)
        except (aiohttp.ClientError, OSError) as error:
            failure = failures.unreachable("it closed the connection without an answer", str(error))
        except ValueError:
            failure = failures.bad_credentials("a key or header holds a control character")
        raise failure

    def _way_to(self, provider: Provider, failures: FailureFactory) -> Endpoint:
        """Worked out once for a provider as it is configured, and not for every call."""
        known = self._ways.get(id(provider))
        if known is not None and known[0] is provider:
            return known[1]
        headers = openai_request.headers(provider)
        limits = aiohttp.ClientTimeout(
            connect=provider.connect_timeout, sock_read=provider.idle_timeout
        )
        way = Endpoint(openai_request.address(provider, headers, failures), headers, limits)
        if provider.proxy is not None:
            way = _through(provider.proxy.reveal(), way, failures)
        if len(self._ways) >= _MOST_WAYS:
            del self._ways[next(iter(self._ways))]
        self._ways[id(provider)] = (provider, way)
        return way

    def _wait(self, response: aiohttp.ClientResponse) -> float | None:
        """Seconds that the headers of an answer advise, in case that it holds an error."""
        if "Retry-After" in response.headers or "Retry-After-Ms" in response.headers:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return retry_after(headers, self._now())
        return None

    async def _refusal(
        self, response: aiohttp.ClientResponse, failures: FailureFactory
    ) -> ModelFailed:
        body = bytearray()
        try:
            async with asyncio.timeout(_ERROR_BODY_TIMEOUT):
                while len(body) < _MAX_ERROR_BYTES and (piece := await response.content.readany()):
                    body += piece
        except (aiohttp.ClientError, OSError) as error:
            body += f" ({type(error).__name__} while this was read)".encode()
        start = bytes(body[:_MAX_ERROR_BYTES])
        return failures.refused(response.status, start, response.headers, self._now())


def _through(proxy_url: str, way: Endpoint, failures: FailureFactory) -> Endpoint:
    try:
        proxy = Proxy.read(proxy_url)
    except ValueError as error:
        problem = f"the proxy that is configured for it, or set in the environment, {error}"
    else:
        if proxy.tunnels_to(way.address):
            return replace(way, proxy=proxy.url, proxy_headers=proxy.headers)
        return replace(way, proxy=proxy.url, headers={**way.headers, **proxy.headers})
    raise failures.unreachable(problem, "")


async def _hand_back(response: aiohttp.ClientResponse, *, complete: bool) -> None:
    """Let the connection be used again when the answer is complete; else end it at once.

    aiohttp takes a connection back by itself when the last byte of its body is read.
    """
    try:
        if complete and not response.content.at_eof():
            with contextlib.suppress(aiohttp.ClientError, OSError):  # TimeoutError is an OSError.
                async with asyncio.timeout(_REUSE_TIMEOUT):
                    while await response.content.readany():
                        pass
    finally:
        _hang_up(response)


def _hang_up(response: aiohttp.ClientResponse) -> None:
    """Close the connection, if the response still has one, without farewell (TLS would wait)."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()

"""Checks of providers, their keys, and the port."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

import aiohttp

from ....domain.models import read_proxy
from ..common.banner import base_url
from ..common.holder import serving_address
from ..remote.reaching import is_loopback
from . import Finding

if TYPE_CHECKING:
    from ....domain.models import Provider
    from ....domain.settings import Settings

_PATIENCE = 5.0
_OVER_HTTP = ("openai-completions", "anthropic-messages")


def keys(settings: Settings) -> Iterator[Finding]:
    """Remote providers without a key; a local one may need none."""
    for provider in _providers(settings):
        host = urlsplit(provider.base_url).hostname or ""
        if provider.api_key is None and not provider.headers and not is_loopback(host):
            yield Finding(
                "provider_key_missing",
                f"The provider {provider.id} at {_shown(provider)} has no API key.",
                f"Set models.providers.{provider.id}.apiKey, best as ${{SOME_VARIABLE}}.",
            )


def _shown(provider: Provider) -> str:
    """The URL, without a key in it."""
    from ....adapters.config import masked

    return masked(provider.base_url)


async def reached(settings: Settings, state_dir: Path) -> list[Finding]:
    """Unreachable providers, and a port that another program uses."""
    checks = [_provider(provider) for provider in _providers(settings)]
    found = await asyncio.gather(*checks, _port(settings, state_dir))
    return [finding for finding in found if finding is not None]


def _providers(settings: Settings) -> list[Provider]:
    targets = [target for agent in settings.agents for target in agent.models]
    by_id = {target.provider.id: target.provider for target in targets}
    return [one for one in by_id.values() if one.api in _OVER_HTTP and one.base_url]


async def _provider(provider: Provider) -> Finding | None:
    try:
        where = urlsplit(provider.base_url)
        proxy = None if provider.proxy is None else read_proxy(provider.proxy.reveal())
    except ValueError as error:
        return Finding(
            "proxy_unusable",
            f"The proxy of the provider {provider.id} in the environment {error}.",
            f"Change the variable, or set models.providers.{provider.id}.proxy.",
        )
    why = await _why_unreachable(proxy or where)
    if why is None:
        return None
    if proxy is not None:
        return Finding(
            "proxy_unreachable",
            f"The proxy {proxy.hostname} of the provider {provider.id} cannot be reached: {why}",
            f"Check models.providers.{provider.id}.proxy; without it, HTTPS_PROXY, HTTP_PROXY and "
            "ALL_PROXY in the environment.",
        )
    return Finding(
        "provider_unreachable",
        f"The provider {provider.id} at {_shown(provider)} cannot be reached: {why}",
        f"Check models.providers.{provider.id}.baseUrl, the network, and the provider.",
    )


async def _why_unreachable(url: SplitResult) -> str | None:
    """The reason why connecting fails; None if it succeeds."""
    secure = url.scheme == "https"
    try:
        async with asyncio.timeout(_PATIENCE):
            _, writer = await asyncio.open_connection(
                url.hostname, url.port or (443 if secure else 80), ssl=secure or None
            )
    except (OSError, ssl.SSLError, ValueError) as error:
        return "no answer in time" if isinstance(error, TimeoutError) else _why(error)
    writer.close()
    return None


def _why(error: Exception) -> str:
    number = (error.errno if isinstance(error, OSError) else None) or 0
    # asyncio's messages repeat the address; those of TLS and name resolution are kept.
    return str(error) if number not in errno.errorcode else os.strerror(number)


async def _port(settings: Settings, state_dir: Path) -> Finding | None:
    if serving_address(state_dir) is not None:
        return None  # A running Gateway of this directory uses it.
    host, port = urlsplit(base_url(settings)).hostname, settings.listen.port
    try:
        async with asyncio.timeout(_PATIENCE):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return None
    writer.close()
    who = "another Gateway" if await _is_gateway(base_url(settings)) else "another program"
    return Finding(
        "port_taken",
        f"The port {port} is in use by {who}; a Gateway with this configuration cannot start.",
        "Stop that one, or choose another port: opensoul config set gateway.port PORT",
    )


async def _is_gateway(url: str) -> bool:
    timeout = aiohttp.ClientTimeout(total=_PATIENCE)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as client,
            # Nothing secret is sent, so it does not matter whose certificate that is.
            client.get(f"{url}/healthz", ssl=False, allow_redirects=False) as answer,
        ):
            body = await answer.content.read(1_024)
    except (aiohttp.ClientError, OSError):
        return False
    return b'"status":"ok"' in body

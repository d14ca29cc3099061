"""Providers behind a proxy."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from base64 import b64encode
from pathlib import Path

import pytest
import trustme

from opensoul.adapters.providers.openai.client import OpenAICompletions
from opensoul.domain.errors import FailureKind
from tests.fakes import behaviours as fake
from tests.fakes.connect_proxy import ConnectProxy
from tests.fakes.provider import FakeProvider

from .calls import KEY, call, collect, failure, text_of

USER = "ann:se%40cret"
CREDENTIALS = "Basic " + b64encode(b"ann:se@cret").decode()

CALLER = """
import asyncio, sys, uvloop
from opensoul.adapters.providers.openai.client import OpenAICompletions
from tests.providers.calls import call, collect, text_of

async def main():
    client = OpenAICompletions()
    for _ in range(2):
        print(text_of(await collect(client, call(sys.argv[1], proxy=sys.argv[2]))))
    await client.close()

for new_loop in (asyncio.new_event_loop, uvloop.new_event_loop):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
"""
"""A process of its own, since the certificates to trust are read once for a process."""


async def test_https_goes_through_a_tunnel_that_is_used_again(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("api.example.test").configure_cert(tls)
    async with FakeProvider(tls=tls) as provider, ConnectProxy().running() as proxy:
        proxy.hosts = {"api.example.test": provider.port}
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            CALLER,
            "https://api.example.test/v1",
            proxy.url.replace("//", f"//{USER}@"),
            env={**os.environ, "SSL_CERT_FILE": str(tmp_path / "ca.pem")},
            stdout=asyncio.subprocess.PIPE,
        )
        written, _ = await child.communicate()

    assert written.decode().split("\n") == [*["Hello there"] * 4, ""]
    assert proxy.tunnels == ["api.example.test:443"] * 2  # One for each event loop.
    assert proxy.credentials == [CREDENTIALS] * 2
    for request in provider.requests:
        assert request.path == "/v1/chat/completions"
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert "proxy-authorization" not in request.headers


async def test_http_is_handed_to_the_proxy(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    url = f"127.0.0.1:{provider.port}"
    for proxy in (f"http://{USER}@{url}", url):
        answer = await collect(client, call("http://api.example.test:8080/v1", proxy=proxy))
        assert text_of(answer) == "Hello there"

    first, second = provider.requests
    assert first.path == "http://api.example.test:8080/v1/chat/completions"
    assert first.headers["host"] == "api.example.test:8080"
    assert first.headers["proxy-authorization"] == CREDENTIALS
    assert "proxy-authorization" not in second.headers


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (407, "its proxy does not accept the user name and password for it"),
        (403, "its proxy refused the connection (status 403)"),
        (502, "its proxy refused the connection (status 502)"),
    ],
)
async def test_a_tunnel_that_is_refused_is_no_answer_of_the_provider(
    client: OpenAICompletions, status: int, words: str
) -> None:
    async with ConnectProxy(status=status).running() as proxy:
        url = proxy.url.replace("//", f"//{USER}@")
        _, error = await failure(client, call("https://api.example.test/v1", proxy=url))

    assert error.kind is FailureKind.UNREACHABLE
    assert words in error.message
    shown = repr(error) + error.message + error.reason + error.detail
    for secret in (KEY, "se%40cret", "se@cret", CREDENTIALS.split()[1]):
        assert secret not in shown
    assert error.__context__ is None


async def test_a_proxy_that_wants_credentials_for_http_is_named(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    provider.will(fake.fail(407))
    proxy = f"http://127.0.0.1:{provider.port}"
    _, error = await failure(client, call("http://api.example.test/v1", proxy=proxy))
    assert "its proxy does not accept the user name and password" in error.message


async def test_a_proxy_that_is_not_there_is_named(client: OpenAICompletions) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = f"http://{USER}@127.0.0.1:{unused.getsockname()[1]}"
        _, error = await failure(client, call("https://api.example.test/v1", proxy=proxy))
    assert error.kind is FailureKind.UNREACHABLE
    assert "its proxy could not be reached" in error.message
    assert "cret" not in repr(error) + error.detail


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("socks5://ann:secret@127.0.0.1:9", "SOCKS proxy, which is not supported"),
        ("ftp://ann:secret@127.0.0.1:9", "http:// or https://"),
        ("http://ann:secret@", "http:// or https://"),
    ],
)
async def test_an_unusable_proxy_of_the_environment_is_named_at_the_call(
    client: OpenAICompletions, proxy: str, words: str
) -> None:
    _, error = await failure(client, call("https://api.example.test/v1", proxy=proxy))
    assert error.kind is FailureKind.UNREACHABLE
    assert words in error.message
    assert "secret" not in repr(error) + error.message + error.detail
    assert error.__context__ is None


async def test_the_client_itself_reads_no_proxy_from_the_environment(
    provider: FakeProvider, client: OpenAICompletions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration does, which knows what is configured for the provider."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert text_of(await collect(client, call(provider.base_url))) == "Hello there"

"""HTTPS from files, and what a client may not do to it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
import trustme

from opensoul.app.server.host import TLS_BUFFER, open_sockets
from opensoul.app.server.hypercorn import ServerConfig
from opensoul.domain.settings import ListenSettings, TlsSettings
from tests.app.serving import Served, config, serving
from tests.fakes.provider import FakeProvider

pytestmark = pytest.mark.both_loops

LIMIT = 0.4
"""Seconds for the first request in these tests, the handshake included."""
HANG_GUARD = 10.0


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest_asyncio.fixture(params=[False])
async def served(
    tmp_path: Path,
    provider: FakeProvider,
    authority: trustme.CA,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> AsyncIterator[Served]:
    """The parameter: whether it serves HTTP/2, too."""
    monkeypatch.setattr(ServerConfig, "first_request_seconds", LIMIT)
    monkeypatch.setattr(ServerConfig, "parting_seconds", 0.05)
    files = (tmp_path / "cert.pem", tmp_path / "key.pem")
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(files[0])
    issued.private_key_pem.write_to_path(files[1])
    content = config(provider.base_url)
    content["gateway"]["tls"] = {
        "enabled": True,
        "certPath": str(files[0]),
        "keyPath": str(files[1]),
    }
    content["gateway"]["http2"] = request.param
    async with serving(tmp_path, content) as served:
        yield served


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_little_is_received_ahead_of_what_is_decrypted() -> None:
    """The event loop decrypts what the system holds in one turn, however small the records."""
    tls = TlsSettings("cert.pem", "key.pem")
    (secure,) = open_sockets(ListenSettings(port=0, tls=tls)).secure_sockets
    with secure:
        held = secure.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert held in (TLS_BUFFER, 2 * TLS_BUFFER)  # Linux doubles it.


async def test_with_certificate_and_key_it_speaks_https(
    served: Served, trusting: ssl.SSLContext
) -> None:
    assert served.url.startswith("https://")
    connector = aiohttp.TCPConnector(ssl=trusting)
    async with aiohttp.ClientSession(connector=connector) as client:
        url = f"{served.url}/v1/chat/completions"
        asked = client.post(url, json=served.question(), headers=served.authorization)
        async with asked as response:
            answer = await response.json()

    assert answer["choices"][0]["message"]["content"] == "Hello!"


@pytest.mark.parametrize(
    ("served", "offered"), [(False, "http/1.1"), (True, "h2")], indirect=["served"]
)
async def test_http2_is_offered_only_where_it_is_switched_on(
    served: Served, trusting: ssl.SSLContext, offered: str
) -> None:
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    _, writer = await asyncio.open_connection("127.0.0.1", _port(served), ssl=trusting)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == offered
    writer.transport.abort()


@pytest.mark.parametrize("said", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n"])
async def test_a_client_that_does_not_finish_its_handshake_is_cut_off(
    served: Served, said: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", _port(served))
    writer.write(said)
    try:
        async with asyncio.timeout(HANG_GUARD):
            await _until_closed(reader)
    finally:
        writer.transport.abort()


async def test_a_client_that_asks_nothing_after_its_handshake_is_cut_off_also_without_its_consent(
    served: Served, trusting: ssl.SSLContext
) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    reader, writer = await asyncio.open_connection("127.0.0.1", _port(served))
    try:
        async with asyncio.timeout(HANG_GUARD):
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(65_536))
            writer.write(outgoing.read())
            # The server's farewell is read, and never answered.
            await _until_closed(reader)
    finally:
        writer.transport.abort()


async def _until_closed(reader: asyncio.StreamReader) -> None:
    try:
        while await reader.read(65_536):
            pass
    except ConnectionResetError:
        pass


def _port(served: Served) -> int:
    return int(served.url.rpartition(":")[2])

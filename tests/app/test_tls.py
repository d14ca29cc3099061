"""HTTPS from files."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import aiohttp
import pytest
import trustme

from tests.app.serving import config, serving
from tests.fakes.provider import FakeProvider

pytestmark = pytest.mark.both_loops


@pytest.mark.parametrize(("http2", "offered"), [(False, "http/1.1"), (True, "h2")])
async def test_with_certificate_and_key_it_speaks_https(
    tmp_path: Path, provider: FakeProvider, http2: bool, offered: str
) -> None:
    authority, files = trustme.CA(), (tmp_path / "cert.pem", tmp_path / "key.pem")
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(files[0])
    issued.private_key_pem.write_to_path(files[1])
    content = config(provider.base_url)
    content["gateway"]["tls"] = {
        "enabled": True,
        "certPath": str(files[0]),
        "keyPath": str(files[1]),
    }
    content["gateway"]["http2"] = http2
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async with serving(tmp_path, content) as served:
        assert served.url.startswith("https://")
        connector = aiohttp.TCPConnector(ssl=trusting)
        async with aiohttp.ClientSession(connector=connector) as client:
            url = f"{served.url}/v1/chat/completions"
            asked = client.post(url, json=served.question(), headers=served.authorization)
            async with asked as response:
                answer = await response.json()
        trusting.set_alpn_protocols(["h2", "http/1.1"])
        port = int(served.url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == offered
        writer.transport.abort()

    assert answer["choices"][0]["message"]["content"] == "Hello!"

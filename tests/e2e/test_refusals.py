"""What strangers cause is a bounded number of lines in the log, and those left out are counted."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from tests.e2e.process import GatewayProcess

pytestmark = pytest.mark.e2e

TIMES = 40
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
)
SENT = {
    "requests of strangers: 200": "GET /healthz HTTP/1.1\r\nHost: localhost",
    "requests of strangers: 400": "GET /healthz HTTP/1.1\r\nHost: a..b",
    "requests of strangers: 401": "GET /v1/models HTTP/1.1\r\nHost: localhost",
    "requests of strangers: 404": "GET /nothing HTTP/1.1\r\nHost: localhost",
    "handshakes refused": f"GET / HTTP/1.1\r\nHost: evil.example\r\n{UPGRADE}",
}


async def send(port: int, head: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{head}\r\n\r\n".encode())
    await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_a_flood_of_strangers_is_a_few_lines_and_its_number(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "gateway.log"
    settings = {"file": str(log), "maxFileBytes": 4_000, "keepFiles": 2}
    content = {
        "gateway": {"http": {"endpoints": {"chatCompletions": {"enabled": True}}}},
        "logging": settings,
    }
    async with GatewayProcess(tmp_path, json.dumps(content)) as gateway:
        for head in SENT.values():
            for _ in range(TIMES):
                await send(gateway.port, head)

    lines = [line for line in gateway.err if "reason=" in line or "opensoul.access" in line]
    assert len(lines) == 10 * len(SENT)
    assert "Traceback" not in "".join(gateway.err)
    left_out = dict(re.findall(r"kind='(.*?)' left_out=(\d+)", "".join(gateway.err)))
    assert left_out == {kind: str(TIMES - 10) for kind in SENT}
    assert sorted(path.name for path in log.parent.iterdir()) == [
        "gateway.log",
        "gateway.log.1",
        "gateway.log.2",
    ]
    for path in log.parent.iterdir():
        assert path.stat().st_size < 4_000 + 1_000
        assert all(json.loads(line) for line in path.read_text().splitlines())

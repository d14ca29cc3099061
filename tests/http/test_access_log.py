"""One line for each request, with what operators look for and nothing that is secret."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from opensoul.adapters.transports.http import access_log as writer
from opensoul.adapters.transports.http.context import RequestContext
from opensoul.domain.access.addresses import ClientAddress

from .app import Harness
from .client import CHAT, Client
from .conftest import AccessLog


def told(line: dict[str, Any]) -> dict[str, Any]:
    """What the line says beyond what every log record has."""
    usual = vars(logging.makeLogRecord({})).keys() | {"message"}
    return {name: value for name, value in line.items() if name not in usual}


@pytest.mark.parametrize("stream", [True, False])
async def test_a_run_is_told_with_its_names_and_timings(
    client: Client, access_log: AccessLog, stream: bool
) -> None:
    headers = {"x-opensoul-session-key": "agent:beta:x", "x-request-id": "r-1"}
    reply = await client.chat(headers=headers, stream=stream)

    line = told(await access_log.line())

    assert access_log.is_empty
    timings = ("ms", "auth_ms", "queue_ms", "history_ms", "first_token_ms")
    assert all(line.pop(name) >= 0 for name in timings)
    assert line.pop("bytes_in") > 0
    assert line == {
        "method": "POST",
        "path": CHAT,
        "status": 200,
        "outcome": "answered",
        "bytes": len(reply.body),
        "client": "127.0.0.1",
        "request": "r-1",
        "run": reply.headers["x-opensoul-run-id"],
        "agent": "beta",
        "session": "agent:beta:x",
        "model": "opensoul",
        "stream": stream,
        "answered_by": "fake/fake-1",
    }


async def test_a_refusal_is_told_with_its_code(client: Client, access_log: AccessLog) -> None:
    await client.chat(temperature="hot")

    line = told(await access_log.line())
    assert (line["status"], line["outcome"], line["code"]) == (400, "refused", "invalid_request")
    assert "run" not in line


async def test_no_content_no_secret_and_no_query_is_told(
    client: Client, access_log: AccessLog
) -> None:
    await client.ask("GET", "/v1/models?api_key=hush%20hush")
    await client.ask("GET", "/v1/models", headers={"Authorization": "Bearer hush hush"})
    await client.chat(messages=[{"role": "user", "content": "hush hush"}])

    for _ in range(3):
        assert "hush" not in str(told(await access_log.line()))


async def test_a_path_cannot_write_lines_of_its_own(client: Client, access_log: AccessLog) -> None:
    await client.get("/x%0astatus=200" + "y" * 1_000)

    path = (await access_log.line())["path"]
    assert path.startswith("/x%0astatus=200")
    assert len(path) < 300


async def test_a_line_is_written_only_when_the_stream_has_ended(
    gateway: Harness, client: Client, access_log: AccessLog
) -> None:
    gate = asyncio.Event()
    gateway.model.script = (gateway.model.script[0], gate, *gateway.model.script[1:])
    asking = asyncio.create_task(client.chat(stream=True))
    await gateway.model.called.wait()
    assert access_log.is_empty

    gate.set()
    await asking

    assert (await access_log.line())["outcome"] == "answered"


async def test_an_exchange_without_any_answer_was_cut(access_log: AccessLog) -> None:
    context = RequestContext("r", ClientAddress("127.0.0.1"))

    writer.write({"method": "GET", "path": "/ä\n"}, context)

    line = told(await access_log.line())
    assert (line["outcome"], line["path"]) == ("cut", "/%C3%A4%0A")

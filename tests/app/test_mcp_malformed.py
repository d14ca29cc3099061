"""What an MCP server gets that is no message, and clients that do not read."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings

from tests.app.mcp_clients import (
    INITIALIZE,
    call,
    connected,
    content,
    event,
    heads,
    opened,
    post,
    text_of,
)
from tests.app.serving import Served, serving
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

MODERN = {"mcp-protocol-version": "2026-07-28"}
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(answer("Hel", "lo!")) as provider:
        yield provider


@pytest_asyncio.fixture
async def served(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Served]:
    async with serving(tmp_path, content(provider)) as served:
        yield served


class StalledRequests(logging.Handler):
    """Sets the event when the access log has a client that did not read."""

    def __init__(self, event: asyncio.Event) -> None:
        super().__init__()
        self._event = event

    def emit(self, record: logging.LogRecord) -> None:
        if vars(record).get("outcome") == "client_stalled":
            self._event.set()


@pytest_asyncio.fixture
async def stalled(caplog: pytest.LogCaptureFixture) -> AsyncIterator[asyncio.Event]:
    event = asyncio.Event()
    handler = StalledRequests(event)
    caplog.set_level(logging.INFO, "opensoul.access")
    logging.getLogger("opensoul.access").addHandler(handler)
    yield event
    logging.getLogger("opensoul.access").removeHandler(handler)


@pytest.mark.parametrize("headers", [{}, MODERN])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b"[" + b"0," * 30_000 + b"0]",
        b'{"jsonrpc":"2.0"}',
        b'{"jsonrpc":"1.0","id":1,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":{}}',
        b'{"jsonrpc":"2.0","id":1,"method":1}',
        b'{"jsonrpc":"2.0","id":' + b"9" * 5_000 + b',"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}',
        json.dumps([INITIALIZE]).encode(),
        json.dumps(call("ask_main", [])).encode(),
    ],
    ids=range(14),
)
async def test_what_is_no_message_is_refused(
    served: Served, headers: dict[str, str], body: bytes
) -> None:
    session = await opened(served)
    for of in ("", session):
        async with post(served, body, of, headers=headers) as response:
            text = await response.text()
            if response.status == 200:  # Read as a message; its error is in the response.
                assert '"error"' in text
            else:
                assert 400 <= response.status < 500, text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Accept": "text/html"}, 406),
        ({"mcp-protocol-version": "1999-01-01"}, 400),
        ({"Content-Encoding": "strange"}, 415),
        ({"Content-Encoding": "gzip"}, 400),
    ],
)
async def test_headers_at_fault_are_refused(
    served: Served, headers: dict[str, str], status: int
) -> None:
    async with post(served, INITIALIZE, headers=headers) as response:
        assert response.status == status, await response.text()


async def test_a_message_without_a_content_type_is_read(served: Served) -> None:
    body = json.dumps(INITIALIZE).encode()
    sent = served.client.post(
        "/mcp", data=body, headers=heads(), skip_auto_headers=("Content-Type",)
    )
    async with sent as response:
        assert response.status == 200, await response.text()


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_without_sessions_there_is_no_stream_and_no_end(served: Served, method: str) -> None:
    headers = heads() | {"mcp-protocol-version": "2026-07-28"}
    async with served.client.request(method, "/mcp", headers=headers) as response:
        assert response.status == 405


async def test_a_message_without_a_session_is_refused(served: Served) -> None:
    async with post(served, call("ask_main", {"message": "hi"})) as response:
        assert response.status == 400
    for method in ("GET", "DELETE"):
        async with served.client.request(method, "/mcp", headers=heads()) as response:
            assert response.status == 400


async def test_a_method_that_is_not_served_is_refused(served: Served) -> None:
    async with served.client.put("/mcp", headers=heads()) as response:
        assert response.status == 405
        assert {"DELETE", "GET", "POST"} <= {*response.headers["allow"].split(", ")}
    session = await opened(served)
    message = {"jsonrpc": "2.0", "id": 1, "method": "resources/list"}
    async with post(served, message, session) as response:
        assert (await event(response))["error"]["code"] == -32601


async def test_halves_of_surrogate_pairs_reach_no_model(
    served: Served, provider: FakeProvider
) -> None:
    arguments = '{"message": "a\\ud800b"}'
    body = json.dumps(call("ask_main", {}, _meta=ENVELOPE)).replace("{}, ", arguments + ", ", 1)
    sent = MODERN | {"mcp-method": "tools/call", "mcp-name": "ask_main"}
    async with post(served, body.encode(), headers=sent) as response:
        result = (await response.json())["result"]
    assert result["structuredContent"]["text"] == "Hello!", result
    (request,) = provider.requests
    assert request.json["messages"][-1]["content"] == "a\ufffdb"


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=12,
)
METHODS = st.sampled_from(
    [
        *("initialize", "tools/list", "tools/call", "ping", "server/discover"),
        *("subscriptions/listen", "notifications/cancelled", "notifications/initialized"),
        *("logging/setLevel", "completion/complete", "resources/read", "x"),
    ]
)
NAMED = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["ask_main", "ask_", ""]) | JSON,
        "arguments": st.dictionaries(st.sampled_from(["message", "session_key", "x"]), JSON) | JSON,
        "cursor": JSON,
        "_meta": st.just(ENVELOPE) | st.dictionaries(st.just("progressToken"), JSON) | JSON,
        "protocolVersion": st.sampled_from(["2025-11-25", "2026-07-28", ""]) | JSON,
        "requestId": JSON,
    },
)
MESSAGES = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0") | JSON, "method": METHODS},
    optional={"id": st.integers(0, 5) | JSON, "params": NAMED | JSON},
)


async def test_no_message_makes_the_gateway_fail(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    session = await opened(served)
    runner = asyncio.get_running_loop()

    async def sent(message: Any, modern: bool, in_session: bool) -> None:
        headers = MODERN | {"mcp-method": str(message.get("method"))} if modern else {}
        if any(not name.isascii() or "\n" in name for name in headers.values()):
            headers = MODERN
        of = session if in_session and not modern else ""
        async with asyncio.timeout(20), post(served, message, of, headers=headers) as response:
            assert response.status < 500
            if response.status == 200:
                await response.content.readany()

    @settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
    @given(MESSAGES, st.booleans(), st.booleans())
    def example(message: Any, modern: bool, in_session: bool) -> None:
        asyncio.run_coroutine_threadsafe(sent(message, modern, in_session), runner).result()

    with caplog.at_level(logging.ERROR, "opensoul"):
        await asyncio.to_thread(example)
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []
    async with connected(served) as client:
        assert text_of(await client.call_tool("ask_main", {"message": "hi"})) == "Hello!"


async def test_a_client_that_does_not_read_holds_up_nobody_and_counts_as_gone(
    tmp_path: Path, provider: FakeProvider, stalled: asyncio.Event
) -> None:
    provider.will(answer(*["x" * 1_000_000] * 8))
    whole = content(provider, writeTimeoutMs=300)
    async with serving(tmp_path, whole) as served:
        session = await opened(served)
        body = json.dumps(call("ask_main", {"message": "hi"})).encode()
        head = "".join(f"{name}: {value}\r\n" for name, value in heads(session).items())
        port = int(served.url.rpartition(":")[2])
        with socket.socket() as narrow:
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            narrow.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(narrow, ("127.0.0.1", port))
            request = (
                f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json"
                f"\r\n{head}Content-Length: {len(body)}\r\n\r\n"
            )
            await loop.sock_sendall(narrow, request.encode() + body)
            await provider.arrival()

            async with connected(served) as client:
                result = await client.call_tool("ask_main", {"message": "hi"})
            assert text_of(result) == "Hello!"
            async with asyncio.timeout(30):
                await stalled.wait()

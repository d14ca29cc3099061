"""The limit of the stack: Quart, hypercorn and aiohttp, which only forward bytes.

    python -m bench.yardstick --port 9001 --provider http://127.0.0.1:9000/v1

There is no authentication, agent, store or log. The server is configured like the Gateway's. As in
the Gateway, the request to the provider is always a stream, and a response that is not streamed is
collected.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import orjson
import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, Response, request

_MAX_CONCURRENT = 1_000
_MAX_BODY_BYTES = 20 * 1024 * 1024


def server_config(port: int) -> Config:
    """hypercorn's settings, equal to the Gateway's; a test compares them."""
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.backlog = 1_024
    config.keep_alive_timeout = 75.0
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.errorlog.setLevel(logging.WARNING)
    return config


def create_app(provider: str) -> Quart:
    """The application; `provider` is the base URL."""
    app = Quart("yardstick", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = _MAX_BODY_BYTES
    upstream = _Upstream(f"{provider}/chat/completions")
    app.before_serving(upstream.open)
    app.after_serving(upstream.close)

    @app.get("/readyz")
    async def ready() -> Response:
        return Response(b'{"ready":true}', content_type="application/json")

    @app.post("/v1/chat/completions")
    async def create() -> Response:
        asked = orjson.loads(await request.get_data())
        streaming = asked.get("stream", False)
        answer = await upstream.ask(orjson.dumps({**asked, "stream": True}))
        if not streaming:
            return Response(await _collected(answer), content_type="application/json")
        response = Response(_passed_on(answer), content_type="text/event-stream; charset=utf-8")
        response.timeout = None
        return response

    return app


class _Upstream:
    """Pooled connections to the provider."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_MAX_CONCURRENT),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_read=300),
            headers={"Content-Type": "application/json"},
        )

    async def ask(self, body: bytes) -> aiohttp.ClientResponse:
        assert self._session is not None
        return await self._session.post(self._address, data=body)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


async def _passed_on(answer: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
    async with answer:
        async for piece in answer.content.iter_any():
            yield piece


async def _collected(answer: aiohttp.ClientResponse) -> bytes:
    async with answer:
        body = await answer.read()
    text: list[str] = []
    last: dict[str, Any] = {}
    for event in body.split(b"\n\n"):
        if event[6:7] == b"{":
            last = orjson.loads(event[6:])
            text.append(last["choices"][0]["delta"].get("content", ""))
    message = {"role": "assistant", "content": "".join(text)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return orjson.dumps({**last, "object": "chat.completion", "choices": [choice]})


async def run(port: int, provider: str) -> None:
    """Serve until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    config: Any = server_config(port)

    async def shutdown() -> None:
        await stopped.wait()

    await serve(create_app(provider), config, shutdown_trigger=shutdown)


def main() -> None:
    parser = argparse.ArgumentParser(description="A bare pass-through: the limit of the stack.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--provider", required=True, help="base URL of the provider")
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(given.port, given.provider))


if __name__ == "__main__":
    main()

"""Nodes are restarted one after the other under clients that keep their connections.

OPENSOUL_RESTARTS sets how many restarts of gateways there are, 4 by default.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import httpx
import openai
import pytest

from tests.app.serving import SECRET
from tests.cluster.nodes import Machines, machines, question, text

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

RESTARTS = int(os.environ.get("OPENSOUL_RESTARTS", "4"))
LINGER = 4.0
"""Seconds, longer than the clients of this file are idle."""
PAUSES = (0.25, 1.5)
"""Seconds between two requests of a client that is not busy. It sends every second one to the same
gateway, so its connection there is idle for up to twice that: less than `LINGER`."""
HEADERS = {"Authorization": f"Bearer {SECRET}"}
EACH = 2
"""Clients of each kind that are busy, and that are not."""
SHORT, LONG = (5, 0.01), (300, 0.02)
"""Tokens of an answer, and seconds for each. A long one lasts for longer than `LINGER`."""

Ask = Callable[[str, str], Awaitable[str]]
"""Sends a question to the node at an address, on a connection that is kept; its answer. Raises
NotConnected where nothing was sent."""


class NotConnected(Exception):
    """There is no process that listens: nothing was sent."""


class NoAnswer(Exception):
    """A request was sent, and the connection has ended instead of an answer."""


def body(asked: str) -> dict[str, object]:
    return {"model": "opensoul", "messages": [{"role": "user", "content": asked}]}


def said(status: int, content: bytes) -> str:
    if status != 200:
        return f"{status}: {content.decode()}"
    return str(json.loads(content)["choices"][0]["message"]["content"])


@asynccontextmanager
async def by_httpx() -> AsyncIterator[Ask]:
    async with httpx.AsyncClient(headers=HEADERS, timeout=60) as client:

        async def ask(url: str, asked: str) -> str:
            try:
                answer = await client.post(f"{url}/v1/chat/completions", json=body(asked))
            except httpx.ConnectError as error:
                raise NotConnected from error
            return said(answer.status_code, answer.content)

        yield ask


@asynccontextmanager
async def by_openai() -> AsyncIterator[Ask]:
    """The official client, which tries nothing again here, with streams."""
    async with AsyncExitStack() as stack:
        clients: dict[str, openai.AsyncOpenAI] = {}

        async def ask(url: str, asked: str) -> str:
            if url not in clients:
                clients[url] = await stack.enter_async_context(
                    openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=SECRET, max_retries=0)
                )
            try:
                stream = await clients[url].chat.completions.create(
                    model="opensoul",
                    messages=[{"role": "user", "content": asked}],
                    stream=True,
                )
            except openai.APIConnectionError as error:
                # Of httpx or of its successor, whichever the installed release is made with.
                if type(error.__cause__).__name__ == "ConnectError":
                    raise NotConnected from error
                raise
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        yield ask


@asynccontextmanager
async def by_aiohttp() -> AsyncIterator[Ask]:
    async with aiohttp.ClientSession(headers=HEADERS) as client:

        async def ask(url: str, asked: str) -> str:
            try:
                async with client.post(f"{url}/v1/chat/completions", json=body(asked)) as answer:
                    return said(answer.status, await answer.read())
            except aiohttp.ClientConnectorError as error:
                raise NotConnected from error

        yield ask


@asynccontextmanager
async def by_socket() -> AsyncIterator[Ask]:
    """A client that sends on what it has, without a look at whether the connection has ended."""
    kept: dict[str, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    async def ask(url: str, asked: str) -> str:
        host, port = url.removeprefix("http://").split(":")
        if url not in kept:
            try:
                kept[url] = await asyncio.open_connection(host, int(port))
            except ConnectionRefusedError as error:
                raise NotConnected from error
        reader, writer = kept[url]
        content = json.dumps(body(asked)).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {SECRET}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        try:
            writer.write(head.encode() + content)
            received = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(received.partition("content-length: ")[2].partition("\r\n")[0])
            answer = await reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            kept.pop(url)[1].close()
            raise NoAnswer(repr(error)) from error
        if "connection: close" in received:
            kept.pop(url)[1].close()
        return said(int(received.split(" ", 2)[1]), answer)

    try:
        yield ask
    finally:
        for _, writer in kept.values():
            writer.close()


CLIENTS = {"httpx": by_httpx, "openai": by_openai, "aiohttp": by_aiohttp, "socket": by_socket}


async def test_restarts_cost_clients_that_keep_connections_no_answer(tmp_path: Path) -> None:
    """Clients try again only where they cannot connect, as a load balancer does. They send to a
    node that leaves until it listens no more: nothing tells them that it is not ready."""
    roles = {"a": "gateway", "b": "gateway", "w1": "worker", "w2": "worker"}
    gateway = {"shutdown": {"lingerSeconds": LINGER}}
    async with AsyncExitStack() as stack:
        started = await stack.enter_async_context(machines(tmp_path, roles, gateway=gateway))
        over = asyncio.Event()
        seen: Counter[str] = Counter()
        async with asyncio.TaskGroup() as clients:
            for (kind, client), busy, number in itertools.product(
                CLIENTS.items(), (True, False), range(EACH)
            ):
                ask = await stack.enter_async_context(client())
                name = f"{kind}-{'busy' if busy else 'idle'}-{number}"
                clients.create_task(_ask_until(over, started, ask, name, seen, rests=not busy))
            ask = await stack.enter_async_context(by_openai())
            clients.create_task(_ask_until(over, started, ask, "openai-long", seen, LONG))
            at_work = [*started.gateways] * (RESTARTS // 2) + started.workers
            for node in at_work:
                async with asyncio.timeout(120):
                    assert await node.stop() == 0
                    await node.start()
            over.set()
    print(f"{len(at_work)} restarts: {dict(seen)}")

    assert set(seen) <= {"answered", "not connected"}
    assert seen["answered"] > 20 * len(at_work)


async def _ask_until(
    over: asyncio.Event,
    started: Machines,
    ask: Ask,
    name: str,
    seen: Counter[str],
    size: tuple[int, float] = SHORT,
    *,
    rests: bool = False,
) -> None:
    gateways, at = started.gateways, 0
    for number in itertools.count():
        if over.is_set():
            return
        own = f"{name}-{number}"
        while True:
            at += 1
            try:
                answer = await ask(gateways[at % len(gateways)].url, question(own, *size))
            except NotConnected:
                seen["not connected"] += 1
                await asyncio.sleep(0.05)
                continue
            except (NoAnswer, httpx.HTTPError, openai.APIError, aiohttp.ClientError) as error:
                seen[f"{name}: {error!r}"] += 1
                break
            right = answer == text(own, size[0])
            seen["answered" if right else f"{name}: {answer}"] += 1
            break
        if rests:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(random.uniform(*PAUSES)):  # noqa: S311
                    await over.wait()

"""Clients of these tests: a comfortable one, and a bare socket for what no client should do."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from .app import TOKEN

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "Hi"}]
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True)
class Reply:
    """A response, read to its end."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """What the one envelope holds; nothing else may be beside it."""
        assert self.headers["Content-Type"] == "application/json"
        assert list(self.json) == ["error"]
        error: dict[str, Any] = self.json["error"]
        assert list(error) == ["message", "type", "param", "code"]
        return error

    @property
    def frames(self) -> list[str]:
        """The data of a stream's events."""
        return [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: ")]

    @property
    def ids(self) -> list[str]:
        """The ids of a stream's events."""
        return [line[4:] for line in self.body.decode().split("\n") if line.startswith("id: ")]

    @property
    def chunks(self) -> list[dict[str, Any]]:
        return [json.loads(frame) for frame in self.frames if frame != "[DONE]"]

    @property
    def said(self) -> str:
        return "".join(
            choice["delta"].get("content", "")
            for chunk in self.chunks
            for choice in chunk.get("choices", [])
        )


class Client:
    """Speaks HTTP to a served Gateway."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __aenter__(self) -> Self:
        self.http = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.http.close()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
    ) -> Reply:
        """Send with the right token unless `headers` say otherwise."""
        url = URL(self._url + path, encoded=True)
        async with self.http.request(
            method, url, headers=BEARER if headers is None else headers, data=data
        ) as response:
            return Reply(response.status, response.headers, await response.read())

    async def get(self, path: str, **more: Any) -> Reply:
        return await self.ask("GET", path, **more)

    async def post(self, body: Any, *, headers: Mapping[str, str] | None = None) -> Reply:
        """Post `body` (bytes as they are, anything else as JSON) as a chat completion."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {**BEARER, "Content-Type": "application/json", **(headers or {})}
        return await self.ask("POST", CHAT, headers=given, data=data)

    async def chat(self, *, headers: Mapping[str, str] | None = None, **fields: Any) -> Reply:
        """A chat completion that says Hi unless `fields` say otherwise."""
        return await self.post({"model": "opensoul", "messages": HI, **fields}, headers=headers)


@dataclass(frozen=True)
class Bare:
    """A connection of which every byte is the test's."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send_chat(self, **fields: Any) -> None:
        body = json.dumps({"model": "opensoul", "messages": HI, **fields}).encode()
        self.send_head(f"Content-Length: {len(body)}", "Content-Type: application/json")
        self.writer.write(body)

    def send_head(self, *headers: str, method: str = "POST", path: str = CHAT) -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: h", f"Authorization: Bearer {TOKEN}", *headers]
        self.writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def read_head(self) -> tuple[int, bytes]:
        """The status, and the raw head."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        return int(head.split()[1]), head

    def leave(self) -> None:
        """Cut the connection, as a client does whose process is killed."""
        self.writer.transport.abort()


@asynccontextmanager
async def bare(port: int, *, narrow: bool = False) -> AsyncIterator[Bare]:
    """A connection. `narrow`: it holds little that is not read, so that the server soon waits."""
    connection = socket.socket()
    if narrow:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    limit = 1_024 if narrow else 65_536
    reader, writer = await asyncio.open_connection(sock=connection, limit=limit)
    try:
        yield Bare(reader, writer)
    finally:
        writer.transport.abort()

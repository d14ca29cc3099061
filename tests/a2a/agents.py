"""A Gateway that serves A2A, and the SDK's clients for it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from a2a.client import Client, ClientConfig, ClientFactory
from a2a.types import (
    AgentCard,
    AgentInterface,
    Message,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    StreamResponse,
    Task,
    TaskState,
)

from tests.app.serving import SECRET, Served


def switched_on(content: dict[str, Any]) -> dict[str, Any]:
    """The configuration with the A2A endpoint."""
    content["gateway"]["http"] = {"endpoints": {"a2a": {"enabled": True}}}
    return content


def said(text: str = "hello", **fields: Any) -> Message:
    return Message(message_id="m1", role=Role.ROLE_USER, parts=[Part(text=text)], **fields)


def sent(text: str = "hello", *, blocking: bool = True, **fields: Any) -> SendMessageRequest:
    configuration = SendMessageConfiguration(return_immediately=not blocking)
    return SendMessageRequest(message=said(text, **fields), configuration=configuration)


def legacy(client: httpx.AsyncClient, url: str, *, streaming: bool) -> Client:
    """A client of version 0.3."""
    card = AgentCard()
    card.supported_interfaces.append(
        AgentInterface(url=url, protocol_binding="JSONRPC", protocol_version="0.3")
    )
    card.capabilities.streaming = True
    return ClientFactory(ClientConfig(httpx_client=client, streaming=streaming)).create(card)


@dataclass
class Caller:
    """A client of the SDK, in either version."""

    http: httpx.AsyncClient
    url: str
    version: str = "1.0"
    agent: str = ""

    async def client(self, *, streaming: bool = False) -> Client:
        path = f"/a2a/{self.agent}" if self.agent else ""
        if self.version == "0.3":
            return legacy(self.http, f"{self.url}{path or '/a2a'}", streaming=streaming)
        config = ClientConfig(httpx_client=self.http, streaming=streaming)
        return await ClientFactory(config).create_from_url(f"{self.url}{path}")

    async def task(self, request: SendMessageRequest) -> Task:
        """The task that a message begins, or goes on with."""
        client = await self.client()
        (event,) = [event async for event in client.send_message(request)]
        return event.task

    async def stream(self, request: SendMessageRequest) -> list[StreamResponse]:
        client = await self.client(streaming=True)
        return [event async for event in client.send_message(request)]

    async def raw(self, body: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        return await self.http.post(f"{self.url}/a2a", content=content, headers=headers)


@asynccontextmanager
async def calling(served: Served, secret: str = SECRET, **changes: Any) -> AsyncIterator[Caller]:
    headers = {"Authorization": f"Bearer {secret}"}
    async with httpx.AsyncClient(headers=headers, timeout=30) as http:
        yield Caller(http, served.url, **changes)


def text_of(task: Task) -> str:
    return "".join(part.text for artifact in task.artifacts for part in artifact.parts)


def streamed_text(events: list[StreamResponse]) -> str:
    """The text of the artifact that the events make."""
    text = ""
    for event in events:
        if event.HasField("artifact_update"):
            update = event.artifact_update
            piece = "".join(part.text for part in update.artifact.parts)
            text = text + piece if update.append else piece
    return text


def states(events: list[StreamResponse]) -> Iterator[str]:
    for event in events:
        if event.HasField("task"):
            yield name(event.task.status.state)
        elif event.HasField("status_update"):
            yield name(event.status_update.status.state)


def name(state: int) -> str:
    full: str = TaskState.Name(state)
    return full.removeprefix("TASK_STATE_").lower()


def rpc(method: str, params: Any = None, **fields: Any) -> Mapping[str, Any]:
    given = {} if params is None else {"params": params}
    return {"jsonrpc": "2.0", "id": 7, "method": method, **given, **fields}

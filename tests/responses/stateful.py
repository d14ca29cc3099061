"""A real Gateway whose Responses endpoint is on, and requests to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.app.keyed import AGENTS, bearer
from tests.app.serving import SECRET, Served, config
from tests.fakes.behaviours import Received
from tests.fakes.provider import FakeProvider

ENDPOINTS = {
    "chatCompletions": {"enabled": True},
    "responses": {"enabled": True},
}


def content(provider: FakeProvider, **sections: Any) -> dict[str, Any]:
    whole = config(provider.base_url, agents=AGENTS, **sections)
    whole["gateway"]["http"] = {"endpoints": ENDPOINTS}
    return whole


async def call(
    served: Served, method: str, path: str, body: object = None, *, secret: str = SECRET
) -> tuple[int, Any]:
    """The status and the JSON of an answer."""
    async with served.client.request(method, path, json=body, headers=bearer(secret)) as response:
        return response.status, await response.json()


async def respond(served: Served, text: object = "Hi", **fields: Any) -> dict[str, Any]:
    """A response object, after checking that it is one."""
    secret = fields.pop("secret", SECRET)
    body = {"model": "opensoul", "input": text, **fields}
    status, answered = await call(served, "POST", "/v1/responses", body, secret=secret)
    assert status == 200, answered
    return dict(answered)


async def refused(
    served: Served, status: int, text: object = "Hi", **fields: Any
) -> dict[str, Any]:
    """The error of a request that is refused with that status."""
    secret = fields.pop("secret", SECRET)
    body = {"model": "opensoul", "input": text, **fields}
    answered = await call(served, "POST", "/v1/responses", body, secret=secret)
    assert answered[0] == status, answered
    return dict(answered[1]["error"])


def said(request: Received) -> list[str]:
    """The texts that a model gets, without the system prompt."""
    assert request.json is not None
    return [
        message["content"] if isinstance(message["content"], str) else str(message["content"])
        for message in request.json["messages"]
        if message["role"] != "system"
    ]


async def frames(served: Served, path: str, *, secret: str = SECRET) -> list[dict[str, Any]]:
    """The events of a stream, without the mark of its end."""
    async with served.client.get(path, headers=bearer(secret)) as response:
        assert response.status == 200, await response.text()
        body = (await response.read()).decode()
    lines = [line for line in body.splitlines() if line.startswith("data: ")]
    return [json.loads(line[6:]) for line in lines if line != "data: [DONE]"]


def state_of(home: Path) -> Path:
    return home / "state"

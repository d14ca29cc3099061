"""A client of the Responses endpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.http.client import BEARER, Client, Reply

RESPONSES = "/v1/responses"


class ResponsesClient(Client):
    async def post(self, body: Any, *, headers: Mapping[str, str] | None = None) -> Reply:
        """Post `body` (bytes as they are, anything else as JSON)."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {**BEARER, "Content-Type": "application/json", **(headers or {})}
        return await self.ask("POST", RESPONSES, headers=given, data=data)

    async def respond(self, *, headers: Mapping[str, str] | None = None, **fields: Any) -> Reply:
        """A request that says Hi unless `fields` say otherwise."""
        return await self.post({"model": "opensoul", "input": "Hi", **fields}, headers=headers)


def events_of(reply: Reply) -> list[dict[str, Any]]:
    """The events of a stream. Their numbers, their names and the mark of the end are right."""
    *frames, end = reply.body.decode().split("\n\n")[:-1]
    assert end == "data: [DONE]"
    events = []
    for number, frame in enumerate(frames):
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        assert event["sequence_number"] == number
        events.append(event)
    return events


def text_of(response: Mapping[str, Any]) -> str:
    """The text of a response object."""
    return "".join(
        part["text"]
        for item in response["output"]
        if item["type"] == "message"
        for part in item["content"]
    )

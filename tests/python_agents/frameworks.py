"""What the tests of every framework share: the model of an agent, and what a client sees."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.app.serving import SECRET, Served
from tests.fakes.behaviours import USAGE, Behaviour, answer

PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJ"
    "RU5ErkJggg=="
)


def calls(*pairs: tuple[str, Mapping[str, Any]], text: str = "", prefix: str = "c") -> Behaviour:
    """A model answers with calls of tools; each pair is a name and arguments."""
    deltas = [
        {
            "index": number,
            "id": f"{prefix}{number}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for number, (name, arguments) in enumerate(pairs)
    ]
    texts = (text,) if text else ()
    return answer(*texts, tool_calls=deltas, finish_reason="tool_calls")


def says(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def usage_of(model_calls: int) -> dict[str, int]:
    """The usage of so many answers of the fake provider."""
    return {name: model_calls * count for name, count in USAGE.items()}


async def events_of(served: Served, run_id: str) -> list[dict[str, Any]]:
    """The events of a run that has ended."""
    headers = {"Authorization": f"Bearer {SECRET}"}
    async with served.client.get(f"/v1/runs/{run_id}/events", headers=headers) as response:
        assert response.status == 200, await response.text()
        text = await response.text()
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]

"""The results of a client's failed calls, from Anthropic's format to a provider of OpenAI's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.provider import FakeProvider

from .keyed import AGENTS, provider
from .serving import config, serving

__all__ = ["provider"]
TOOL = {"name": "weather", "input_schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("fields", "text"),
    [({}, "3"), ({"is_error": False}, "3"), ({"is_error": True}, "[The call failed.]\n3")],
)
async def test_a_model_gets_to_know_that_a_call_failed(
    tmp_path: Path, provider: FakeProvider, fields: dict[str, Any], text: str
) -> None:
    whole = config(provider.base_url, agents=AGENTS)
    whole["gateway"]["http"] = {"endpoints": {"messages": {"enabled": True}}}
    call = {"type": "tool_use", "id": "t1", "name": "weather", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "3", **fields}
    messages = [
        {"role": "user", "content": "How is Bern?"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    body = {"model": "opensoul", "max_tokens": 9, "messages": messages, "tools": [TOOL]}
    async with (
        serving(tmp_path, whole) as served,
        served.client.post("/v1/messages", json=body, headers=served.authorization) as response,
    ):
        assert response.status == 200, await response.text()

    sent: Any = provider.requests[-1].json
    assert sent["messages"][-1] == {"role": "tool", "content": text, "tool_call_id": "t1"}

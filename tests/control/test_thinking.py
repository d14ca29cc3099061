"""How much to think is the same for a question to a Gateway and for one without."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from opensoul.app.cli.common.state import State
from opensoul.app.cli.remote.local_turns import ask_locally
from opensoul.app.cli.remote.turns import Question, Show
from tests.app.serving import SECRET, config, serving
from tests.control.client import connected
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

LEVELS = ("off", "low", "MAX", None)


@pytest.mark.parametrize(
    ("reasoning", "told"), [(True, [None, "low", "high", None]), (False, [None] * 4)]
)
async def test_thinking_is_read_alike_with_a_gateway_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reasoning: bool, told: list[str | None]
) -> None:
    monkeypatch.setenv("OPENSOUL_STATE_DIR", str(tmp_path / "state"))
    async with FakeProvider(answer("Hello")) as provider:
        content = config(provider.base_url)
        content["models"]["providers"]["fake"]["models"][0]["reasoning"] = reasoning
        async with serving(tmp_path, content) as served, connected(served.client, SECRET) as peer:
            for number, level in enumerate(LEVELS):
                asked = {"message": "hi", "idempotencyKey": f"there-{number}", "thinking": level}
                request = peer.send("agent", {k: v for k, v in asked.items() if v is not None})
                await peer.answer(request)
                await peer.answer(request)
        state = State(
            serve=lambda overrides, example: 0, options={"config": str(served.config_path)}
        )
        for number, level in enumerate(LEVELS):
            question = Question("hi", f"here-{number}", thinking=level)
            ended = await asyncio.to_thread(ask_locally, state, question, Show(False))
            assert (ended.status, ended.text) == ("ok", "Hello")

        efforts = [request.json.get("reasoning_effort") for request in provider.requests]
    assert efforts == told * 2

"""What becomes of the chat completions whose clients were connected to a process that dies."""

from __future__ import annotations

from pathlib import Path

import httpx
import openai
import pytest

from opensoul.client import Aborted
from tests.cluster.nodes import machines, official, question

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


async def test_the_run_of_a_client_whose_gateway_was_killed_is_stopped(tmp_path: Path) -> None:
    roles = {"a": "gateway", "b": "gateway", "w1": "worker"}
    async with machines(tmp_path, roles) as started:
        async with official(started["a"]) as client:
            stream = await client.chat.completions.create(
                model="opensoul",
                messages=[{"role": "user", "content": question("orphan", 10_000, 0.02)}],
                stream=True,
            )
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    break
            await started["a"].kill()
            with pytest.raises((openai.APIError, httpx.HTTPError)):
                async for _ in stream:
                    pass
        (begin,) = [line for line in started.work.lines() if line.kind == "begin"]

        assert await started.work.until("left", begin.run)
        async with started["b"].client() as other:
            events = [event async for event in other.follow(begin.run).events()]
        assert isinstance(events[-1], Aborted)
        assert events[-1].reason == "The process that the client was connected to has died."

"""The benchmark of Python functions compares answers of the same size."""

from __future__ import annotations

from pathlib import Path

from bench.plain_agent import CHUNKS, CODE, TEXT
from tests.app.serving import serving
from tests.python_agents.conftest import configured
from tests.python_agents.test_functions import streamed


async def test_both_agents_answer_with_as_many_chunks(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(CODE)
    content = configured({"target": "plain:agent", "isolation": "process"})
    content["agents"]["list"].append({"id": "echo", "runner": "echo"})
    question = [{"role": "user", "content": TEXT}]

    async with serving(tmp_path, content) as served:
        counts = [
            sum(
                bool(choice["delta"].get("content"))
                for chunk in await streamed(served, model=model, messages=question)
                for choice in chunk["choices"]
            )
            for model in ("opensoul/main", "opensoul/echo")
        ]

    assert counts == [CHUNKS, CHUNKS]

"""How much agents may answer, and how much of it is an event."""

from __future__ import annotations

from pathlib import Path

import pytest

from opensoul.adapters.python_agents.portions import MOST_CHARS, PORTION, Portions, waits_behind
from opensoul.domain.errors import AgentFailed
from opensoul.domain.models import ReasoningDelta, TextDelta
from opensoul.domain.runs import ToolFinished, ToolStarted
from tests.app.serving import serving
from tests.python_agents.conftest import Write, configured


@pytest.mark.parametrize("kind", [TextDelta, ReasoningDelta])
def test_a_long_text_is_divided(kind: type[TextDelta] | type[ReasoningDelta]) -> None:
    text = "".join(map(str, range(PORTION)))

    batches = list(Portions("main").of([kind("a"), kind(text), kind("z")]))
    texts = [[e.text for e in batch if isinstance(e, kind)] for batch in batches]

    assert "".join(map("".join, texts)) == f"a{text}z"
    assert max(len("".join(batch)) for batch in texts) <= PORTION


def test_an_agent_waits_behind_a_tool_and_behind_many_characters() -> None:
    assert waits_behind([TextDelta("a"), ToolStarted("c", "look", "{}"), TextDelta("b")])
    assert waits_behind([TextDelta("a" * PORTION)])
    assert not waits_behind([TextDelta("a"), ToolFinished("c", False, "seen")])


def test_the_characters_of_an_answer_are_counted() -> None:
    portions = Portions("main")
    result = ToolFinished("c", False, "x" * (MOST_CHARS // 2))

    list(portions.of([result]))
    list(portions.of([result]))
    with pytest.raises(AgentFailed, match="`main` is longer than 32 million characters"):
        list(portions.of([TextDelta("x")]))


@pytest.mark.parametrize("isolation", ["thread", "process"])
async def test_an_endless_text_ends_the_run(isolation: str, write: Write, tmp_path: Path) -> None:
    endless = """
        async def agent(run):
            yield "begun"
            while True:
                yield "x" * 4_000_000
    """
    content = configured({"target": f"{write(endless)}:agent", "isolation": isolation})

    async with (
        serving(tmp_path, content) as served,
        served.ask() as response,
    ):
        body = await response.json()

    assert response.status == 502
    assert "longer than 32 million characters" in body["error"]["message"]

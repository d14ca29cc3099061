"""llmprobe finds every surface of a Gateway whose endpoints are all switched on as it demands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.app.serving import SECRET
from tests.clients.installed import ENDPOINTS, NODE_MODULES, PROJECT, gateway, require, run
from tests.clients.scripted import behaviour_for, is_for_embeddings, play
from tests.fakes.behaviours import Behaviour, Exchange, answer

SURFACES = ("models", "chat", "responses", "messages")
"""That `--quick` checks and the Gateway has."""
REPORT = PROJECT / "docs" / "conformance.md"
GATEWAY = {"auth": {"token": SECRET}, "http": {"endpoints": ENDPOINTS}}
_TEXTS = {
    "What is 2 + 2?": ("4",),
    "Say hello": ("Hello",),
    "Count from 1 to 5": ("1, 2, 3, ", "4, 5"),
}


async def sensible(exchange: Exchange) -> None:
    """A model that answers the questions of llmprobe, and embeds texts."""
    if is_for_embeddings(exchange):
        await play(exchange)
    else:
        await _answer(exchange.request.json)(exchange)


def _answer(body: dict[str, Any]) -> Behaviour:
    question = str(body["messages"][-1]["content"])
    if "What is my name?" in question:  # It has to be in an earlier message.
        names = re.findall(r"My name is (\w+)", json.dumps(body["messages"]))
        return answer(names[0] if names else "I do not know.")
    for beginning, texts in _TEXTS.items():
        if beginning in question:
            return answer(*texts)
    if 1 in (body.get("max_tokens"), body.get("max_completion_tokens")):
        return answer("The", finish_reason="length")
    return behaviour_for(body)


@pytest.mark.e2e
async def test_every_assertion_passes(tmp_path: Path) -> None:
    require(NODE_MODULES / "llmprobe")
    async with gateway(tmp_path, sensible, gateway=GATEWAY) as (served, _):
        program = NODE_MODULES / ".bin" / "llmprobe"
        options = ["--quick", "--no-bench", "--no-save", "--json", "--api-key", SECRET]
        target: list[str | Path] = ["node", program, f"{served.url}/v1"]
        status, printed = await run(tmp_path, [*target, *options, "--model", "opensoul"])

    assert status == 0, printed
    report = json.loads(printed)
    found = report["conformance"]
    assert [found[kind] for kind in ("inconclusive", "warnings", "nits")] == [[], [], []]
    assert {one["surface"]: one["pct"] for one in found["bySurface"]} == dict.fromkeys(
        SURFACES, 100
    )
    assert table(found) in REPORT.read_text("utf-8")


@pytest.mark.e2e
async def test_every_must_passes_at_the_default_depth(tmp_path: Path) -> None:
    require(NODE_MODULES / "llmprobe")
    async with gateway(tmp_path, sensible, gateway=GATEWAY) as (served, _):
        program = NODE_MODULES / ".bin" / "llmprobe"
        options = ["--no-bench", "--no-save", "--json", "--api-key", SECRET]
        target: list[str | Path] = ["node", program, f"{served.url}/v1"]
        _, printed = await run(tmp_path, [*target, *options, "--model", "opensoul"])

    found = json.loads(printed)["conformance"]
    failures = [failure for one in found["results"] for failure in one["failures"]]
    assert [failure for failure in failures if failure["severity"] == "MUST"] == []
    report = REPORT.read_text("utf-8")
    for one in found["bySurface"]:
        assert f"| `{one['surface']}` | {one['passed']} of {one['total']} |" in report


def table(found: dict[str, Any]) -> str:
    """The result as docs/conformance.md has it."""
    lines = ["| check | outcome |", "|---|---|"]
    ran = [one for one in found["results"] if one["outcome"] != "skipped"]
    lines += [f"| {one['name']} | {one['outcome']} |" for one in ran if one["surface"] in SURFACES]
    lines += [
        f"| assertions about `{one['surface']}` | {one['passed']} of {one['total']} |"
        for one in found["bySurface"]
    ]
    return "\n".join(lines) + "\n"

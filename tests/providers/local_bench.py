"""What the tests of local models share: a client over stand-in children, and real model files."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from opensoul.adapters.providers.local.client import LocalModels
from opensoul.adapters.providers.local.files import KNOWN_MODELS, FetchFailed, fetch
from opensoul.adapters.providers.openai.client import OpenAICompletions
from opensoul.domain.messages import Role, text_message
from opensoul.domain.models.calls import (
    ModelFinished,
    ModelRequest,
    ModelTarget,
    Provider,
    TextDelta,
)

PATIENCE = 20.0
STAND_IN = Path(__file__).with_name("local_stand_in.py")
PROJECT = Path(__file__).parents[2]


def target(file: Path | None, model: str = "some-model", context: int = 4096) -> ModelTarget:
    name = None if file is None else str(file)
    return ModelTarget(
        Provider("local", "local"), model, context_window=context, max_tokens=77, file=name
    )


def request(
    to: ModelTarget, words: str, params: Mapping[str, object] | None = None
) -> ModelRequest:
    return ModelRequest(to, (text_message(Role.USER, words),), params or {})


@dataclass
class Seconds:
    """A clock that stands still until it is told to go on."""

    at: float = 1000.0

    def __call__(self) -> float:
        return self.at


@dataclass
class Bench:
    """A client whose children are stand-ins; `diary` tells which were started."""

    models: LocalModels
    target: ModelTarget
    diary: Path
    now: Seconds

    @property
    def started(self) -> list[int]:
        return [int(line) for line in self.diary.read_text().split()]

    async def ask(self, words: str, params: Mapping[str, object] | None = None) -> str:
        return await said(self.models, request(self.target, words, params))


@dataclass
class Places:
    """Where a bench keeps its files, and how its children behave."""

    home: Path
    mode: str = "serves"
    patience: float = PATIENCE
    now: Seconds = field(default_factory=Seconds)


@asynccontextmanager
async def bench(places: Places) -> AsyncGenerator[Bench]:
    file = places.home / "some.gguf"
    file.touch()
    diary = places.home / "diary"
    diary.touch()
    inner = OpenAICompletions()
    models = LocalModels(
        inner=inner,
        models_dir=places.home,
        command=(sys.executable, str(STAND_IN), places.mode, str(diary)),
        now=places.now,
        start_patience=places.patience,
    )
    try:
        yield Bench(models, target(file), diary, places.now)
    finally:
        await models.close()
        await inner.close()


async def said(models: LocalModels, asked: ModelRequest) -> str:
    """The text of the whole answer, once it is complete."""
    events = [event async for told in models.stream(asked) for event in told]
    assert isinstance(events[-1], ModelFinished)
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def is_there(pid: int) -> bool:
    """Whether the process runs; one that has ended and was not yet collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def gone(pid: int) -> None:
    """Wait until the process has ended (bounded)."""
    async with asyncio.timeout(PATIENCE):
        while is_there(pid):  # noqa: ASYNC110 - nobody tells of a process that is not our child
            await asyncio.sleep(0.01)


def real_model_file() -> Path:
    """The known model's file; skips the test where it cannot be had."""
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed (extra `local`)")
    if given := os.environ.get("OPENSOUL_TEST_MODEL"):
        return Path(given)
    try:
        return fetch(PROJECT / ".opensoul" / "models", KNOWN_MODELS[0].id, report=print)
    except FetchFailed as problem:
        pytest.skip(f"the model file cannot be fetched: {problem}")

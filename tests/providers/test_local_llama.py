"""The local model for real: llama.cpp, a small model, words."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from opensoul.adapters.providers.local.client import CHILD_COMMAND, LocalModels
from opensoul.adapters.providers.local.process import ModelProcess, ModelSetup
from opensoul.adapters.providers.openai.client import OpenAICompletions
from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.models.calls import ModelFinished, ModelTarget, StopReason, TextDelta

from .local_bench import PATIENCE, PROJECT, gone, is_there, real_model_file, request, said, target

WINDOW = 1024


@pytest.fixture(scope="module")
def model_file() -> Path:
    return real_model_file()


@pytest.fixture
async def models(tmp_path: Path) -> AsyncGenerator[LocalModels]:
    inner = OpenAICompletions()
    models = LocalModels(inner=inner, models_dir=tmp_path)
    yield models
    await models.close()
    await inner.close()


@pytest.fixture
def smollm(model_file: Path) -> ModelTarget:
    return replace(target(model_file, context=WINDOW), params=(("seed", 1), ("temperature", 0)))


def processor_time(pid: int) -> int:
    """What the process used so far, in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


async def comes_to_rest(pid: int) -> None:
    """Wait until the process does nothing for a quarter of a second (bounded)."""
    async with asyncio.timeout(PATIENCE):
        while True:
            before = processor_time(pid)
            await asyncio.sleep(0.25)
            if processor_time(pid) - before <= 1:
                return


async def test_it_answers_in_words_counts_tokens_and_keeps_to_limits(
    models: LocalModels, smollm: ModelTarget
) -> None:
    asked = request(smollm, "Write one sentence about the sea.", {"max_tokens": 12})
    events = [event async for told in models.stream(asked) for event in told]
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert "sea" in text.lower()
    assert len(events) > 5
    match events[-1]:
        case ModelFinished(stop=StopReason.LENGTH, usage=usage):
            assert usage
            assert usage.output == 12
            assert usage.input > 10
        case other:
            pytest.fail(f"ended with {other}")


@pytest.mark.e2e
async def test_calls_one_behind_another_and_side_by_side_are_all_answered(
    models: LocalModels, smollm: ModelTarget
) -> None:
    asked = request(smollm, "Say hello.", {"max_tokens": 4})
    assert await said(models, asked) == await said(models, asked)
    answers = await asyncio.gather(*(said(models, asked) for _ in range(6)))
    assert all(answers)


@pytest.mark.e2e
async def test_a_prompt_past_the_window_is_told_apart_from_other_failures(
    models: LocalModels, smollm: ModelTarget
) -> None:
    with pytest.raises(ModelFailed) as raised:
        await said(models, request(smollm, "fox " * 2 * WINDOW))
    assert raised.value.kind is FailureKind.CONTEXT_TOO_LONG


@pytest.mark.e2e
async def test_leaving_in_the_middle_of_an_answer_stops_the_work(
    models: LocalModels, smollm: ModelTarget
) -> None:
    endless = request(smollm, "Tell a long story.", {"max_tokens": WINDOW, "ignore_eos": True})
    stream = models.stream(endless)
    for _ in range(5):
        assert all(isinstance(event, TextDelta) for event in await anext(stream))
    await stream.aclose()
    await comes_to_rest((await models.prepare(smollm)).pid)


@pytest.mark.e2e
async def test_leaving_while_a_long_prompt_is_read_stops_the_work(
    models: LocalModels, model_file: Path
) -> None:
    smollm = target(model_file, context=8192)
    child = await models.prepare(smollm)
    before = processor_time(child.pid)
    reading = asyncio.create_task(said(models, request(smollm, "bear " * 8000)))
    async with asyncio.timeout(PATIENCE):
        while processor_time(child.pid) - before < 30:  # noqa: ASYNC110 - until it works hard
            await asyncio.sleep(0.01)
    reading.cancel()
    await asyncio.wait([reading])
    await comes_to_rest(child.pid)


@pytest.mark.e2e
async def test_the_server_is_closed_to_who_has_not_its_key(
    models: LocalModels, smollm: ModelTarget
) -> None:
    child = await models.prepare(smollm)
    at = child.endpoint
    assert at.address.startswith("http://127.0.0.1:")
    async with aiohttp.ClientSession() as stranger:
        for path in ("/v1/models", "/props", "/slots", "/v1/chat/completions"):
            async with stranger.get(at.address + path) as answer:
                assert answer.status in (401, 404), path
        async with stranger.post(at.address + "/v1/chat/completions", json={}) as answer:
            assert answer.status == 401
    assert at.api_key.reveal() not in command_line(child.pid)


async def test_a_damaged_model_file_is_named_and_the_gateway_lives(
    models: LocalModels, model_file: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.gguf"
    with model_file.open("rb") as whole:
        damaged.write_bytes(whole.read(20_000_000))
    with pytest.raises(ModelFailed) as raised:
        await models.prepare(target(damaged))
    assert raised.value.kind is FailureKind.UNREACHABLE
    assert str(damaged) in raised.value.message
    assert "corrupted or incomplete" in raised.value.detail


async def test_a_child_ends_with_its_parent_even_when_its_pipe_stays_open(
    model_file: Path,
) -> None:
    """The pipe's other end is held by this process, so that only Linux's parent-death signal is
    left to end the child when the process between is killed."""
    if sys.platform != "linux":
        pytest.skip("only Linux has a parent-death signal")
    read, write = os.pipe()
    script = (
        "import subprocess, sys; child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE);"
        "print(child.stdout.readline()[:10], child.pid, flush=True); child.wait()"
    )
    between = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, *CHILD_COMMAND),
        stdin=read,
        stdout=asyncio.subprocess.PIPE,
        cwd=PROJECT,
    )
    os.close(read)
    assert between.stdout
    os.write(write, b'{"file": "%b", "context": 256, "apiKey": "k"}\n' % os.fsencode(model_file))
    async with asyncio.timeout(PATIENCE):
        line = (await between.stdout.readline()).decode()
    assert "address" in line
    pid = int(line.split()[-1])
    assert is_there(pid)
    between.kill()
    await between.wait()
    await gone(pid)
    os.close(write)


@pytest.mark.e2e
async def test_a_child_ignores_signals_of_a_terminal_and_of_a_service_manager(
    model_file: Path,
) -> None:
    setup = ModelSetup(model_file, 256)
    child = await ModelProcess.start(CHILD_COMMAND, setup, patience=PATIENCE)
    assert os.getsid(child.pid) != os.getsid(0)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1):
        os.kill(child.pid, number)
    health = child.endpoint.address + "/health"
    async with aiohttp.ClientSession() as client, client.get(health) as answer:
        assert answer.status == 200
    assert child.alive
    await child.stop()
    assert not is_there(child.pid)

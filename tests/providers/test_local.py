"""Local models, over children that stand in for llama.cpp: starting, crashing, ending."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from opensoul.adapters.providers.local.client import LocalModels
from opensoul.adapters.providers.local.process import ModelProcess, ModelSetup
from opensoul.adapters.providers.local.supervisor import ModelSupervisor
from opensoul.adapters.providers.openai.client import OpenAICompletions
from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.models.calls import Secret, TextDelta

from .local_bench import (
    PATIENCE,
    PROJECT,
    STAND_IN,
    Places,
    Seconds,
    bench,
    gone,
    is_there,
    request,
    said,
    target,
)


async def failure(call: Awaitable[object]) -> ModelFailed:
    with pytest.raises(ModelFailed) as raised:
        await call
    return raised.value


async def test_the_first_call_starts_a_child_and_the_next_one_uses_it(tmp_path: Path) -> None:
    async with bench(Places(tmp_path)) as here:
        assert here.started == []
        first, second = await here.ask("hello"), await here.ask("hello again")
        (pid,) = here.started
        assert first.startswith(f"{pid} ")
        assert second.startswith(f"{pid} ")


async def test_calls_at_the_same_time_start_one_child_for_each_setup(tmp_path: Path) -> None:
    async with bench(Places(tmp_path)) as here:
        wider = replace(here.target, context_window=8192)
        await asyncio.gather(
            *(here.models.prepare(here.target) for _ in range(5)),
            *(here.models.prepare(wider) for _ in range(5)),
        )
        assert len(set(here.started)) == len(here.started) == 2


async def test_the_child_gets_the_request_with_a_limit_and_asked_for_progress(
    tmp_path: Path,
) -> None:
    async with bench(Places(tmp_path)) as here:
        here.target = replace(here.target, params=(("temperature", 0.2), ("top_p", 0.5)))
        body = json.loads((await here.ask("hello", {"top_p": 0.9})).partition(" ")[2])
        assert body["max_tokens"] == 77
        assert body["temperature"] == 0.2
        assert body["top_p"] == 0.9
        assert body["return_progress"] is True
        here.target = replace(here.target, params=(("max_completion_tokens", 9),))
        body = json.loads((await here.ask("hello")).partition(" ")[2])
        assert body["max_tokens"] == 9
        limited = await here.ask("hello", {"max_completion_tokens": 5})
        body = json.loads(limited.partition(" ")[2])
        assert body["max_tokens"] == 5


async def test_a_cancelled_caller_does_not_stop_the_start(tmp_path: Path) -> None:
    async with bench(Places(tmp_path)) as here:
        impatient = asyncio.create_task(here.models.prepare(here.target))
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.wait([impatient])
        await here.ask("hello")
        assert len(here.started) == 1


async def test_a_crash_before_the_first_word_is_overload_and_the_next_call_starts_anew(
    tmp_path: Path,
) -> None:
    async with bench(Places(tmp_path)) as here:
        error = await failure(here.ask("die"))
        assert error.kind is FailureKind.OVERLOADED
        assert "SIGSEGV" in error.message
        assert (await here.ask("hello")).startswith(f"{here.started[1]} ")


async def test_a_crash_behind_the_first_word_is_a_bad_response(tmp_path: Path) -> None:
    async with bench(Places(tmp_path)) as here:
        stream = here.models.stream(request(here.target, "die halfway"))
        assert all(isinstance(event, TextDelta) for event in await anext(stream))
        error = await failure(anext(stream))
        assert error.kind is FailureKind.BAD_RESPONSE
        assert "started" not in error.message
        assert (await here.ask("hello")).startswith(f"{here.started[1]} ")


async def test_a_child_that_is_killed_between_calls_is_replaced(tmp_path: Path) -> None:
    async with bench(Places(tmp_path)) as here:
        await here.models.prepare(here.target)
        os.kill(here.started[0], signal.SIGKILL)
        await gone(here.started[0])
        with suppress(ModelFailed):  # Its end may not have come through to us yet.
            await here.ask("hello")
        assert (await here.ask("hello")).startswith(f"{here.started[1]} ")


async def test_a_refusal_of_the_server_is_passed_on_as_it_is(tmp_path: Path) -> None:
    async with bench(Places(tmp_path)) as here:
        error = await failure(here.ask("refuse me"))
        assert error.kind is FailureKind.BAD_REQUEST
        assert is_there(here.started[0])


async def test_a_child_that_lives_keeps_the_failure_of_its_connection(tmp_path: Path) -> None:
    async with bench(Places(tmp_path)) as here:
        await here.ask("hello")
        error = await failure(here.ask("hang up"))
        assert error.kind is FailureKind.UNREACHABLE
        assert is_there(here.started[0])


async def test_after_crashes_in_a_row_the_model_is_left_alone_for_a_while(tmp_path: Path) -> None:
    places = Places(tmp_path, mode="dies at once")
    async with bench(places) as here:
        for _ in range(3):
            error = await failure(here.ask("hello"))
            assert error.kind is FailureKind.UNREACHABLE
            assert error.retry_after is None
            assert "exit status 1" in error.message
            assert "no floor under my feet" in error.detail
        error = await failure(here.ask("hello"))
        assert error.kind is FailureKind.UNREACHABLE
        assert error.retry_after == pytest.approx(5.0)
        assert "3 times in a row" in error.message
        assert len(here.started) == 3
        places.now.at += 5.0
        await failure(here.ask("hello"))
        assert len(here.started) == 4
        assert (await failure(here.ask("hello"))).retry_after == pytest.approx(10.0)


async def test_crashes_far_apart_are_no_crash_loop(tmp_path: Path) -> None:
    places = Places(tmp_path)
    async with bench(places) as here:
        for _ in range(5):
            await here.ask("hello")
            places.now.at += 60.0
            await failure(here.ask("die"))
        assert (await here.ask("hello")).startswith(f"{here.started[5]} ")


async def test_what_a_child_says_about_its_failure_is_told(tmp_path: Path) -> None:
    async with bench(Places(tmp_path, mode="refuses")) as here:
        error = await failure(here.ask("hello"))
        assert error.kind is FailureKind.UNREACHABLE
        assert f"No model in {tmp_path / 'some.gguf'}." in error.message


async def test_a_child_that_does_not_keep_the_protocol_is_ended(tmp_path: Path) -> None:
    async with bench(Places(tmp_path, mode="babbles")) as here:
        error = await failure(here.ask("hello"))
        assert "did not report its address" in error.message
        assert not is_there(here.started[0])


async def test_a_child_that_never_comes_up_is_ended(tmp_path: Path) -> None:
    async with bench(Places(tmp_path, mode="is silent", patience=0.3)) as here:
        error = await failure(here.ask("hello"))
        assert "within 0.3 s" in error.message
        assert not any(is_there(pid) for pid in here.started)


async def test_a_child_that_writes_a_lot_to_standard_error_does_not_stop(tmp_path: Path) -> None:
    async with bench(Places(tmp_path, mode="talks a lot")) as here:
        assert await here.ask("hello")
        error = await failure(here.ask("die"))
        assert len(error.detail) <= 4000


async def test_an_end_by_a_signal_without_a_name_is_told_too(tmp_path: Path) -> None:
    async with bench(Places(tmp_path, mode="dies strangely")) as here:
        assert "signal 40" in (await failure(here.ask("hello"))).message


async def test_a_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    inner = OpenAICompletions()
    models = LocalModels(inner=inner, models_dir=tmp_path, command=(str(tmp_path / "nothing"),))
    (tmp_path / "m.gguf").touch()
    error = await failure(models.prepare(target(tmp_path / "m.gguf")))
    assert str(tmp_path / "nothing") in error.message
    await models.close()
    await inner.close()


async def test_an_unexpected_error_of_a_start_fails_that_start_alone(tmp_path: Path) -> None:
    errors = [RuntimeError("odd")]

    async def launch() -> ModelProcess:
        if errors:
            raise errors.pop()
        command = (sys.executable, str(STAND_IN), "serves", str(tmp_path / "diary"))
        return await ModelProcess.start(command, ModelSetup(tmp_path, 4096), patience=PATIENCE)

    supervisor = ModelSupervisor("local/m", launch, now=Seconds())
    both = await asyncio.gather(supervisor.child(), supervisor.child(), return_exceptions=True)
    for error in both:
        assert isinstance(error, ModelFailed)
        assert error.kind is FailureKind.UNREACHABLE
        assert "cannot be started. Internal error: RuntimeError." in error.message

    assert (await supervisor.child()).alive
    await supervisor.close()


async def test_unexpected_errors_in_a_row_are_counted_as_failures(tmp_path: Path) -> None:
    async def launch() -> ModelProcess:
        raise RuntimeError("odd")

    supervisor = ModelSupervisor("local/m", launch, now=Seconds())
    for _ in range(3):
        assert (await failure(supervisor.child())).retry_after is None
    error = await failure(supervisor.child())
    assert error.retry_after == pytest.approx(5.0)
    await supervisor.close()


async def test_a_model_file_may_have_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"m\xff.gguf")
    file.touch()
    async with bench(Places(tmp_path)) as here:
        assert await said(here.models, request(target(file), "hello"))


async def test_a_child_is_never_behind_a_proxy(tmp_path: Path) -> None:
    async with bench(Places(tmp_path)) as here:
        provider = replace(here.target.provider, proxy=Secret("http://127.0.0.1:9"))
        behind = replace(here.target, provider=provider)
        assert await said(here.models, request(behind, "hello"))


async def test_closing_ends_the_child_and_refuses_calls(tmp_path: Path) -> None:
    async with bench(Places(tmp_path)) as here:
        await here.ask("hello")
        await here.models.close()
        assert not is_there(here.started[0])
        error = await failure(here.ask("hello"))
        assert error.kind is FailureKind.UNREACHABLE
        assert "shutting down" in error.message
        await here.models.close()


@pytest.mark.slow
async def test_closing_ends_a_child_that_does_not_want_to(tmp_path: Path) -> None:
    async with bench(Places(tmp_path, mode="stays")) as here:
        await here.models.prepare(here.target)
        await here.models.close()
        assert not is_there(here.started[0])


async def test_closing_ends_a_start_and_tells_who_waits_for_it(tmp_path: Path) -> None:
    async with bench(Places(tmp_path, mode="is silent")) as here:
        waiting = asyncio.create_task(here.models.prepare(here.target))
        async with asyncio.timeout(PATIENCE):
            while not here.started:  # noqa: ASYNC110 - it tells by a file
                await asyncio.sleep(0.01)
        await here.models.close()
        assert "shutting down" in (await failure(waiting)).message
        assert not is_there(here.started[0])


async def test_a_missing_model_file_is_named(tmp_path: Path) -> None:
    models = LocalModels(inner=OpenAICompletions(), models_dir=tmp_path)
    missing = tmp_path / "none.gguf"
    assert str(missing) in (await failure(models.prepare(target(missing)))).message
    error = await failure(models.prepare(target(None, model="smollm2-135m-instruct")))
    assert "opensoul models fetch" in error.message
    assert str(tmp_path) in error.message
    error = await failure(models.prepare(target(None, model="gpt-17")))
    assert "smollm2-135m-instruct" in error.message
    assert error.kind is FailureKind.UNREACHABLE


PARENT = """
import asyncio, sys
from pathlib import Path
from opensoul.adapters.providers.local.client import LocalModels
from opensoul.adapters.providers.openai.client import OpenAICompletions
from tests.providers.local_bench import target

async def main():
    models = LocalModels(
        inner=OpenAICompletions(), models_dir=Path("."), command=sys.argv[2:]
    )
    await models.prepare(target(Path(sys.argv[1])))
    print("ready", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_no_child_outlives_a_gateway_that_is_killed(tmp_path: Path) -> None:
    diary, file = tmp_path / "diary", tmp_path / "m.gguf"
    file.touch()
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, str(file)),
        *(sys.executable, str(STAND_IN), "serves", str(diary)),
        cwd=PROJECT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert parent.stdout
    async with asyncio.timeout(PATIENCE):
        assert await parent.stdout.readline() == b"ready\n"
    pid = int(diary.read_text())
    assert is_there(pid)
    parent.kill()
    await parent.wait()
    await gone(pid)

"""Agents in processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from opensoul.adapters.python_agents import Status
from opensoul.adapters.python_agents.processes import ProcessHost, Worker
from opensoul.adapters.python_agents.runs import AgentRun, ApprovalsAsked
from opensoul.adapters.python_agents.wire import load_events
from opensoul.domain.access import Principal
from opensoul.domain.agents import PythonTarget
from opensoul.domain.models import TextDelta
from opensoul.domain.runs import Answered
from tests.app.serving import SECRET, Served, serving
from tests.e2e.process import GatewayProcess
from tests.python_agents.conftest import Write, configured
from tests.python_agents.test_functions import (
    ASYNC_GENERATOR,
    EVENTS,
    FUNCTION,
    streamed,
    text_of,
)

PROCESS = {"isolation": "process"}
AGENT = """
    import asyncio
    import os
    async def agent(run):
        yield str(os.getpid())
        yield " "
        if run.text == "spin":
            while True:
                pass
        if run.text == "grow":
            held = []
            while True:
                held.append(bytearray(b"x" * 1_000_000))
                await asyncio.sleep(0.001)
        if run.text == "wait":
            await asyncio.sleep(3600)
        yield "end"
"""


def says(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("text", [ASYNC_GENERATOR, FUNCTION], ids=["generator", "function"])
async def test_a_function_answers_from_its_process(text: str, write: Write, tmp_path: Path) -> None:
    content = configured({"target": f"{write(text)}:agent", **PROCESS})

    async with serving(tmp_path, content) as served:
        whole = await served.text(messages=says("one two"))
        chunks = await streamed(served, messages=says("one two"))

    assert whole == "one two !"
    assert text_of(chunks) == "one two !"


async def test_events_usage_and_the_request_cross_over(write: Write, tmp_path: Path) -> None:
    context = """
        import json
        from opensoul.api import ToolFinished, ToolStarted
        def agent(run):
            yield ToolStarted("c", "look", "{}")
            yield ToolFinished("c", False, "seen")
            yield json.dumps([
                run.session_key, run.principal.id, dict(run.params),
                [message.text for message in run.messages], [tool.name for tool in run.tools],
                [image.mime for image in run.images],
            ])
    """
    content = configured(
        {"target": f"{write(EVENTS)}:agent", **PROCESS},
        {"target": f"{write(context)}:agent", **PROCESS},
    )
    picture = (
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwAD"
        "hgGAWjR9awAAAABJRU5ErkJggg=="
    )
    parts = [
        {"type": "text", "text": "hello"},
        {"type": "image_url", "image_url": {"url": picture}},
    ]
    tools = [{"type": "function", "function": {"name": "find"}}]

    async with serving(tmp_path, content) as served:
        async with served.ask() as response:
            answer = await response.json()
        text = await served.text(
            model="opensoul/a1",
            messages=[{"role": "user", "content": parts}],
            tools=tools,
            temperature=0.5,
        )

    assert answer["usage"]["prompt_tokens"] == 13
    key, principal, params, messages, names, pictures = json.loads(text)
    assert key.startswith("agent:a1:")
    assert principal
    assert params["temperature"] == 0.5
    assert messages == ["hello"]
    assert names == ["find"]
    assert pictures == ["image/png"]


async def pid_of(response: Any) -> int:
    """The process of a streamed answer that begins with its id."""
    async with asyncio.timeout(30):
        while True:
            line = await response.content.readline()
            assert line, "the answer has no process id"
            if line.startswith(b"data: {"):
                delta = json.loads(line[6:])["choices"][0]["delta"]
                if delta.get("content", "").strip().isdigit():
                    return int(delta["content"])


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def dies(pid: int) -> bool:
    """Whether the process ends within a time that is far longer than it should need."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], 30)[0])
    finally:
        os.close(process)


async def rest_of(response: Any) -> str:
    text: bytes = await response.content.read()
    return text.decode()


async def served_other(served: Served) -> str:
    return await served.text(model="opensoul/a1")


async def test_a_killed_process_is_told_and_the_next_run_works(
    write: Write, tmp_path: Path
) -> None:
    content = configured(
        {"target": f"{write(AGENT)}:agent", **PROCESS}, {"target": f"{write(FUNCTION)}:agent"}
    )

    async with serving(tmp_path, content) as served:
        async with served.ask(stream=True, messages=says("wait")) as response:
            pid = await pid_of(response)
            os.kill(pid, signal.SIGKILL)
            end = await rest_of(response)
        again = await served.text()
        other = await served_other(served)

    assert "agent_failed" in end
    assert "died: signal SIGKILL" in end
    assert again.endswith(" end")
    assert again.split()[0] != str(pid)
    assert other == "hello !"


@pytest.mark.parametrize("leaves", [True, pytest.param(False, marks=pytest.mark.e2e)])
async def test_a_loop_without_end_is_killed_with_its_run(
    leaves: bool, write: Write, tmp_path: Path
) -> None:
    content = configured({"target": f"{write(AGENT)}:agent", **PROCESS})
    if not leaves:
        content["agents"]["list"][0]["timeoutSeconds"] = 3

    async with serving(tmp_path, content) as served:
        await served.container.python_agents().loaded("main")
        async with served.ask(stream=True, messages=says("spin")) as response:
            pid = await pid_of(response)
            end = "" if leaves else await rest_of(response)
        again = await served.text()
        gone = await asyncio.to_thread(dies, pid)

    assert leaves or "run_timeout" in end
    assert again.endswith(" end")
    assert again.split()[0] != str(pid)
    assert gone


async def test_a_process_that_grows_is_killed_at_its_limit(write: Write, tmp_path: Path) -> None:
    runner = {"target": f"{write(AGENT)}:agent", "memoryMegabytes": 200, **PROCESS}

    async with serving(tmp_path, configured(runner)) as served:
        async with served.ask(messages=says("grow")) as response:
            answer = await response.json()
            assert response.status == 502
        again = await served.text()

    assert "more than 200 MB of memory" in answer["error"]["message"]
    assert again.endswith(" end")


async def test_an_exit_at_import_is_reported(write: Write, tmp_path: Path) -> None:
    name = write("import os\nos._exit(7)\n")

    async with serving(tmp_path, configured({"target": f"{name}:agent", **PROCESS})) as served:
        state = await served.container.python_agents().loaded("main")
        async with served.ask() as response:
            assert response.status == 502

    assert state.status is Status.FAILED
    assert "exit status 7" in state.what


async def test_the_process_ends_with_the_gateway(write: Write, tmp_path: Path) -> None:
    content = configured({"target": f"{write(AGENT)}:agent", **PROCESS})

    async with serving(tmp_path, content) as served:
        pid = int((await served.text()).split()[0])

    assert not is_alive(pid)


def run_of(text: str) -> AgentRun:
    return AgentRun(
        text, (), (), "agent:main:main", "main", "r", Principal("ada", frozenset(), "token")
    )


async def test_a_run_that_is_cancelled_before_it_begins_does_not_end_its_process(
    write: Write, tmp_path: Path
) -> None:
    worker = await Worker.start(PythonTarget(f"{write(AGENT)}:agent", str(tmp_path)), {})
    await worker.loaded
    number, queue = worker.begin(run_of("end"))
    frame = await queue.get()
    assert frame is not None
    (first, *_) = load_events(frame["events"])
    assert isinstance(first, TextDelta)
    worker.finished(number)

    os.kill(int(first.text), signal.SIGSTOP)
    number, queue = worker.begin(run_of("wait"))
    cancelled = asyncio.create_task(worker.cancel(number, queue))
    await asyncio.sleep(0)  # The frames of both are sent.
    os.kill(int(first.text), signal.SIGCONT)
    await cancelled

    assert worker.is_usable
    await worker.close()


async def test_frames_of_an_attempt_that_has_ended_are_not_those_of_the_next(
    write: Write, tmp_path: Path
) -> None:
    asks = """
        import asyncio
        from opensoul.adapters.python_agents.runs import ApprovalsAsked
        from opensoul.api import ToolCall
        async def agent(run):
            if run.text == "again":
                yield "done"
                return
            try:
                yield ApprovalsAsked((ToolCall("c", "look", "{}"),), "state")
            finally:
                await asyncio.sleep(0.2)
    """
    host = ProcessHost(PythonTarget(f"{write(asks)}:agent", str(tmp_path)))
    await host.load()

    first = [event async for batch in host.stream(run_of("first")) for event in batch]
    second = [event async for batch in host.stream(run_of("again")) for event in batch]
    await host.close()

    assert isinstance(first[-1], ApprovalsAsked)
    assert isinstance(second[-1], Answered)


async def test_children_of_a_killed_process_neither_hide_its_death_nor_outlive_it(
    write: Write, tmp_path: Path
) -> None:
    forks = """
        import asyncio
        import os
        import time
        from opensoul.api import ToolStarted
        async def agent(run):
            child = os.fork()
            if not child:
                time.sleep(3600)
                os._exit(0)
            yield [f"{child}", ToolStarted("c", "die", "{}")]
            os.kill(os.getpid(), 9)
            await asyncio.Event().wait()
    """
    content = configured({"target": f"{write(forks)}:agent", **PROCESS})

    async with serving(tmp_path, content) as served:
        async with served.ask(stream=True) as response:
            child = await pid_of(response)
            end = await rest_of(response)
        gone = await asyncio.to_thread(dies, child)

    assert "died: signal SIGKILL" in end
    assert gone


async def test_what_a_process_prints_before_it_dies_is_logged(
    write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prints = """
        import os
        def agent(run):
            print("\\n".join(f"line {number}" for number in range(50_000)), flush=True)
            print("the last words", flush=True)
            os._exit(3)
    """
    content = configured({"target": f"{write(prints)}:agent", **PROCESS})
    caplog.set_level("INFO")

    async with serving(tmp_path, content) as served, served.ask() as response:
        assert response.status == 502

    printed = [record for record in caplog.messages if record.startswith("an agent printed: line")]
    assert 0 < len(printed) < 50_000


async def test_a_client_that_reads_keeps_up_with_a_process_that_yields_at_full_speed(
    write: Write, tmp_path: Path
) -> None:
    floods = """
        async def agent(run):
            for number in range(300_000):
                yield "y"
    """
    content = configured({"target": f"{write(floods)}:agent", **PROCESS})

    async with serving(tmp_path, content) as served, served.ask(stream=True) as response:
        end = b""
        async for chunk in response.content.iter_any():
            end = (end + chunk)[-200:]

    assert end.endswith(b"data: [DONE]\n\n")


FORKS = """
    import asyncio
    import os
    import time
    async def agent(run):
        how, _, number = run.text.partition(" ")
        for _ in range(int(number)):
            child = os.fork()
            if not child:
                held = bytearray(300_000_000 if how == "grow" else 1)
                time.sleep(3600)
                os._exit(0)
            yield f"{child} "
        await asyncio.sleep(3600)
"""


@pytest.mark.e2e
async def test_children_of_a_process_do_not_outlive_a_killed_gateway(
    write: Write, tmp_path: Path
) -> None:
    content = configured({"target": f"{write(FORKS)}:agent", "path": str(tmp_path), **PROCESS})
    gateway = GatewayProcess(tmp_path, json.dumps(content))
    body = {"model": "opensoul", "stream": True, "messages": says("sleep 1")}
    headers = {"Authorization": f"Bearer {SECRET}"}

    await asyncio.to_thread(gateway.start)
    async with (
        aiohttp.ClientSession(gateway.url, headers=headers) as client,
        client.post("/v1/chat/completions", json=body) as response,
    ):
        child = await pid_of(response)
        worker = os.getpgid(child)
        await asyncio.to_thread(gateway.kill)

    assert worker != gateway.pid
    assert await asyncio.to_thread(dies, child)
    assert await asyncio.to_thread(dies, worker)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("text", "why"),
    [("sleep 150", "it had more than 128 processes"), ("grow 1", "more than 200 MB of memory")],
)
async def test_children_count_among_what_a_process_uses(
    text: str, why: str, write: Write, tmp_path: Path
) -> None:
    runner = {"target": f"{write(FORKS)}:agent", "memoryMegabytes": 200, **PROCESS}
    if "sleep" in text:
        del runner["memoryMegabytes"]

    async with serving(tmp_path, configured(runner)) as served:
        async with served.ask(stream=True, messages=says(text)) as response:
            child = await pid_of(response)
            end = await rest_of(response)
        gone = await asyncio.to_thread(dies, child)

    assert why in end
    assert gone


async def test_a_process_that_sends_more_than_it_is_asked_for_is_killed(
    write: Write, tmp_path: Path
) -> None:
    floods = """
        import json
        import os
        import select
        import sys
        def agent(run):
            body = json.dumps({"op": "events", "run": 1, "events": []}).encode()
            frame, gateway = len(body).to_bytes(4) + body, int(sys.argv[2])
            while True:
                left = frame
                while left:
                    select.select([], [gateway], [])
                    left = left[os.write(gateway, left):]
    """
    target = PythonTarget(f"{write(floods)}:agent", str(tmp_path))
    worker = await Worker.start(target, {}, most_held=100_000)
    await worker.loaded

    worker.begin(run_of("flood"))
    await worker.ended.wait()

    assert worker.why == "it sent more than it was asked for"


async def test_an_agent_may_have_an_interpreter_of_its_own(write: Write, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nWHOSE="its own" exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    shows = """
        import os
        def agent(run):
            return os.environ.get("WHOSE", "the one of the Gateway")
    """
    target = f"{write(shows)}:agent"
    content = configured(
        {"target": target, "python": "./python", **PROCESS}, {"target": target, **PROCESS}
    )

    async with serving(tmp_path, content) as served:
        texts = [await served.text(), await served.text(model="opensoul/a1")]

    assert texts == ["its own", "the one of the Gateway"]


@pytest.mark.parametrize(
    ("python", "why"),
    [("./nothing", "nothing cannot be started: No such file"), ("/bin/false", "exit status 1")],
)
async def test_an_interpreter_that_cannot_serve_is_named(
    python: str, why: str, write: Write, tmp_path: Path
) -> None:
    runner = {"target": f"{write(FUNCTION)}:agent", "python": python, **PROCESS}

    async with serving(tmp_path, configured(runner)) as served:
        state = await served.container.python_agents().loaded("main")

    assert state.status is Status.FAILED
    assert why in state.what
    assert python.strip(".") in state.what

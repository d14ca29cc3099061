"""The life of an MCP server: started on first use, ended, started again, never called twice."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from opensoul.adapters.mcp import McpToolbox, ServerUnavailable
from opensoul.adapters.sandbox import Bubblewrap
from opensoul.domain.models import Secret
from opensoul.domain.tools import ToolOutput, ToolResult
from tests.mcp.servers import (
    CONTEXT,
    PROJECT,
    CurrentServers,
    call,
    free_port,
    http_server,
    stdio,
    tool_call,
    toolbox,
    until,
)

ADD = {"a": 1, "b": 2}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def boxes() -> AsyncIterator[list[McpToolbox]]:
    """Toolboxes that are closed after the test."""
    made: list[McpToolbox] = []
    yield made
    for box in made:
        await box.close()


def calls(folder: Path) -> list[str]:
    path = folder / "calls"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def starts(folder: Path) -> int:
    path = folder / "starts"
    return len(path.read_text().splitlines()) if path.exists() else 0


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def gone(pid: int) -> bool:
    return not alive(pid)


async def test_a_server_is_started_once_and_only_when_it_is_used(
    tmp_path: Path, boxes: list[McpToolbox]
) -> None:
    box = toolbox(stdio(tmp_path))
    boxes.append(box)
    assert [one.state for one in box.health()] == ["idle"]
    assert starts(tmp_path) == 0
    await asyncio.gather(*(box.tools(CONTEXT) for _ in range(5)))
    assert starts(tmp_path) == 1
    [health] = box.health()
    assert (health.state, health.about) == ("running", "fake 1.2")
    assert health.tools is not None
    assert "fake__add" in health.tools


async def test_a_server_is_not_started_for_a_caller_without_a_use_for_it(tmp_path: Path) -> None:
    box = toolbox(stdio(tmp_path), wanted=lambda context, server: False)
    assert await box.tools(CONTEXT) == ()
    assert await call(box, "add", ADD) == ToolResult("There is no tool 'fake__add'.", True)
    assert starts(tmp_path) == 0


async def test_the_tools_allowed_and_not_denied_are_offered(
    tmp_path: Path, boxes: list[McpToolbox]
) -> None:
    box = toolbox(replace(stdio(tmp_path), allow=("add", "store", "d*"), deny=("sto*",)))
    boxes.append(box)
    assert {spec.name for spec in await box.tools(CONTEXT)} == {"fake__add", "fake__die"}
    assert await call(box, "fail") == ToolResult("There is no tool 'fake__fail'.", True)


async def test_tools_that_cannot_be_used_are_left_out_and_named(
    tmp_path: Path, boxes: list[McpToolbox], caplog: pytest.LogCaptureFixture
) -> None:
    box = toolbox(stdio(tmp_path, "--broken"))
    boxes.append(box)

    for _ in range(2):
        assert [spec.name for spec in await box.tools(CONTEXT)] == ["fake__add"]
    await box.probe("fake")

    (health,) = box.health()
    assert health.tools == ("fake__add",)
    assert list(health.left_out) == [" ", "odd"]
    assert health.described()["leftOut"] == {
        " ": "it has no name",
        "odd": "its parameters are no JSON Schema, at properties.a.type",
    }
    noted = [record for record in caplog.records if "are left out" in record.message]
    assert [record.__dict__["server"] for record in noted] == ["fake"]


async def test_a_call_is_not_repeated_when_the_server_dies_in_it(
    tmp_path: Path, boxes: list[McpToolbox]
) -> None:
    box = toolbox(stdio(tmp_path))
    boxes.append(box)
    result = await call(box, "die")
    assert result.is_error
    assert "not known whether the call had an effect" in result.text
    assert calls(tmp_path) == ["die"]
    assert not (await call(box, "add", ADD)).is_error
    assert (calls(tmp_path), starts(tmp_path)) == (["die", "add"], 2)


async def test_calls_beside_one_that_ends_the_server_fail_too(
    tmp_path: Path, boxes: list[McpToolbox]
) -> None:
    box = toolbox(stdio(tmp_path))
    boxes.append(box)
    async with aclosing(box.run(CONTEXT, tool_call("hang"), key="k")) as hanging:
        assert await anext(hanging) == ToolOutput("working")
        await call(box, "die")
        result = await anext(hanging)
    assert isinstance(result, ToolResult)
    assert result.is_error


async def test_a_server_that_died_while_idle_is_started_again_by_the_next_call(
    tmp_path: Path, boxes: list[McpToolbox]
) -> None:
    box = toolbox(stdio(tmp_path))
    boxes.append(box)
    await box.tools(CONTEXT)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)

    async def is_idle() -> bool:
        return box.health()[0].state == "idle"

    await until(is_idle)
    assert "fake__add" in {spec.name for spec in await box.tools(CONTEXT)}
    assert starts(tmp_path) == 1
    assert not (await call(box, "add", ADD)).is_error
    assert starts(tmp_path) == 2


async def test_a_failed_start_makes_the_next_one_wait(
    tmp_path: Path, boxes: list[McpToolbox], caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    settings = stdio(tmp_path, "--fail")
    box = toolbox(replace(settings, env=(("API_KEY", Secret("hunter2-hunter2")),)), monotonic=clock)
    boxes.append(box)
    for seconds, expected in ((0.0, 1), (0.9, 1), (0.2, 2), (1.9, 2), (0.2, 3)):
        clock.now += seconds
        with pytest.raises(ServerUnavailable, match=r"no licence for \*\*\*"):
            await box.probe("fake")
        assert starts(tmp_path) == expected
    assert await box.tools(CONTEXT) == ()
    [health] = box.health()
    assert health.state == "failed"
    assert "no licence for ***" in health.problem
    assert "hunter2" not in caplog.text + str([record.__dict__ for record in caplog.records])


@pytest.mark.both_loops
async def test_closing_the_stream_cancels_the_call_on_the_server(
    tmp_path: Path, boxes: list[McpToolbox]
) -> None:
    box = toolbox(stdio(tmp_path))
    boxes.append(box)
    async with aclosing(box.run(CONTEXT, tool_call("hang"), key="k")) as stream:
        assert await anext(stream) == ToolOutput("working")

    async def is_cancelled() -> bool:
        return calls(tmp_path) == ["hang begun", "hang cancelled"]

    await until(is_cancelled)
    assert not (await call(box, "add", ADD)).is_error
    assert starts(tmp_path) == 1


async def test_a_call_without_an_answer_ends_after_the_request_timeout(
    tmp_path: Path, boxes: list[McpToolbox]
) -> None:
    box = toolbox(replace(stdio(tmp_path), request_timeout=2.0))
    boxes.append(box)
    result = await call(box, "hang")
    assert result.is_error
    assert "did not answer within 2 seconds" in result.text


async def test_a_hanging_server_delays_no_other(tmp_path: Path, boxes: list[McpToolbox]) -> None:
    """Each list is waited for once; a server that never answers is not in the way after that."""
    hanging, working = tmp_path / "a", tmp_path / "b"
    hanging.mkdir()
    working.mkdir()
    slow = stdio(hanging, "--hang", name="slow")
    box = toolbox(slow, stdio(working), patience=20.0)
    quick = toolbox(slow, stdio(working), patience=0.0)
    boxes += [box, quick]
    assert await quick.tools(CONTEXT) == ()
    assert not (await call(quick, "add", ADD)).is_error
    assert {spec.name.split("__")[0] for spec in await quick.tools(CONTEXT)} == {"fake"}
    assert [one.state for one in quick.health()] == ["starting", "running"]


async def test_a_server_that_does_not_list_its_tools_delays_no_other(
    tmp_path: Path, boxes: list[McpToolbox]
) -> None:
    slow, working = tmp_path / "a", tmp_path / "b"
    slow.mkdir()
    working.mkdir()
    settings = replace(stdio(slow, "--hang-list", name="slow"), request_timeout=2.0)
    box = toolbox(settings, stdio(working), patience=0.0)
    boxes.append(box)

    async def works() -> bool:
        return "fake__add" in {spec.name for spec in await box.tools(CONTEXT)}

    await until(works)

    async def gave_up() -> bool:
        return "did not list its tools" in box.health()[0].problem

    await until(gave_up)


async def test_the_last_list_is_offered_while_the_server_is_down(
    tmp_path: Path, boxes: list[McpToolbox]
) -> None:
    box = toolbox(stdio(tmp_path))
    boxes.append(box)
    before = await box.tools(CONTEXT)
    await call(box, "die")
    assert await box.tools(CONTEXT) == before
    assert starts(tmp_path) == 1


async def test_a_start_without_an_answer_ends_after_the_connection_timeout(
    tmp_path: Path, boxes: list[McpToolbox]
) -> None:
    box = toolbox(replace(stdio(tmp_path, "--hang"), connection_timeout=3.0))
    boxes.append(box)
    with pytest.raises(ServerUnavailable, match="not ready within 3 seconds"):
        await box.probe("fake")
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: gone(pid))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"command": "no-such-program"}, "no program 'no-such-program'"),
        ({"cwd": "/no/such/folder"}, "cannot be started in /no/such/folder"),
        ({"command": "", "url": "http://127.0.0.1:9/mcp"}, "Connect"),
    ],
)
async def test_a_server_that_cannot_be_started_says_why(
    tmp_path: Path, boxes: list[McpToolbox], change: dict[str, str], problem: str
) -> None:
    box = toolbox(replace(stdio(tmp_path), **change))  # type: ignore[arg-type]
    boxes.append(box)
    with pytest.raises(ServerUnavailable, match=problem):
        await box.probe("fake")
    assert problem in box.health()[0].problem
    result = await call(box, "add", ADD)
    assert result == ToolResult("There is no tool 'fake__add'.", True)


async def test_only_listed_and_configured_variables_reach_the_server(
    tmp_path: Path, boxes: list[McpToolbox]
) -> None:
    settings = replace(stdio(tmp_path), env=(("API_KEY", Secret("hunter2")),))
    environ = {"PATH": os.environ["PATH"], "OPENAI_API_KEY": "sk-secret", "HOME": "/home/x"}
    box = McpToolbox(CurrentServers(settings), environ, Bubblewrap(environ))
    boxes.append(box)
    text = (await call(box, "environment")).text
    assert "API_KEY=hunter2" in text
    assert "HOME=/home/x" in text
    assert "sk-secret" not in text


@pytest.mark.both_loops
async def test_closing_ends_the_server_and_what_it_left_behind(tmp_path: Path) -> None:
    box = toolbox(stdio(tmp_path, "--stubborn"))
    result = await call(box, "fork")
    child = int(result.text.splitlines()[2])
    server = int((tmp_path / "pid").read_text())
    assert alive(child)
    await box.close()
    assert not alive(server)
    await until(lambda: gone(child))
    await box.close()


async def test_a_changed_server_is_ended_and_started_anew(
    tmp_path: Path, boxes: list[McpToolbox]
) -> None:
    current = CurrentServers(stdio(tmp_path))
    box = McpToolbox(current, os.environ, Bubblewrap(os.environ))
    boxes.append(box)
    await call(box, "add", ADD)
    first = int((tmp_path / "pid").read_text())
    current.use(stdio(tmp_path))
    await call(box, "add", ADD)
    assert starts(tmp_path) == 1
    current.use(replace(stdio(tmp_path), env=(("A", Secret("b")),)))
    await call(box, "add", ADD)
    assert starts(tmp_path) == 2
    await until(lambda: gone(first))
    current.use(replace(stdio(tmp_path), enabled=False))
    assert await box.tools(CONTEXT) == ()
    assert [one.state for one in box.health()] == ["disabled"]


@pytest.mark.skipif(sys.platform != "linux", reason="The kernel of Linux ends the server.")
async def test_a_server_ends_with_a_gateway_that_was_killed(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from tests.mcp.servers import *\n"
        "async def main():\n"
        "    box = toolbox(stdio(Path(sys.argv[1]), '--stubborn'))\n"
        "    await box.tools(CONTEXT)\n"
        "    print('ready', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    gateway = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), cwd=PROJECT, stdout=asyncio.subprocess.PIPE
    )
    assert gateway.stdout is not None
    assert await gateway.stdout.readline() == b"ready\n"
    server = int((tmp_path / "pid").read_text())
    gateway.kill()
    await gateway.wait()
    await until(lambda: gone(server))


async def test_a_server_over_http_is_reached_again_after_it_was_restarted(
    tmp_path: Path, boxes: list[McpToolbox]
) -> None:
    port = free_port()
    async with http_server(tmp_path, port=port) as settings:
        box = toolbox(settings)
        boxes.append(box)
        assert (await call(box, "die")).is_error
        assert calls(tmp_path) == ["die"]
    async with http_server(tmp_path, port=port):

        async def answers() -> bool:
            return not (await call(box, "add", ADD)).is_error

        await until(answers)
    assert calls(tmp_path) == ["die", "add"]


@pytest.mark.e2e
async def test_a_server_over_http_that_was_restarted_while_idle_gets_the_next_call(
    tmp_path: Path, boxes: list[McpToolbox]
) -> None:
    port = free_port()
    async with http_server(tmp_path, port=port) as settings:
        box = toolbox(settings)
        boxes.append(box)
        await box.tools(CONTEXT)

    async def is_idle() -> bool:
        return box.health()[0].state == "idle"

    await until(is_idle)
    async with http_server(tmp_path, port=port):
        assert not (await call(box, "add", ADD)).is_error


@pytest.mark.parametrize("sse", [False, True])
async def test_headers_are_sent_and_no_problem_shows_them(
    boxes: list[McpToolbox], sse: bool
) -> None:
    received: asyncio.Queue[bytes] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.put_nowait(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        settings = replace(
            stdio(Path()),
            command="",
            sse=sse,
            url=f"http://127.0.0.1:{port}/mcp?key=sesame",
            headers=(("Authorization", Secret("Bearer hunter2")),),
        )
        box = toolbox(settings)
        boxes.append(box)
        with pytest.raises(ServerUnavailable):
            await box.probe("fake")
        assert b"authorization: bearer hunter2" in (await received.get()).lower()
    problem = box.health()[0].problem
    assert "401 Unauthorized" in problem
    assert "sesame" not in problem
    assert "hunter2" not in problem

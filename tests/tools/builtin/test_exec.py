"""`exec`: what a command gets, what is kept of its output, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensoul.adapters.tools.builtin import exec  # noqa: A004 - the name of the tool
from opensoul.adapters.tools.builtin.exec import HEAD, LIVE, TAIL
from opensoul.adapters.tools.builtin.exec_child import Output
from opensoul.domain.messages import ToolCall
from opensoul.domain.tools import ToolOutput, ToolResult
from tests.tools.builtin.calls import Caller, caller

ENV = {"PATH": os.environ["PATH"], "HOME": "/home/somebody", "LANG": "C.UTF-8"}
SECRETS = {
    "OPENSOUL_GATEWAY_TOKEN": "leaked",
    "OPENAI_API_KEY": "leaked",
    "AWS_SECRET_ACCESS_KEY": "leaked",
    "LD_PRELOAD": "/leaked.so",
    "PYTHONPATH": "/leaked",
    "BASH_ENV": "/leaked",
    "SSH_AUTH_SOCK": "/leaked",
    "https_proxy": "http://user:leaked@proxy",
}
ROOT = Path(__file__).parents[3]
LONG = 600
"""Seconds that a process of a test would live if nothing ended it."""


@pytest.fixture
def shell(tmp_path: Path) -> Caller:
    return caller(tmp_path, {**ENV, **SECRETS})


def running(pid: int) -> bool:
    """Whether a process exists and is not only waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def pids(workspace: Path) -> list[int]:
    return [int(line) for line in (workspace / "pids").read_text().split()]


def left_in(workspace: Path) -> list[int]:
    """The processes that run in a workspace. Looks several times, because a process that forks and
    exits all the time may be missed."""
    found = set()
    for _ in range(20):
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (path / "cwd").readlink().is_relative_to(workspace) and running(int(path.name)):
                    found.add(int(path.name))
    return sorted(found)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - there is no event for processes of others
            await asyncio.sleep(0.01)


async def begun(stream: AsyncGenerator[ToolOutput | ToolResult], word: str) -> None:
    """Read the stream until a command has printed the word."""
    text = ""
    while word not in text:
        output = await anext(stream)
        assert isinstance(output, ToolOutput), output
        text += output.text


def stream_of(shell: Caller, command: str) -> AsyncGenerator[ToolOutput | ToolResult]:
    call = ToolCall("c1", "exec", json.dumps({"command": command}))
    return shell.toolbox.run(shell.context, call, key="run:1:c1")


async def test_a_command_runs_in_the_workspace(shell: Caller) -> None:
    assert await shell.text("exec", command="pwd; echo err >&2") == f"{shell.workspace}\nerr\n"


async def test_a_command_runs_in_a_folder_of_the_workspace(shell: Caller) -> None:
    await shell.text("write", path="sub/x", content="")

    text = await shell.text("exec", command="pwd", workdir="sub")

    assert text == f"{shell.workspace}/sub\n"


async def test_a_command_without_output_is_named_so(shell: Caller) -> None:
    assert await shell.text("exec", command="true") == "[no output]"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("echo no; exit 3", "no\n[exit code 3]"),
        ("printf no; false", "no\n[exit code 1]"),
        ("kill -9 $$", "[ended by signal 9]"),
        ("no_such_program 2>/dev/null", "[exit code 127]"),
    ],
)
async def test_a_command_that_fails_is_an_error_with_its_output(
    shell: Caller, command: str, expected: str
) -> None:
    assert await shell.error("exec", command=command) == expected


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"command": ""}, "command: "),
        ({"command": "a\0b"}, "NUL"),
        ({"command": "true", "timeout": 0}, "timeout: "),
        ({"command": "true", "timeout": 100_000}, "timeout: "),
        ({"command": "true", "workdir": "gone"}, "gone: no such file or directory."),
        ({"command": "true", "workdir": "/"}, "out of the workspace"),
        ({"command": "#" + "x" * 200_000}, "cannot be run: Argument list too long"),
    ],
)
async def test_a_command_that_cannot_be_run_is_an_error(
    shell: Caller, arguments: dict[str, object], problem: str
) -> None:
    assert problem in await shell.error("exec", **arguments)


@pytest.mark.both_loops
async def test_a_command_gets_the_allowed_variables_only(shell: Caller) -> None:
    """Nor do the processes above it, up to the Gateway, hold any other."""
    text = await shell.text("exec", command="env -0 | tr '\\0' '\\n'; cat /proc/$PPID/environ")

    assert "leaked" not in text
    names = {line.partition("=")[0] for line in text.split("\0")[0].splitlines()}
    assert {"HOME", "PATH", "LANG"} <= names
    assert names.isdisjoint(SECRETS)


@pytest.mark.both_loops
async def test_a_command_gets_no_open_file_of_the_gateway(shell: Caller, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("leaked")
    secret = os.open(tmp_path / "secret", os.O_RDONLY)
    os.set_inheritable(secret, True)

    text = await shell.text("exec", command="ls -l /proc/self/fd")

    os.close(secret)
    assert "secret" not in text
    # Its three standard files, and the directory that `ls` lists.
    assert len([line for line in text.splitlines() if " -> " in line]) == 4


@pytest.mark.both_loops
async def test_a_command_has_the_signals_of_a_new_process(shell: Caller) -> None:
    """Python ignores SIGPIPE, and an ignored signal would stay ignored."""
    text = await shell.text("exec", command="grep -E 'Sig(Blk|Ign)' /proc/self/status")

    masks = [int(word, 16) for word in text.split() if not word.endswith(":")]
    # The C library has two signals of its own, which a program cannot set.
    settable = sum(1 << (number - 1) for number in signal.valid_signals())
    assert [mask & settable for mask in masks] == [0, 0]


@pytest.mark.both_loops
async def test_output_is_shown_while_the_command_runs(shell: Caller) -> None:
    stream = stream_of(shell, "echo begun; read < go; echo done")
    shell.workspace.mkdir()
    os.mkfifo(shell.workspace / "go")
    async with aclosing(stream):
        await begun(stream, "begun")
        await asyncio.to_thread((shell.workspace / "go").write_text, "\n")
        outputs = [output async for output in stream]

    assert outputs[-1] == ToolResult("begun\ndone\n")


@pytest.mark.both_loops
async def test_of_100_megabytes_the_beginning_and_the_end_are_kept(shell: Caller) -> None:
    command = "echo first; head -c 100000000 /dev/zero | tr '\\0' x; echo last"

    outputs = await shell.outputs("exec", command=command)

    shown = sum(len(output.text) for output in outputs if isinstance(output, ToolOutput))
    assert shown <= LIVE
    text = outputs[-1].text
    assert text.startswith("first\nxxx")
    assert text.endswith("xxxlast\n")
    left_out = 100_000_011 - HEAD - TAIL
    assert text[HEAD : HEAD + 60].startswith(f"\n[{left_out} bytes of output are left out]\n")
    assert len(text) < HEAD + TAIL + 100


@given(
    chunks=st.lists(st.binary(max_size=30), max_size=30),
    head=st.integers(0, 20),
    tail=st.integers(0, 20),
    live=st.integers(0, 20),
)
def test_of_any_output_the_beginning_and_the_end_are_kept(
    chunks: list[bytes], head: int, tail: int, live: int
) -> None:
    sent: list[tuple[bytes, bytes]] = []
    output = Output(head, tail, live, lambda kind, data: sent.append((kind, data)))
    for chunk in chunks:
        output.add(chunk)
        if output.due is not None:
            output.send_piece()

    omitted = output.send_all()

    whole = b"".join(chunks)
    kept = {kind: data for kind, data in sent if kind != b"o"}
    assert b"".join(data for kind, data in sent if kind == b"o") == whole[:live]
    assert kept[b"h"] == whole[:head]
    assert len(kept[b"h"]) + omitted + len(kept[b"t"]) == len(whole)
    assert whole.endswith(kept[b"t"])
    assert len(kept[b"t"]) == min(tail, max(0, len(whole) - head))


async def test_a_cut_in_the_middle_of_a_character_is_no_failure(shell: Caller) -> None:
    (shell.workspace).mkdir()
    (shell.workspace / "text").write_text("x" + "ü" * 200_000)

    text = await shell.text("exec", command="cat text")

    assert set(text.partition("\n[")[0]) == {"x", "ü", "\ufffd"}


HANGING = {
    "waits": f"sleep {LONG}",
    "ignores signals": f"trap '' TERM INT HUP; sleep {LONG}; sleep {LONG}",
    "closed its output": f"exec >/dev/null 2>&1; sleep {LONG}",
    "child in the background": f"sleep {LONG} & wait",
    "child in a session of its own": f"setsid sleep {LONG} & wait",
    "daemon": f"(setsid sh -c 'setsid sleep {LONG} &' &) ; sleep {LONG}",
    "stopped": "kill -STOP $$",
    "prints for ever": "yes",
}


@pytest.mark.parametrize("command", HANGING.values(), ids=HANGING)
async def test_a_command_that_hangs_is_ended_at_its_time_limit(shell: Caller, command: str) -> None:
    text = await shell.error("exec", command=f"echo $$ > pids; {command}", timeout=1)

    assert text.endswith("[ended after 1 seconds, the time limit of this call]")
    assert len(pids(shell.workspace)) == 1
    assert left_in(shell.workspace) == []


# Each writes the ids of its processes to `pids`.
FORKING = {
    "background": f"sleep {LONG} & echo $! >> pids; sleep {LONG} & echo $! >> pids",
    "session": f"setsid sh -c 'echo $$ >> pids; sleep {LONG}' &",
    "orphan": f"(sh -c 'echo $$ >> pids; sleep {LONG}' &)",
    "daemon": f"setsid sh -c 'setsid sh -c \"echo \\$\\$ >> pids; sleep {LONG}\" & ' & wait",
    "ignores signals": f"nohup setsid sh -c 'trap \"\" TERM; echo $$ >> pids; sleep {LONG}' &",
    "tree": (
        "for i in 1 2 3 4; do (for j in 1 2 3 4; do "
        f"setsid sh -c 'echo $$ >> pids; sleep {LONG}' & done; sleep {LONG}) & done"
    ),
    "clean environment": f"setsid env -i sh -c 'echo $$ >> pids; sleep {LONG}' &",
}
EXPECTED = {"background": 2, "tree": 16}


@pytest.mark.both_loops
@pytest.mark.parametrize("kind", FORKING)
@pytest.mark.parametrize("ending", ["exits", "aborted", "cancelled"])
async def test_all_processes_of_a_command_end_with_it(
    shell: Caller, kind: str, ending: str
) -> None:
    count = EXPECTED.get(kind, 1)
    # The shell waits for its children to write their ids.
    command = f"{FORKING[kind]}\nuntil [ $(wc -l < pids) = {count} ]; do sleep 0.01; done\n"
    command = f": > pids; {command}"
    if ending == "exits":
        await shell.text("exec", command=command)
    else:
        stream = stream_of(shell, f"{command} echo begun; sleep {LONG}")
        await begun(stream, "begun")
        if ending == "aborted":
            await stream.aclose()
        else:
            task = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    assert len(pids(shell.workspace)) == count
    assert left_in(shell.workspace) == []


async def test_a_bomb_that_forks_into_new_sessions_is_ended(shell: Caller) -> None:
    """Each process starts the next one in a session of its own and exits: no id lives long."""
    (shell.workspace).mkdir()
    (shell.workspace / "bomb.py").write_text(
        "import os\n"
        "while True:\n"
        "    if os.fork():\n"
        "        os._exit(0)\n"
        "    os.setsid()\n"
        "    with open('generations', 'a') as file:\n"
        "        file.write('.')\n"
    )
    bomb = f"{sys.executable} -I -S bomb.py"
    command = (
        f": > generations; {bomb} & {bomb} & {bomb} &\n"
        "until [ $(wc -c < generations) -gt 100 ]; do sleep 0.01; done"
    )

    await shell.text("exec", command=command)

    generations = (shell.workspace / "generations").stat().st_size
    assert left_in(shell.workspace) == []
    assert (shell.workspace / "generations").stat().st_size == generations > 100


@pytest.mark.both_loops
async def test_a_command_that_kills_the_process_that_ran_it_is_ended_too(shell: Caller) -> None:
    command = (
        f"setsid sh -c 'echo $$ >> pids; sleep {LONG}' &\n"
        "until [ -s pids ]; do sleep 0.01; done; echo $$ >> pids\n"
        f"kill -9 $PPID; sleep {LONG}"
    )

    text = await shell.error("exec", command=command)

    assert text == "[the command ended the process that ran it]"
    assert len(pids(shell.workspace)) == 2
    assert left_in(shell.workspace) == []


async def test_a_command_that_stops_the_process_that_runs_it_is_ended_too(
    shell: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exec, "_GRACE", 0.2)
    command = f"{FORKING['session']} echo $$ >> pids; kill -STOP $PPID; sleep {LONG}"

    text = await shell.error("exec", command=command, timeout=1)

    assert text == "[the command ended the process that ran it]"
    assert len(pids(shell.workspace)) == 2
    assert left_in(shell.workspace) == []


async def test_a_command_ends_when_the_gateway_dies(tmp_path: Path) -> None:
    """With `kill -9`, that is: nothing of the Gateway is left to end it."""
    program = tmp_path / "gateway.py"
    program.write_text(
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tests.tools.builtin.calls import caller\n"
        "shell = caller(Path(sys.argv[1]))\n"
        "asyncio.run(shell.text('exec', command=sys.argv[2]))\n"
    )
    command = f"echo $$ >> pids; {FORKING['session']} sleep {LONG}"
    gateway = await asyncio.create_subprocess_exec(
        sys.executable,
        str(program),
        str(tmp_path),
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    workspace = tmp_path / "workspace"
    await until(lambda: (workspace / "pids").exists() and len(pids(workspace)) == 2)
    assert left_in(workspace)

    gateway.send_signal(signal.SIGKILL)
    await gateway.wait()

    await until(lambda: not left_in(workspace))


@pytest.mark.both_loops
async def test_commands_at_the_same_time_do_not_end_one_another(shell: Caller) -> None:
    texts = await asyncio.gather(
        *(shell.text("exec", command=f"sleep 0.0{number}; echo {number}") for number in range(8))
    )

    assert texts == [f"{number}\n" for number in range(8)]

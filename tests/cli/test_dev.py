"""`opensoul dev`: a process that serves one agent and follows its code."""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from opensoul.app.cli.development.watching import Served, configuration
from tests.e2e.process import OPENSOUL
from tests.test_architecture import ROOT

from .command import Home

LIMIT = 60.0
"""Seconds until a test is given up."""
FIRST = 'async def agent(run):\n    yield f"first: {run.text}"\n'
SECOND = 'async def agent(run):\n    yield f"second: {run.text}"\n'


class Development:
    """`opensoul dev` in a folder, and what it prints."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.lines: list[str] = []
        self._new: queue.Queue[str | None] = queue.Queue()
        self._process = subprocess.Popen(
            [OPENSOUL, "dev", *arguments],
            cwd=folder,
            env={
                **os.environ,
                "HOME": str(folder),
                "TMPDIR": str(folder),
                # Of a node on the same machine: a state of its own needs no database.
                "OPENSOUL_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                self._new.put(line)
        self._new.put(None)

    def until(self, text: str) -> str:
        """The next line with the text."""
        while True:
            line = self._new.get(timeout=LIMIT)
            assert line is not None, f"{text!r} was not printed:\n{''.join(self.lines)}"
            self.lines.append(line)
            if text in line:
                return line

    def end(self, number: int) -> int:
        self._process.send_signal(number)
        code = self._process.wait(LIMIT)
        self._reader.join(LIMIT)
        return code

    def kill(self) -> None:
        if self._process.poll() is None:
            self.end(signal.SIGTERM)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "desk.py").write_text(FIRST)
    return tmp_path


@pytest.fixture
def running(folder: Path) -> Iterator[Development]:
    started = Development(folder, "desk:agent", "--port", "0")
    try:
        yield started
    finally:
        started.kill()


def asked(command: str) -> str:
    """What the printed command prints."""
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
def test_the_printed_command_works_and_the_code_is_followed(
    running: Development, folder: Path
) -> None:
    command = running.until("curl -N").strip()
    assert running.until("is ready") == "desk:agent is ready: an async generator function\n"
    assert '"content":"first: Say hello in one sentence."' in asked(command)

    (folder / "desk.py").write_text("def agent(run:\n    pass\n")
    running.until("Changed: desk.py.")
    running.until('desk.py", line 1')
    running.until("desk:agent cannot be used")
    assert "cannot be loaded" in asked(command)

    (folder / "desk.py").write_text(SECOND)
    running.until("Changed: desk.py.")
    running.until("desk:agent is ready")
    assert '"content":"second: Say hello in one sentence."' in asked(command)

    assert running.end(signal.SIGINT) == 0
    assert sorted(path.name for path in folder.iterdir() if "opensoul" in path.name) == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
def test_the_agent_of_the_readme_is_served_as_printed(tmp_path: Path) -> None:
    page = (ROOT / "README.md").read_text("utf-8")
    section = page.partition("## Your own Python agent in one command")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (name,) = re.findall(r"put this into `(.*?)`", section)
    (arguments,) = re.findall(r"\$ opensoul dev (.*)", section)
    (tmp_path / name).write_text(code)

    started = Development(tmp_path, *arguments.split(), "--port", "0")
    try:
        command = started.until("curl -N").strip()
        started.until("is ready")
        printed = asked(command)
    finally:
        started.kill()

    assert "Hello! You said: Say hello in one sentence." in printed
    assert "Messages before this one: 0" in printed
    assert printed.endswith("data: [DONE]\n\n")


@pytest.mark.e2e
def test_a_port_that_is_taken_ends_it(folder: Path, running: Development) -> None:
    address = running.until("is ready at").split()[-1]
    second = Development(folder, "desk:agent", "--port", address.rpartition(":")[2])
    try:
        assert "Choose another with --port" in second.until("Cannot listen")
        assert second.end(0) == 1
    finally:
        second.kill()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("desk",), "is no target. Write MODULE:TARGET"),
        (("desk:agent", "--path", "nowhere"), "There is no directory"),
    ],
)
def test_what_cannot_be_served_is_refused(home: Home, arguments: tuple[str, ...], why: str) -> None:
    refused = home.opensoul("dev", *arguments)
    assert refused.code == 1
    assert why in refused.err


@pytest.mark.parametrize(
    ("target", "agent_id"),
    [("desk:agent", "agent"), ("desk:Front.Desk_Agent", "desk-agent"), ("desk:_", "main")],
)
def test_the_agent_has_the_name_of_its_object(target: str, agent_id: str) -> None:
    config = configuration(Served(target, "/code", "process"))
    assert config["agents"] == {
        "list": [
            {
                "id": agent_id,
                "runner": {
                    "use": "python",
                    "target": target,
                    "path": "/code",
                    "isolation": "process",
                },
            }
        ]
    }

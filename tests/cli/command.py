"""Runs the command line in this process, in a home of its own, or as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from opensoul.adapters.config import Overrides
from opensoul.app.cli.root import run


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def json_error(self) -> Any:
        return json.loads(self.err)["error"]


@dataclass(slots=True)
class FakeServe:
    """Stands in for the server: records how it was started, and returns the exit code."""

    ends_with: int | BaseException = 0
    started: list[tuple[Overrides, bool]] = field(default_factory=list)

    def __call__(self, overrides: Overrides, print_example: bool) -> int:
        self.started.append((overrides, print_example))
        if isinstance(self.ends_with, BaseException):
            raise self.ends_with
        return self.ends_with


@dataclass(slots=True)
class Home:
    """A user's home directory, empty at first, in which commands run."""

    path: Path
    capsys: pytest.CaptureFixture[str]
    serve: FakeServe = field(default_factory=FakeServe)

    @property
    def state(self) -> Path:
        return self.path / "state"

    @property
    def config_file(self) -> Path:
        return self.state / "opensoul.json"

    def configure(self, text: str) -> Path:
        self.state.mkdir(exist_ok=True)
        self.config_file.write_text(text)
        return self.config_file

    def opensoul(self, *arguments: str) -> Outcome:
        self.capsys.readouterr()
        code = run(arguments, serve=self.serve)
        out, err = self.capsys.readouterr()
        return Outcome(code, out, err)


def process(*arguments: str) -> Outcome:
    """The same as a process of its own, in the environment of this one."""
    command = [sys.executable, "-m", "opensoul.app", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL
    )
    return Outcome(done.returncode, done.stdout, done.stderr)

"""The programs of the child processes, by what they read and write.

They are run as modules here, which coverage can measure, and as files by the tools.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from opensoul.adapters.tools import builtin

LONG = 600


@contextmanager
def started(
    program: str, request: dict[str, object], directory: Path
) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Standard input and output of a program that has got its request."""
    descriptor = os.open(directory, os.O_RDONLY)
    process = subprocess.Popen(
        [sys.executable, "-m", f"{builtin.__name__}.{program}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[descriptor],
        start_new_session=True,
    )
    os.close(descriptor)
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        line = json.dumps({"directory": descriptor, "seconds": LONG, **request}).encode()
        process.stdin.write(line + b"\n")
        process.stdin.flush()
        yield process.stdin, process.stdout


def answer(program: str, request: dict[str, object], directory: Path, data: bytes = b"") -> Any:
    with started(program, request, directory) as (stdin, stdout):
        stdin.write(data)
        stdin.close()
        return json.loads(stdout.read())


def frames(stdout: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    while header := stdout.read(5):
        yield header[:1], stdout.read(int.from_bytes(header[1:], "big"))


def shell(command: str, **more: object) -> dict[str, object]:
    return {"argv": ["/bin/sh", "-c", command], "head": 4, "tail": 3, "live": 6, **more}


@pytest.mark.parametrize(
    ("request_", "live", "head", "tail", "end"),
    [
        (shell("printf 0123456789"), b"012345", b"0123", b"789", (0, False, 3)),
        (shell("echo a; echo b >&2; exit 7"), b"a\nb\n", b"a\nb\n", b"", (7, False, 0)),
        (shell(f"setsid sleep {LONG} & (sleep {LONG} &)"), b"", b"", b"", (0, False, 0)),
        (
            shell(f"exec >&- 2>&-; sleep {LONG}", seconds=0.2),
            b"",
            b"",
            b"",
            (-signal.SIGKILL, True, 0),
        ),
    ],
)
def test_a_command_gives_frames_and_its_end(
    tmp_path: Path,
    request_: dict[str, object],
    live: bytes,
    head: bytes,
    tail: bytes,
    end: tuple[int, bool, int],
) -> None:
    with started("exec_child", request_, tmp_path) as (_, stdout):
        received = list(frames(stdout))

    pieces = b"".join(data for kind, data in received if kind == b"o")
    # What a command has printed just before its end is in the frames after it only.
    assert live.startswith(pieces)
    assert [kind for kind, _ in received if kind != b"o"] == [b"h", b"t", b"e"]
    kept = dict(received)
    assert (kept[b"h"], kept[b"t"]) == (head, tail)
    code, timeout, omitted = end
    assert json.loads(kept[b"e"]) == {"code": code, "timeout": timeout, "omitted": omitted}


def test_a_program_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    request = shell("", argv=["/no/such/shell"], head=100)
    with started("exec_child", request, tmp_path) as (_, stdout):
        kept = dict(frames(stdout))

    assert kept[b"h"] == b"/no/such/shell cannot be run: No such file or directory\n"
    assert json.loads(kept[b"e"])["code"] == 126


def test_a_command_ends_when_standard_input_is_closed(tmp_path: Path) -> None:
    with started("exec_child", shell(f"echo begun; sleep {LONG}"), tmp_path) as (stdin, stdout):
        assert next(frames(stdout)) == (b"o", b"begun\n")
        stdin.close()

        assert list(frames(stdout)) == []


def test_a_command_ends_when_nobody_reads_its_output(tmp_path: Path) -> None:
    command = f"trap '' PIPE; echo begun; while sleep 0.01; do echo on; done; sleep {LONG}"
    with started("exec_child", shell(command, live=10**6), tmp_path) as (_, stdout):
        assert next(frames(stdout)) == (b"o", b"begun\n")
        stdout.close()


def test_nothing_is_run_without_a_request(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"{builtin.__name__}.exec_child"],
        input=b"",
        capture_output=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (1, b"")


def searching(pattern: str, **more: object) -> dict[str, object]:
    limits = {"most": 2, "longest": 5, "largest": 100}
    return {"pattern": pattern, "glob": "", "prefix": "", **limits, **more}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (searching("x|y"), {"lines": ["c:1: y", "c:2: x"], "more": True, "skipped": 1}),
        (
            searching("x", prefix="p", glob="c"),
            {"lines": ["p/c:2: x"], "more": False, "skipped": 0},
        ),
        (searching("("), {"invalid": "missing ), unterminated subpattern at position 0"}),
    ],
)
def test_a_search_gives_lines(
    tmp_path: Path, request_: dict[str, object], expected: dict[str, object]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("xxxxxx")
    (tmp_path / "binary").write_bytes(b"x\0")
    (tmp_path / "c").write_text("y\nx")
    (tmp_path / "large").write_text("x" * 101)
    (tmp_path / "link").symlink_to("c")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x").write_text("x")
    os.mkfifo(tmp_path / "pipe")

    assert answer("search_child", request_, tmp_path) == expected


def test_a_page_gives_a_text(tmp_path: Path) -> None:
    request: dict[str, object] = {"kind": "html", "charset": "latin-1", "base": "", "longest": 4}

    assert answer("html_child", request, tmp_path, b"<p>\xe9t\xe9<p>x") == {
        "text": "été\n",
        "cut": True,
    }

"""The log file: its size, its successors, and what happens when it cannot be renamed."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from opensoul.adapters.system.logging.file import LogFile
from opensoul.adapters.system.logging.lines import formatter


class Reporting(LogFile):
    """Remembers the lines that were lost."""

    def __init__(self, path: Path, **more: int) -> None:
        super().__init__(path, **more)
        self.setFormatter(formatter("json", colours=False))
        self.lost: list[str] = []

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        self.lost.append(record.getMessage())

    def write(self, *texts: str) -> None:
        for text in texts:
            self.handle(logging.makeLogRecord({"msg": text, "name": "test", "levelno": 20}))


@contextmanager
def opened(path: Path, *, max_bytes: int, keep: int) -> Iterator[Reporting]:
    log = Reporting(path, max_bytes=max_bytes, keep=keep)
    try:
        yield log
    finally:
        log.close()


def messages(path: Path) -> list[str]:
    return [json.loads(line)["message"] for line in path.read_text().splitlines()]


def files(directory: Path) -> dict[str, list[str]]:
    return {path.name: messages(path) for path in sorted(directory.iterdir())}


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        (0, {"log": ["4"]}),
        (1, {"log": ["4"], "log.1": ["3"]}),
        (2, {"log": ["4"], "log.1": ["3"], "log.2": ["2"]}),
        (9, {"log": ["4"], "log.1": ["3"], "log.2": ["2"], "log.3": ["1"]}),
    ],
)
def test_a_full_file_is_renamed_and_so_many_are_kept(
    tmp_path: Path, keep: int, kept: dict[str, list[str]]
) -> None:
    with opened(tmp_path / "log", max_bytes=1, keep=keep) as log:
        log.write("1", "2", "3", "4")

    assert files(tmp_path) == kept
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_lines_are_never_divided_and_none_is_lost(tmp_path: Path) -> None:
    with opened(tmp_path / "log", max_bytes=1_000, keep=100) as log:
        log.write(*map(str, range(200)))

    written = sorted(int(text) for lines in files(tmp_path).values() for text in lines)
    assert written == list(range(200))
    assert max(path.stat().st_size for path in tmp_path.iterdir()) < 1_200


def test_a_file_that_is_full_at_the_start_is_renamed_before_the_first_line(tmp_path: Path) -> None:
    with opened(tmp_path / "log", max_bytes=10_000, keep=1) as log:
        log.write("x" * 20_000)
    with opened(tmp_path / "log", max_bytes=10_000, keep=1) as log:
        log.write("new")

    assert messages(tmp_path / "log") == ["new"]


def test_a_file_that_somebody_else_moved_or_removed_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with opened(path, max_bytes=10_000, keep=1) as log:
        log.write("1")
        path.rename(tmp_path / "moved")
        log.write("2")
        path.unlink()
        log.write("3")

    assert files(tmp_path) == {"log": ["3"], "moved": ["1"]}


def test_a_full_file_that_cannot_be_renamed_is_written_on_and_said_so_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log"
    (tmp_path / "log.1" / "in the way").mkdir(parents=True)
    with opened(path, max_bytes=1, keep=1) as log:
        log.write("1", "2", "3")
        assert log.lost == []

    assert messages(path) == ["1", "2", "3"]
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith("opensoul: cannot rename the full log file, logging continues in it: ")


def test_without_a_new_file_the_old_one_is_written_on(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    with opened(directory / "log", max_bytes=10_000, keep=1) as log:
        log.write("1")
        os.rename(directory, tmp_path / "elsewhere")
        log.write("2")
        assert log.lost == ["2"]
        os.rename(tmp_path / "elsewhere", directory)
        log.write("3")

    assert messages(directory / "log") == ["1", "3"]


def test_a_device_is_written_to_without_end(tmp_path: Path) -> None:
    with opened(Path(os.devnull), max_bytes=1, keep=1) as log:
        log.write("1", "2")
        assert log.lost == []
    assert not Path(f"{os.devnull}.1").exists()

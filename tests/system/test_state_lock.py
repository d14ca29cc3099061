"""A state directory has one owner at a time, and who comes second is told who that is."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from opensoul.adapters.system.files.state_lock import HOLDER_FILE, LOCK_FILE, StateLock, StateLocked
from tests.fakes.locks import held

ROOT = Path(__file__).parents[2]


@contextmanager
def other_process(state_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A real process that holds the lock; its child, which inherits its input, outlives it."""
    command = [sys.executable, "-m", "tests.system.lock_child", str(state_dir)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip().isdecimal()
        try:
            yield process
        finally:
            process.kill()


def refusal(state_dir: Path) -> StateLocked:
    with pytest.raises(StateLocked) as failure:
        StateLock(state_dir).acquire()
    return failure.value


def test_a_second_process_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    with other_process(tmp_path) as process:
        error = refusal(tmp_path)
        assert error.holder is not None
        assert error.holder.pid == process.pid
        assert f"in use by process {process.pid} on " in str(error)
        assert str(tmp_path) in str(error)
        assert ", since 20" in str(error)
        assert "serving 127.0.0.1:18789" in str(error)


@pytest.mark.parametrize("names", [[LOCK_FILE], [LOCK_FILE, HOLDER_FILE]])
def test_deleting_the_lock_file_lets_nobody_in(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "link").symlink_to("state")
    with other_process(tmp_path / "state") as process:
        for name in names:
            (tmp_path / "state" / name).unlink()
        for spelling in ("state", "link"):
            for _ in range(2):  # A refused attempt leaves a new lock file, which it does not hold.
                holder = refusal(tmp_path / spelling).holder
                assert (None if holder is None else holder.pid) == (
                    process.pid if HOLDER_FILE not in names else None
                )
    with held(StateLock(tmp_path / "state")):
        pass


def test_a_directory_that_is_moved_away_stays_locked_and_the_new_one_is_free(
    tmp_path: Path,
) -> None:
    with other_process(tmp_path / "state"):
        (tmp_path / "state").rename(tmp_path / "moved")
        with held(StateLock(tmp_path / "state")):
            refusal(tmp_path / "moved")


def test_two_gateways_cannot_share_the_directory_of_a_store(tmp_path: Path) -> None:
    stores = tmp_path / "stores"
    first = StateLock(tmp_path / "a", store_dirs=[stores, stores, tmp_path / "a"])
    second = StateLock(tmp_path / "b", store_dirs=[stores])
    with held(first):
        with pytest.raises(
            StateLocked, match=rf"{stores}, which holds the database of {tmp_path / 'b'},"
        ):
            second.acquire()
        refusal(stores)
        with held(StateLock(tmp_path / "b")):  # Nothing of the failed attempt is left.
            pass
    with held(second):
        refusal(tmp_path / "b")


def test_where_a_directory_cannot_be_locked_the_file_is_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, "a network file system")
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with held(StateLock(tmp_path)):
        refusal(tmp_path)


def test_a_killed_process_keeps_nobody_out(tmp_path: Path) -> None:
    with other_process(tmp_path) as process:
        process.kill()
        process.wait()
        assert json.loads((tmp_path / HOLDER_FILE).read_text())["pid"] == process.pid
        with held(StateLock(tmp_path)):
            error = refusal(tmp_path)
            assert error.holder is not None
            assert error.holder.pid == os.getpid()


def test_one_process_cannot_take_it_twice_and_can_after_giving_it_back(tmp_path: Path) -> None:
    first, second = StateLock(tmp_path, clock=lambda: 0.0), StateLock(tmp_path)
    first.acquire("here")
    with pytest.raises(StateLocked, match=r"since 1970-01-01 00:00:00\+00:00, serving here\."):
        second.acquire()
    second.release()
    with pytest.raises(StateLocked):
        second.acquire()
    first.release()
    first.release()
    assert not (tmp_path / HOLDER_FILE).exists()
    second.acquire()
    assert "serving" not in str(refusal(tmp_path))
    second.release()


def test_only_the_owner_may_read_what_the_lock_leaves(tmp_path: Path) -> None:
    state_dir = tmp_path / "a" / "b"
    with held(StateLock(state_dir)):
        assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
        for name in (LOCK_FILE, HOLDER_FILE):
            assert stat.S_IMODE((state_dir / name).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "note",
    [
        None,
        "",
        "\xff",
        "[]",
        '{"pid": 1}',
        '{"pid": "1", "host": "h", "since": "s", "address": "a"}',
        "{" * 10_000,
        "dead",
        "beyond all numbers",
    ],
)
def test_a_useless_note_makes_the_holder_nameless(tmp_path: Path, note: str | None) -> None:
    with held(StateLock(tmp_path)):
        path = tmp_path / HOLDER_FILE
        holder = json.loads(path.read_text())
        if note is None:
            path.unlink()
        elif note in ("dead", "beyond all numbers"):
            with subprocess.Popen([sys.executable, "-c", ""]) as dead:
                dead.wait()
            pid = dead.pid if note == "dead" else 10**30
            path.write_text(json.dumps(holder | {"pid": pid}))
        else:
            path.write_text(note, "latin-1")
        error = refusal(tmp_path)
        assert error.holder is None
        assert "in use by another process." in str(error)


def test_a_process_of_another_machine_is_named_unseen(tmp_path: Path) -> None:
    with held(StateLock(tmp_path)):
        path = tmp_path / HOLDER_FILE
        holder = json.loads(path.read_text())
        path.write_text(json.dumps(holder | {"host": "elsewhere.invalid", "pid": 10**30}))
        assert "on elsewhere.invalid" in str(refusal(tmp_path))


def test_a_process_of_another_user_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(pid: int, signal: int) -> None:
        raise PermissionError(f"{pid} is not yours")

    with held(StateLock(tmp_path)):
        monkeypatch.setattr(os, "kill", forbidden)
        assert refusal(tmp_path).holder is not None


def test_a_directory_that_cannot_be_is_the_systems_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        StateLock(tmp_path / "file" / "state").acquire()

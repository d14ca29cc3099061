"""The generated token: made once, private, replaced whole."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from opensoul.adapters.system.files.token import TokenFile, TokenFileInvalid


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_token_is_made_once_and_holds_256_bits(tmp_path: Path) -> None:
    token = TokenFile(tmp_path / "state").read_or_create()
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", token)
    assert TokenFile(tmp_path / "state").read_or_create() == token
    assert TokenFile(tmp_path / "other").read_or_create() != token


def test_only_the_owner_can_read_it_even_with_an_open_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        file = TokenFile(tmp_path / "state")
        file.read_or_create()
    finally:
        os.umask(old)
    assert file.path == tmp_path / "state" / "gateway-token"
    assert mode(file.path) == 0o600
    assert mode(tmp_path / "state") == 0o700


def test_rotating_replaces_it_and_keeps_it_private(tmp_path: Path) -> None:
    file = TokenFile(tmp_path)
    first = file.read_or_create()
    second = file.rotate()
    assert second != first
    assert file.read_or_create() == second
    assert mode(file.path) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["gateway-token"]


def test_rotating_works_before_there_is_a_token_and_mends_a_broken_one(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "state")
    first = file.rotate()
    file.path.write_text("")
    assert file.rotate() not in ("", first)


def test_who_comes_at_the_same_moment_gets_the_same_token(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from opensoul.adapters.system.files.token import TokenFile\n"
        "sys.stdout.write('ready\\n'); sys.stdout.flush(); sys.stdin.readline()\n"
        "print(TokenFile(Path(sys.argv[1])).read_or_create())\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "state")]
    crowd = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for one in crowd:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in crowd:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    tokens = {one.communicate(timeout=60)[0].strip() for one in crowd}
    assert tokens == {TokenFile(tmp_path / "state").read_or_create()}


def test_a_second_maker_reads_what_the_first_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = TokenFile(tmp_path)

    def overtaken(source: str, target: Path) -> None:
        Path(target).touch(mode=0o600)
        Path(target).write_text("theirs\n")
        raise FileExistsError(source, target)

    monkeypatch.setattr(os, "link", overtaken)
    assert file.read_or_create() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["gateway-token"]


def test_a_file_system_without_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted", source)

    monkeypatch.setattr(os, "link", refuse)
    file = TokenFile(tmp_path)
    token = file.read_or_create()
    assert len(token) == 43
    assert file.read_or_create() == token
    assert mode(file.path) == 0o600


def test_without_links_too_nobody_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(source: str, target: Path) -> None:
        Path(target).touch(mode=0o600)
        Path(target).write_text("theirs\n")
        raise PermissionError(1, "Operation not permitted", source)

    monkeypatch.setattr(os, "link", overtaken)
    assert TokenFile(tmp_path).read_or_create() == "theirs"


@pytest.mark.parametrize("rights", [0o640, 0o604, 0o660, 0o666])
def test_a_token_that_others_can_read_is_refused_with_the_way_out(
    tmp_path: Path, rights: int
) -> None:
    file = TokenFile(tmp_path)
    token = file.read_or_create()
    file.path.chmod(rights)
    with pytest.raises(TokenFileInvalid, match="chmod 600") as refusal:
        file.read_or_create()
    assert str(file.path) in str(refusal.value)
    assert token not in str(refusal.value)


@pytest.mark.parametrize("content", ["", "\n", "  \n\t"])
def test_an_empty_file_is_no_token(tmp_path: Path, content: str) -> None:
    file = TokenFile(tmp_path)
    file.path.touch(mode=0o600)
    file.path.write_text(content)
    with pytest.raises(TokenFileInvalid, match=r"is empty.*opensoul token rotate"):
        file.read_or_create()
    assert file.path.read_text() == content


@pytest.mark.parametrize("content", [b"two words\n", b"two\nlines\n", b"bell\x07", b"\xff\x00\xfe"])
def test_what_is_no_single_word_is_no_token(tmp_path: Path, content: bytes) -> None:
    file = TokenFile(tmp_path)
    file.path.touch(mode=0o600)
    file.path.write_bytes(content)
    with pytest.raises(TokenFileInvalid, match="does not hold one token"):
        file.read_or_create()


def test_a_token_of_the_operators_own_is_taken_as_it_is(tmp_path: Path) -> None:
    file = TokenFile(tmp_path)
    file.path.touch(mode=0o600)
    file.path.write_text("chosen-by-hand\r\n")
    assert file.read_or_create() == "chosen-by-hand"


def test_a_place_where_nothing_can_be_written_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file, no directory")
    with pytest.raises(OSError, match="state"):
        TokenFile(tmp_path / "state").read_or_create()

"""Commands whose standard streams are closed, full, broken or hold other bytes than UTF-8."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from opensoul.adapters.system.files.state_lock import StateLock
from tests.fakes.locks import held

from .command import Home
from .scripted import CONFIG

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell"),
]

OPENSOUL = [sys.executable, "-m", "opensoul.app"]
AS_NOBODY = """
import os, sys
os.setresuid(54_321, -1, -1)
os.environ.pop("HOME")
sys.argv = ["opensoul", *sys.argv[1:]]
from opensoul.app.cli import main
sys.exit(main())
"""
PATIENCE = 60
ECHO = "[scripted] You said: {}\n"
FULL = "No space left on device"

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def redirected(
    redirection: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command under a shell's redirection, with pipes in the place of the other streams."""
    script = f'exec "$@" {redirection}'
    return subprocess.run(
        ["sh", "-c", script, "sh", *OPENSOUL, *arguments],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize(
    ("redirection", "arguments", "code", "error"),
    [
        (">&-", "--version", 0, ""),
        (">&-", "agent -m hi --local", 0, ""),
        ("2>&-", "nonsense", 2, ""),
        ("<&-", "agent -m - --local", 2, "must not be empty"),
        ("<&-", "tui", 1, "needs a terminal"),
        ("<&- >&- 2>&-", "gateway status", 1, ""),
        pytest.param(">/dev/full", "--version", 1, FULL, marks=needs_full),
        pytest.param(">/dev/full", "config get gateway.port", 1, FULL, marks=needs_full),
        pytest.param("2>/dev/full", "nonsense", 2, "", marks=needs_full),
        pytest.param("2>/dev/full", "config get gateway.nonsense", 1, "", marks=needs_full),
        pytest.param(
            ">/dev/full 2>/dev/full",
            "agent -m hi --local",
            1,
            "",
            marks=[needs_full, pytest.mark.slow],
        ),
    ],
)
def test_no_stream_of_a_command_ends_it_in_a_traceback(
    home: Home, redirection: str, arguments: str, code: int, error: str
) -> None:
    home.configure(CONFIG)
    done = redirected(redirection, *arguments.split())
    assert (done.returncode, error in done.stderr) == (code, True)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "unexpected error" not in done.stderr


@pytest.mark.parametrize("arguments", [["--version"], ["config", "reference"]])
def test_a_reader_that_has_ended_is_no_error_to_report(home: Home, arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [*OPENSOUL, *arguments], stdout=write, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_closed_stream_is_not_the_next_file_that_is_opened(home: Home) -> None:
    """Or else what is printed there would be written into the store."""
    home.configure(CONFIG)
    done = redirected("<&- >&- 2>&-", "agent", "-m", "hi", "--local", "--verbose")
    assert done.returncode == 0
    for file in home.state.glob("*.sqlite3"):
        assert file.read_bytes().startswith(b"SQLite format 3\0")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_characters_that_the_output_does_not_have_are_shown_by_number(
    home: Home, encoding: str
) -> None:
    home.configure(CONFIG.replace('"id": "main"', '"id": "main", "name": "\U0001f980"'))
    done = redirected("", "config", "show", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\U0001f980" in done.stdout or "\U0001f980" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "typed", "complaint"),
    [
        (("agent", "-m", "-", "--local"), b"a\xffb", "(byte 0xff in position 1)"),
        (("agent", "-m", "-", "--local"), b"\xff\xfea\0", "(byte 0xff in position 0)"),
        (("agent", "-m", "-", "--local"), b"caf\xe9", "(byte 0xe9 in position 3)"),
        (("config", "set", "gateway.auth.token", "-"), b"\xc3", "(byte 0xc3 in position 0)"),
    ],
)
def test_bytes_on_standard_input_that_are_not_text_are_refused(
    home: Home,
    arguments: tuple[str, ...],
    typed: bytes,
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home.configure(CONFIG)
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(typed)))
    refused = home.opensoul(*arguments)
    assert refused.code == 2
    assert f"standard input is not UTF-8 text {complaint}" in refused.err
    assert "Traceback" not in refused.err


def test_a_byte_order_mark_and_line_breaks_of_windows_are_no_part_of_a_message(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.configure(CONFIG)
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(b"\xef\xbb\xbfgr\xc3\xbc\xc3\x9fe\r\n")))
    assert home.opensoul("agent", "-m", "-", "--local").out == ECHO.format("grüße")


@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        (("agent", "-m", "caf\udce9"), 3),
        (("--config", "\udcff", "status"), 2),
        (("gateway", "--token", "s3cret\udcff"), 3),
        (("\udcff",), 1),
    ],
)
def test_an_argument_that_is_not_text_is_refused_and_not_repeated(
    home: Home, arguments: tuple[str, ...], number: int
) -> None:
    refused = home.opensoul(*arguments)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == f"opensoul: Argument {number} is not UTF-8 text.\n"
    assert home.opensoul(*arguments, "--json").json_error["code"] == "usage"


def test_a_secret_of_other_bytes_ends_no_process_in_a_traceback(home: Home) -> None:
    command = [*map(os.fsencode, OPENSOUL), b"gateway", b"--token", b"s3cret\xff"]
    refused = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert refused.stderr == b"opensoul: Argument 3 is not UTF-8 text.\n"


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("OPENSOUL_GATEWAY_TOKEN", "environment OPENSOUL_GATEWAY_TOKEN: must not"),
        ("OPENSOUL_GATEWAY_PORT", "The environment variable OPENSOUL_GATEWAY_PORT is not UTF-8"),
        ("OPENSOUL_STATE_DIR", "The environment variable OPENSOUL_STATE_DIR is not UTF-8"),
        ("OPENSOUL_CONFIG_PATH", "The environment variable OPENSOUL_CONFIG_PATH is not UTF-8"),
        ("NAMED", "the environment variable NAMED is not UTF-8 text"),
    ],
)
def test_a_variable_that_is_not_text_is_named(
    home: Home, name: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.configure('{ agents: { defaults: { workspace: "${NAMED}" } } }')
    monkeypatch.setenv("NAMED", "somewhere")
    monkeypatch.setenv(name, "a\udcffb")
    refused = home.opensoul("config", "check")
    assert refused.code == 1
    assert complaint in refused.err
    assert "unexpected" not in refused.err


def test_a_variable_that_nothing_reads_may_hold_any_bytes(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.configure(CONFIG)
    monkeypatch.setenv("UNREAD", "\udcff")
    assert home.opensoul("config", "check").code == 0


def test_in_a_deleted_directory_absolute_paths_serve(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = home.configure(CONFIG)
    gone = home.path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert home.opensoul("config", "check", "--config", str(file)).code == 0
    assert home.opensoul("agent", "-m", "hi", "--local").code == 0
    refused = home.opensoul("config", "check", "--config", "relative.json5")
    assert refused.code == 1
    assert "relative.json5 starts at the current directory, which has been deleted" in refused.err


@pytest.mark.e2e
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_a_user_without_a_home_needs_a_state_directory(home: Home) -> None:
    home.configure(CONFIG)
    command = [sys.executable, "-c", AS_NOBODY, "agent", "-m", "hi", "--local"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (asked.returncode, asked.stdout) == (0, ECHO.format("hi"))
    bare = {name: value for name, value in os.environ.items() if name != "OPENSOUL_STATE_DIR"}
    asked = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=PATIENCE, env=bare
    )
    assert asked.returncode == 1
    assert asked.stderr == (
        "opensoul: The state directory is in the home directory, and the user has none: HOME is "
        "not set and there is no passwd entry. Set HOME, or set OPENSOUL_STATE_DIR to an absolute "
        "path.\n"
    )


@pytest.mark.e2e
@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGHUP, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_a_local_run_is_stopped_before_its_process_ends(home: Home, number: int) -> None:
    home.configure(CONFIG)
    command = [*OPENSOUL, "agent", "-m", "hi", "--local", "--agent", "slow", "--stream"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as asked:
        try:
            assert asked.stdout is not None
            assert asked.stdout.read(4) == b"[scr"
            asked.send_signal(number)
            _, err = asked.communicate(timeout=PATIENCE)
        finally:
            asked.kill()
    assert (asked.returncode, err) == (130, b"opensoul: aborted\n")
    assert not (home.state / "gateway.holder.json").exists()
    with held(StateLock(home.state)):
        pass

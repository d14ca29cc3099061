"""`opensoul gateway`: what its options say, how it ends, and what it keeps to itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from opensoul.adapters.config import ConfigInvalid, Issue, Overrides
from opensoul.adapters.system.files.state_lock import StateLocked
from opensoul.app.cli.remote.secrets import masked_arguments
from opensoul.app.plugins import PluginInvalid, PluginMissing
from opensoul.app.server.host import PortTaken, TlsUnusable
from opensoul.domain.errors import StoreFailed
from opensoul.domain.models.calls import Secret

from .command import FakeServe, Home, process


def test_without_options_the_configuration_decides(home: Home) -> None:
    assert home.opensoul("gateway").code == 0
    assert home.opensoul("gateway", "run").code == 0
    assert home.serve.started == [(Overrides(), False), (Overrides(), False)]


def test_every_option_reaches_the_gateway(home: Home) -> None:
    expected = Overrides(
        config_path="my.json5",
        port=4000,
        bind="lan",
        auth_mode="password",
        token=Secret("tok"),
        password=Secret("pass word"),
        verbose=True,
    )
    options = [
        *("--config", "my.json5", "--port", "4000", "--bind", "lan", "--auth", "password"),
        *("--token", "tok", "--password=pass word", "--verbose", "--print-example"),
    ]
    for command in (["gateway", *options], ["gateway", "run", *options]):
        assert home.opensoul(*command).code == 0
        assert home.serve.started.pop() == (expected, True)


def test_options_may_stand_on_both_sides_of_run_and_the_later_one_counts(home: Home) -> None:
    home.opensoul("--verbose", "gateway", "--port", "1", "--bind", "lan", "run", "--port", "2")
    assert home.serve.started == [(Overrides(port=2, bind="lan", verbose=True), False)]


def test_secrets_may_come_from_files(home: Home) -> None:
    (home.path / "token").write_text("from a file\n")
    (home.path / "password").write_bytes("pässword\r\n".encode())
    home.opensoul("gateway", "--token-file", "token", "run", "--password-file", "password")
    [(overrides, _)] = home.serve.started
    assert overrides.token == Secret("from a file")
    assert overrides.password == Secret("pässword")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--token", ""], "must not be empty"),
        (["--password", "  "], "must not be empty"),
        (["--token-file", "empty"], "empty is empty"),
        (["--token-file", "binary"], "binary is not UTF-8 text"),
        (["--password-file", "absent"], "absent: No such file"),
        (["--token", "a", "--token-file", "token"], "the token is set twice"),
        (["--port", "70000"], "70000"),
        (["--port", "x"], "not a valid integer"),
        (["--bind", "everywhere"], "'loopback', 'lan'"),
        (["--auth", "maybe"], "'token', 'password', 'none'"),
        (["--nonsense"], "No such option"),
    ],
)
def test_options_that_cannot_be_meant_are_usage_errors(
    home: Home, arguments: list[str], complaint: str
) -> None:
    (home.path / "empty").write_text("\n")
    (home.path / "binary").write_bytes(b"\xff\xfe")
    (home.path / "token").write_text("tok")
    refused = home.opensoul("gateway", "run", *arguments)
    assert (refused.code, refused.out) == (2, "")
    assert complaint in refused.err
    assert "--help" in refused.err
    error = home.opensoul("gateway", "run", *arguments, "--json").json_error
    assert error["code"] == "usage"
    assert complaint in error["message"]
    assert home.serve.started == []


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        (PortTaken("Cannot listen on 127.0.0.1 port 1: taken."), "port_taken", "Cannot listen"),
        (TlsUnusable("The certificate c.pem is none."), "tls_unusable", "The certificate c.pem"),
        (PluginMissing("No runner `x`."), "plugin_missing", "No runner `x`."),
        (PluginInvalid("It returns None."), "plugin_invalid", "It returns None."),
        (StateLocked(Path("/state"), None), "state_locked", "/state is in use by another process"),
        (StoreFailed("The store is from a newer version."), "store_failed", "newer version"),
        (
            ConfigInvalid([Issue("f.json", "gateway.port", 3, "must be a number")]),
            "config_invalid",
            "f.json:3 gateway.port: must be a number",
        ),
        (PermissionError(13, "Permission denied", "/log"), "system", "Permission denied: /log"),
        (OSError("strange"), "system", "strange"),
        (ValueError("Bearer abc"), "unexpected", "unexpected error: ValueError: Bearer ***"),
    ],
)
def test_what_keeps_it_from_starting_is_reported_in_a_sentence(
    home: Home, failure: Exception, code: str, message: str
) -> None:
    home.serve = FakeServe(ends_with=failure)
    refused = home.opensoul("gateway")
    assert (refused.code, refused.out) == (1, "")
    assert message in refused.err
    assert "Traceback" not in refused.err
    error = home.opensoul("gateway", "--json").json_error
    assert error["code"] == code
    assert message.rpartition(": ")[2] in error["message"] or error["issues"]


def test_a_traceback_is_there_for_who_asks(home: Home) -> None:
    home.serve = FakeServe(ends_with=ValueError("Bearer abc"))
    hinted = home.opensoul("gateway")
    assert "--verbose" in hinted.err
    outcome = home.opensoul("gateway", "--verbose")
    assert outcome.err.startswith("Traceback")
    assert "ValueError: Bearer ***" in outcome.err
    assert "(--verbose" not in outcome.err


def test_its_exit_code_is_the_servers(home: Home) -> None:
    home.serve = FakeServe(ends_with=3)
    assert home.opensoul("gateway").code == 3


def test_an_interruption_is_130(home: Home) -> None:
    home.serve = FakeServe(ends_with=KeyboardInterrupt())
    assert home.opensoul("gateway").code == 130


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("gateway run --port 1", "gateway run --port 1"),
        ("gateway --token s3 run --password=s3", "gateway --token *** run --password=***"),
        ("gateway --token --token --port 1", "gateway --token *** --port 1"),
        ("gateway --token-file s3", "gateway --token-file s3"),
        ("gateway --token", "gateway --token"),
        ("gateway call m --params {}", "gateway call m --params ***"),
        ("config set a.token s3 --json", "config set a.token *** ***"),
        ("config get set", "config get set"),
    ],
)
def test_secrets_are_masked_wherever_they_stand(arguments: str, shown: str) -> None:
    assert masked_arguments(arguments.split()) == shown.split()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_secrets_leave_the_process_list(home: Home) -> None:
    fifo = home.path / "config.json5"
    os.mkfifo(fifo)
    secret = "s3cret-" + "x" * 50
    command = [
        *(sys.executable, "-m", "opensoul.app", "gateway", "run", "--port", "0"),
        *("--token", secret, f"--password={secret}", "--token-file", str(fifo)),
    ]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        # Opening waits for the process to be there: it has read its arguments, and now reads this.
        with open(fifo, "w"):
            shown = Path(f"/proc/{started.pid}/cmdline").read_text()
        _, errors = started.communicate(timeout=60)
    finally:
        started.kill()
        started.wait()
    assert shown.rstrip("\0").startswith("opensoul gateway run --port 0 --token *** --password=***")
    assert secret not in shown
    assert secret not in errors


def test_a_usage_error_of_a_process_is_code_2(home: Home) -> None:
    refused = process("gateway", "--port", "x")
    assert (refused.code, refused.out) == (2, "")
    assert "Traceback" not in refused.err

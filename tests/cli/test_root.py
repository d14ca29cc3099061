"""`opensoul` itself: version, help, errors, and what it costs to ask."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version as installed_version

import pytest

import opensoul.app.cli as cli
from opensoul.app.version import version

from .command import Home, process


def test_the_version_is_reported(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    expected = f"opensoul {installed_version('opensoul')}\n"
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == expected
    outcome = home.opensoul("--json", "--version")
    assert (outcome.code, outcome.out) == (0, expected)


def test_a_package_that_is_not_installed_has_no_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [])
    assert version.__wrapped__() == "unknown"  # Past the cache, which has the right one.


def test_without_arguments_and_with_help_it_lists_the_commands(home: Home) -> None:
    helped = home.opensoul("--help")
    assert helped.code == 0
    for word in (
        "agent ",
        "agents",
        "config",
        "doctor",
        "gateway",
        "logs",
        "models",
        "runs",
        "tui",
    ):
        assert f"\n  {word}" in helped.out
    for word in (
        "approvals",
        "devices",
        "health",
        "sessions",
        "status",
        "token",
        "130  interrupted",
    ):
        assert word in helped.out
    alone = home.opensoul()
    assert alone.code == 2
    assert "Commands:" in alone.err


def test_every_command_takes_the_common_options(home: Home) -> None:
    for command in (
        ["gateway"],
        ["gateway", "run"],
        ["config", "check"],
        ["config", "show"],
        ["config", "schema"],
        ["config", "reference"],
        ["agents", "list"],
        ["token", "show"],
        ["token", "rotate"],
        ["models", "list"],
        ["models", "files"],
        ["models", "fetch"],
        ["agent"],
        ["approvals", "allow"],
        ["devices", "approve"],
        ["doctor"],
        ["gateway", "call"],
        ["gateway", "probe"],
        ["gateway", "status"],
        ["gateway", "stop"],
        ["health"],
        ["logs"],
        ["runs", "follow"],
        ["sessions", "show"],
        ["status"],
        ["tui"],
    ):
        helped = home.opensoul(*command, "-h")
        assert helped.code == 0
        assert "--config FILE" in helped.out
        assert "--json" in helped.out


def test_an_unknown_command_is_a_usage_error(home: Home) -> None:
    refused = home.opensoul("gatway")
    assert refused.code == 2
    assert "gatway" in refused.err
    assert home.opensoul("gatway", "--json").json_error["code"] == "usage"


def test_main_takes_its_arguments_from_the_process(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["opensoul", "config", "check", "--json"])
    assert cli.main() == 0
    assert json.loads(capsys.readouterr().out)["valid"] is True


def test_as_a_process_it_says_the_same(home: Home) -> None:
    outcome = process("--version")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"opensoul {installed_version('opensoul')}\n"
    invalid = process("config", "check", "--config", "absent.json5")
    assert (invalid.code, invalid.out) == (1, "")
    assert invalid.err.startswith("opensoul: ")


def test_a_reader_that_has_seen_enough_is_no_error(home: Home) -> None:
    command = [sys.executable, "-m", "opensoul.app", "config", "check"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert started.stdout is not None
    started.stdout.close()
    assert started.stderr is not None
    errors = started.stderr.read()
    started.stderr.close()
    assert started.wait(60) == 1
    assert errors == ""


HEAVY = (
    "aiohttp",
    "cryptography",
    "dependency_injector",
    "hypercorn",
    "pydantic",
    "quart",
    "rich",
    "textual",
    "uvloop",
)


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_asking_loads_nothing_heavy(argument: str) -> None:
    script = (
        "import sys; from opensoul.app.cli import main\n"
        f"code = main([{argument!r}])\n"
        f"print(code, [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == "0 []\n"

"""The start message: what it says can be done, and pasted."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from opensoul.app.cli.common.banner import base_url, start_message
from opensoul.domain.agents import Agent, AgentDirectory
from opensoul.domain.models.calls import ModelTarget, Provider, Secret
from opensoul.domain.settings import (
    AuthMode,
    AuthSettings,
    ChatEndpointSettings,
    ListenSettings,
    NodeRole,
    NodeSettings,
    Settings,
    TlsSettings,
)

PROVIDER = Provider("demo", "scripted")
MAIN = Agent("main", "main", models=(ModelTarget(PROVIDER, "one"), ModelTarget(PROVIDER, "two")))
BETA = Agent("beta-2", "Beta", models=(ModelTarget(PROVIDER, "two"),))
OWN = Agent("own", "own", runner="mine")
SETTINGS = Settings(
    agents=AgentDirectory([MAIN, BETA, OWN], "main"),
    auth=AuthSettings(AuthMode.TOKEN, Secret("tok")),
    chat=ChatEndpointSettings(enabled=True),
    listen=ListenSettings(("127.0.0.1", "::1"), 18789),
)


def curl(message: str) -> str:
    [line] = [line.strip() for line in message.splitlines() if line.strip().startswith("curl ")]
    return line


def received(command: str, directory: Path, **programs: str) -> list[str]:
    """The arguments that curl gets when a shell runs the command; `programs` are shell scripts."""
    scripts = {"curl": 'printf "%s\\0" "$@"', **programs}
    for name, script in scripts.items():
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={"PATH": f"{directory}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.split("\0")[:-1]


def test_it_tells_the_address_and_the_agents() -> None:
    message = start_message(SETTINGS, token=None)
    lines = message.splitlines()
    assert lines[0] == "OpenSoul Gateway is ready at http://127.0.0.1:18789"
    assert lines[1] == "  also at http://[::1]:18789"
    assert "  main    demo/one, then demo/two  (default)" in lines
    assert "  beta-2  Beta, demo/two" in lines
    assert "  own     no model, runner mine" in lines


def test_the_command_can_be_pasted_and_asks_for_the_token(tmp_path: Path) -> None:
    command = curl(start_message(SETTINGS, token=None))
    assert "tok" not in command.replace("token", "").replace("tokens", "")
    sent = received(command, tmp_path, opensoul='test "$*" = "token show" && echo shown')
    assert sent[:5] == [
        "-N",
        "http://127.0.0.1:18789/v1/chat/completions",
        "-H",
        "Authorization: Bearer shown",
        "-H",
    ]
    body = json.loads(sent[sent.index("-d") + 1])
    assert body == {
        "model": "opensoul:main",
        "stream": True,
        "messages": [{"role": "user", "content": "Say hello in one sentence."}],
    }


def test_a_token_that_may_be_printed_is_in_it(tmp_path: Path) -> None:
    for token in ("abc_-123", 'a"b`c$(d)\\e $HOME'):
        command = curl(start_message(SETTINGS, token=token))
        assert f"Authorization: Bearer {token}" in received(command, tmp_path)
    assert "opensoul token show" not in command


def test_the_file_that_was_named_is_named_again(tmp_path: Path) -> None:
    command = curl(start_message(SETTINGS, token=None, config="my config.json5"))
    expected = ["token", "show", "--config", "my config.json5"]
    script = f'test "$*" = {shlex.quote(" ".join(expected))} && test $# = 4 && echo shown'
    assert "Authorization: Bearer shown" in received(command, tmp_path, opensoul=script)


def test_a_secret_that_only_its_owner_knows_is_left_to_fill_in() -> None:
    message = start_message(SETTINGS, token=None, secret_from_options=True)
    assert '"Authorization: Bearer YOUR_TOKEN"' in message


def test_without_authentication_no_header_is_sent() -> None:
    message = start_message(replace(SETTINGS, auth=AuthSettings(AuthMode.NONE)), token=None)
    assert "Authorization" not in message
    assert "/v1/chat/completions" in curl(message)


def test_an_endpoint_that_is_off_says_how_to_switch_it_on() -> None:
    message = start_message(replace(SETTINGS, chat=ChatEndpointSettings()), token="tok")
    assert "curl" not in message
    assert "tok" not in message
    assert "gateway: { http: { endpoints: { chatCompletions: { enabled: true } } } }" in message


def test_a_worker_shows_no_command_that_it_would_not_answer() -> None:
    worker = replace(SETTINGS, node=NodeSettings(NodeRole.WORKER))
    message = start_message(worker, token="tok")
    assert "curl" not in message
    assert "is a worker" in message


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        (ListenSettings(("127.0.0.1",), 1), "http://127.0.0.1:1"),
        (ListenSettings(("0.0.0.0",), 1), "http://127.0.0.1:1"),  # noqa: S104
        (ListenSettings(("::",), 1), "http://[::1]:1"),
        (ListenSettings(("::1",), 1), "http://[::1]:1"),
        (ListenSettings(("100.64.0.7",), 1), "http://100.64.0.7:1"),
        (ListenSettings(tls=TlsSettings("c.pem", "k.pem")), "https://127.0.0.1:18789"),
    ],
)
def test_the_address_is_one_that_a_client_here_can_use(listen: ListenSettings, url: str) -> None:
    assert base_url(replace(SETTINGS, listen=listen)) == url


def test_with_tls_the_certificate_is_trusted_by_the_command(tmp_path: Path) -> None:
    listen = ListenSettings(tls=TlsSettings("/my certs/c.pem", "/my certs/k.pem"))
    command = curl(start_message(replace(SETTINGS, listen=listen), token="tok"))
    sent = received(command, tmp_path)
    assert sent[sent.index("--cacert") + 1] == "/my certs/c.pem"


def test_notes_are_printed_one_per_line() -> None:
    message = start_message(replace(SETTINGS, notes=("One.", "Two.")), token=None)
    assert message.endswith("\nNotes\n  - One.\n  - Two.")

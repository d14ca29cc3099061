"""The commands beside a Gateway that runs: what they print is what it accepts."""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from .command import Home, process

pytestmark = pytest.mark.e2e

CHAT_ENABLED = '"http": { "endpoints": { "chatCompletions": { "enabled": true } } }'
CHAT_ON = f"{{ gateway: {{ {CHAT_ENABLED} }} }}"
FILES = Path(__file__).parents[1] / "config" / "files"


@contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A Gateway as a process of its own, and what it printed when it was ready."""
    command = [sys.executable, "-m", "opensoul.app", "gateway", "run", "--port", "0", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as started:
        assert started.stdout is not None
        try:
            printed = ""
            for line in started.stdout:
                printed += line
                if line.lstrip().startswith("curl "):
                    break
            yield started, printed
        finally:
            started.kill()


def status(printed: str, token: str) -> int:
    """How the Gateway that printed this answers a request with that token."""
    [url] = re.findall(r"curl -N (\S+)", printed)
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    with closing(connection):
        connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().status


def test_a_rotated_token_is_in_force_for_the_next_request(home: Home) -> None:
    home.configure(CHAT_ON)
    with running() as (gateway, printed):
        assert '"Authorization: Bearer $(opensoul token show)"' in printed
        old = process("token", "show").out.strip()
        assert status(printed, old) == 200
        new = process("token", "rotate").out.strip()
        assert status(printed, new) == 200
        assert status(printed, old) == 401
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(60) == 0


def test_the_printed_example_holds_the_generated_token_and_no_chosen_one(home: Home) -> None:
    home.configure(CHAT_ON)
    with running("--print-example") as (_, printed):
        assert f"Bearer {process('token', 'show').out.strip()}" in printed
    with running("--print-example", "--token", "chosen") as (_, printed):
        assert "chosen" not in printed
        assert "Bearer YOUR_TOKEN" in printed
        assert status(printed, "chosen") == 200


def test_a_file_as_the_setup_dialogue_leaves_it_starts(home: Home) -> None:
    text = (FILES / "setup-wizard.json5").read_text("utf-8")
    home.configure(text.replace('"gateway": {', f'"gateway": {{ {CHAT_ENABLED},'))
    with running() as (gateway, printed):
        assert status(printed, "5f2d0c8e4b6a7991") == 200
        assert status(printed, "another") == 401
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(60) == 0
        assert gateway.stdout is not None
        assert "  - commands.native has no effect here yet.\n" in gateway.stdout.read()

"""What a person at a terminal gets to see."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from tests.e2e.process import OPENSOUL, GatewayProcess

from .scripted import CONFIG

pytestmark = pytest.mark.e2e

PATIENCE = 30.0


@dataclass
class Terminal:
    """A command on a terminal of its own."""

    gateway: GatewayProcess
    arguments: tuple[str, ...]
    kind: str | None = "xterm-256color"
    """The value of TERM; None: not set."""
    shown: bytes = b""
    _master: int = field(default=-1)

    def __enter__(self) -> Terminal:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            [OPENSOUL, *self.arguments],
            env=self._env(),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._master)

    def _env(self) -> dict[str, str]:
        env = self.gateway.env | {"COLUMNS": "100", "LINES": "30"}
        env.pop("TERM", None)
        return env if self.kind is None else env | {"TERM": self.kind}

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def until(self, text: bytes) -> None:
        """Read until something is shown."""
        while text not in self.shown:
            assert self._read(), self.shown

    def ended(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        return self._process.wait(PATIENCE)

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def _read(self) -> bool:
        if not select.select([self._master], [], [], PATIENCE)[0]:
            raise AssertionError(f"nothing more is shown: {self.shown!r}")
        with suppress(OSError):  # The end, on Linux.
            read = os.read(self._master, 4_096)
            self.shown += read
            return bool(read)
        return False


def test_an_answer_is_shown_as_it_comes(gateway: GatewayProcess) -> None:
    with Terminal(gateway, ("agent", "-m", "go", "--agent", "slow")) as terminal:
        terminal.until(b"one ")
        terminal.interrupt()
        assert terminal.ended() == 130
        assert terminal.shown.endswith(b"\r\nopensoul: aborted\r\n")


def test_tables_are_drawn_and_nothing_in_them_steers(gateway: GatewayProcess) -> None:
    with Terminal(gateway, ("agent", "-m", "x\x1b]0;t\x07[b]y")) as terminal:
        assert terminal.ended() == 0
        assert b"You said: x]0;t[b]y" in terminal.shown
    with Terminal(gateway, ("sessions",)) as terminal:
        assert terminal.ended() == 0
        assert "─".encode() in terminal.shown
        assert b"agent:main:main" in terminal.shown
    with Terminal(gateway, ("status",)) as terminal:
        assert terminal.ended() == 0
        assert b"scripted/echo" in terminal.shown


def test_deleting_asks_back(gateway: GatewayProcess) -> None:
    with Terminal(gateway, ("sessions", "delete", "agent:main:asked-back")) as terminal:
        terminal.until(b"[y/N]")
        terminal.type(b"n\n")
        assert terminal.ended() == 130


@pytest.mark.parametrize("kind", ["xterm-256color", None])
def test_the_chat_opens_and_is_left(gateway: GatewayProcess, kind: str | None) -> None:
    arguments = ("tui", "--session", "agent:main:terminal")
    with Terminal(gateway, arguments, kind) as terminal:
        terminal.until(b"connected")
        terminal.type(b"\x11")
        assert terminal.ended() == 0


def test_the_chat_says_why_it_cannot_open(gateway: GatewayProcess) -> None:
    arguments = ("tui", "--url", "ws://127.0.0.1:9", "--token", "x")
    with Terminal(gateway, arguments) as terminal:
        assert terminal.ended() == 1
        assert b"Cannot connect to ws://127.0.0.1:9" in terminal.shown


def test_over_tls_ones_own_certificate_is_known(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued = trustme.CA().issue_cert("gateway.example")
    issued.private_key_pem.write_to_path(str(key))
    for blob in issued.cert_chain_pems:
        blob.write_to_path(str(cert), append=True)
    config = json.loads(CONFIG)
    config["gateway"]["tls"] = {"enabled": True, "certPath": str(cert), "keyPath": str(key)}
    served = GatewayProcess(tmp_path, json.dumps(config)).start()
    try:
        assert served.opensoul("health") == "ok\n"
        other = trustme.CA().issue_cert("gateway.example")
        other.cert_chain_pems[0].write_to_path(str(cert))
        refused = subprocess.run(
            [OPENSOUL, "health"], env=served.env, capture_output=True, text=True, check=False
        )
        assert refused.returncode == 1
        assert "does not match the expected fingerprint" in refused.stderr
    finally:
        served.stop()

"""A server in its own process, and its load."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from .load import Job
from .wire import SHORT, question

ROOT = Path(__file__).parent.parent
TOKEN = "sk-benchmark-only"  # noqa: S105 - guards nothing
_START_LIMIT = 60.0
_STOP_LIMIT = 40.0
_LOAD_LIMIT = 900.0


class ServerFailed(Exception):
    """A server did not start, or failed under load; the message has the end of its output."""


def free_port() -> int:
    """An unused port on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Server:
    """A server of its own process, as a context manager: ready inside, ended outside.

    `ready`: the path that answers 200 once it serves. Its output goes to a file in `home`.
    """

    name: str
    command: Sequence[str]
    port: int
    home: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: str = "/readyz"
    ready_after: float = 0.0
    """Seconds from its start until the first response."""

    def __enter__(self) -> Server:
        self.launch()
        try:
            self.wait_until_ready()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def launch(self) -> None:
        """Start the process without waiting for it."""
        # In a separate folder, since the Gateway watches the folder of its configuration.
        self._log = self.home / "log" / f"{self.name}.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self.began = time.perf_counter()
            self._process = subprocess.Popen(
                list(self.command),
                cwd=ROOT,
                env={**_environment(), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """End the process with SIGKILL."""
        self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def load(self, **job: Any) -> dict[str, Any]:
        """Run the load generator; returns its figures. Raises ServerFailed for a wrong response."""
        parameters = Job(port=self.port, pid=self.pid, token=TOKEN, **job)
        done = subprocess.run(
            [sys.executable, "-m", "bench.load"],
            input=orjson.dumps(parameters),
            cwd=ROOT,
            capture_output=True,
            timeout=_LOAD_LIMIT,
            check=False,
        )
        if done.returncode:
            raise ServerFailed(f"{self.name}: {done.stderr.decode()[-2_000:]}\n{self._log_tail()}")
        figures: dict[str, Any] = orjson.loads(done.stdout)
        return figures

    def first_answer(self) -> float:
        """Seconds from its start until the first complete answer, not streamed."""
        body = question(SHORT, stream=False)
        request = (
            "POST /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\n"
            f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        if b" 200 " not in (answer := _answer(self.port, request + body))[:16]:
            raise ServerFailed(
                f"{self.name}: {answer.decode(errors='replace')}\n{self._log_tail()}"
            )
        return time.perf_counter() - self.began

    def wait_until_ready(self) -> None:
        """Wait for the first 200 from `ready`. Raises ServerFailed."""
        request = f"GET {self.ready} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode()
        while time.perf_counter() < self.began + _START_LIMIT:
            if self._process.poll() is not None:
                break
            if b" 200 " in _answer(self.port, request)[:16]:
                self.ready_after = time.perf_counter() - self.began
                return
            time.sleep(0.004)
        raise ServerFailed(f"{self.name} did not start:\n{self._log_tail()}")

    def _log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-2_000:]

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _environment() -> dict[str, str]:
    """The present environment without variables that would configure a server."""
    theirs = ("OPENSOUL_", "OPENCLAW_", "OPENAI_", "LITELLM_", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(theirs)}


def _answer(port: int, request: bytes) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(request)
            return connection.recv(4_096)
    except OSError:
        return b""

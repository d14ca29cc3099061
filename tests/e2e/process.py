"""A Gateway as an operator runs it: the installed command in a process of its own."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

START_LIMIT = 100.0
LAST_OF_MESSAGE = ("curl", "chat endpoint", "This process is a worker")
"""In the start message, behind what tests read of it."""
STOP_LIMIT = 60.0
LOG_LIMIT = 60.0
UNEXPECTED = ("Traceback", "never retrieved", "Exception in callback", "was destroyed but")
"""What Python and event loops write about errors that nothing handles."""
OPENSOUL = Path(sys.executable).with_name("opensoul")


def free_port() -> int:
    """A port that nobody listens on, below those that systems give to connections: tests that run
    at the same time open many of these."""
    while True:
        port = random.randrange(12_000, 32_000)  # noqa: S311 - no secret
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass
class GatewayProcess:
    """`config` is JSON5 text; the state directory is inside `home`."""

    home: Path
    config: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    program: Path = OPENSOUL
    unexpected: tuple[str, ...] = UNEXPECTED
    """What must not be in its log."""

    def __post_init__(self) -> None:
        self.state = self.home / "state"
        self.config_path = self.home / "opensoul.json"
        self.config_path.write_text(self.config)
        self.out: list[str] = []
        self.err: list[str] = []
        self._told = threading.Condition()
        self._serves = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """The environment for the Gateway and for the command line beside it."""
        own = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OPENSOUL_", "OPENCLAW_", "OPENAI_"))
        }
        own |= {
            "HOME": str(self.home),
            "OPENSOUL_STATE_DIR": str(self.state),
            "OPENSOUL_CONFIG_PATH": str(self.config_path),
            "OPENSOUL_GATEWAY_PORT": str(self.port),
            "PATH": f"{OPENSOUL.parent}{os.pathsep}{os.environ['PATH']}",
        }
        return own | dict(self.environment)

    @property
    def token(self) -> str:
        return self.opensoul("token", "show").strip()

    def opensoul(self, *arguments: str) -> str:
        """What the command line beside it prints. CalledProcessError when it fails."""
        command = [str(OPENSOUL), *arguments]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=True)
        return done.stdout

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """It was started, and has not ended."""
        return self._process.poll() is None

    def start(self) -> GatewayProcess:
        """Returns when it says that it serves; AssertionError with its words when it does not."""
        self.launch()
        if not self._ready.wait(START_LIMIT) or not self._serves:
            self.kill()
            raise AssertionError("the Gateway did not start:\n" + "".join(self.out + self.err))
        return self

    def launch(self) -> None:
        """Start the process without waiting for it."""
        self._process = subprocess.Popen(
            [self.program, "gateway", "run", *self.arguments],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._serves = False
        self._ready = threading.Event()
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stdout, self.out)),
            threading.Thread(target=self._read, args=(self._process.stderr, self.err)),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def command_line(self) -> str:
        """What the process list shows; empty where the system has no /proc."""
        shown = Path(f"/proc/{self.pid}/cmdline")
        return shown.read_bytes().decode() if shown.exists() else ""

    def until_logged(self, text: str) -> None:
        """Return when a line of its log holds the text. AssertionError after a while."""
        with self._told:
            seen = self._told.wait_for(lambda: any(text in line for line in self.err), LOG_LIMIT)
        assert seen, f"{text!r} is not in the log:\n" + "".join(self.err)

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: int = signal.SIGTERM) -> None:
        self._process.send_signal(number)

    def wait(self, limit: float = STOP_LIMIT) -> int:
        """Its exit code. AssertionError when it logged an error that it did not expect itself."""
        code = self._process.wait(limit)
        for reader in self._readers:
            reader.join()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        log = "".join(self.err)
        assert not any(sign in log for sign in self.unexpected), log
        return code

    def stop(self) -> int:
        if self._process.poll() is None:
            self.signal()
        return self.wait()

    def kill(self) -> None:
        self._process.kill()
        self.wait()

    async def __aenter__(self) -> GatewayProcess:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it, whatever a test left it doing; no process outlives its test."""
        if kind is None:
            await asyncio.to_thread(self.stop)
        elif self._process.poll() is None:
            await asyncio.to_thread(self.kill)

    def _read(self, stream: object, lines: list[str]) -> None:
        for line in stream:  # type: ignore[attr-defined]
            with self._told:
                lines.append(line)
                self._told.notify_all()
            if any(mark in line for mark in LAST_OF_MESSAGE):
                self._serves = True
                self._ready.set()
        self._ready.set()

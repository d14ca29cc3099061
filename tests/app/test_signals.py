"""What each signal does, sent to a process that has the Gateway's handlers and nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has other signals")

PATIENCE = 30.0
PROGRAM = """
import asyncio, logging, sys
from opensoul.app.signals import stop_on_signals

class Fields(logging.Formatter):
    def format(self, record):
        return f"{record.levelname} {record.signal}"

async def main():
    stop = stop_on_signals()
    print("ready", flush=True)
    await stop.wait()
    print("stopping", flush=True)
    await asyncio.to_thread(sys.stdin.read)

handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(Fields())
logging.basicConfig(level=logging.INFO, handlers=[handler])
with asyncio.Runner(loop_factory=LOOP) as runner:
    runner.run(main())
"""
LOOPS = {"asyncio": "asyncio.new_event_loop", "uvloop": "__import__('uvloop').new_event_loop"}


def known(*names: str) -> list[signal.Signals]:
    """Those that this system has."""
    return [signal.Signals[name] for name in names if name in signal.Signals.__members__]


@contextmanager
def started(*before: str, loop: str = "asyncio") -> Iterator[subprocess.Popen[str]]:
    program = PROGRAM.replace("LOOP", LOOPS[loop])
    command = [*before, sys.executable, "-c", program]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert line(process) == "ready"
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ended(process: subprocess.Popen[str]) -> int:
    """Its exit code once its work, which is to read standard input, is done."""
    assert process.stdin is not None
    process.stdin.close()
    return process.wait(PATIENCE)


@pytest.mark.parametrize(
    "stopping", known("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGPWR", "SIGXCPU")
)
def test_a_signal_to_stop_begins_the_drain(stopping: signal.Signals) -> None:
    with started() as process:
        process.send_signal(stopping)
        assert [line(process), line(process)] == [f"INFO {stopping.name}", "stopping"]
        assert ended(process) == 0


@pytest.mark.parametrize("second", known("SIGTERM", "SIGINT", "SIGQUIT"))
def test_a_second_signal_from_a_person_or_a_supervisor_ends_it(second: int) -> None:
    with started() as process:
        process.send_signal(signal.SIGHUP)
        assert [line(process), line(process)] == ["INFO SIGHUP", "stopping"]
        process.send_signal(second)
        assert process.wait(PATIENCE) == 128 + second


@pytest.mark.parametrize("loop", LOOPS)
def test_no_other_signal_ends_it_before_or_during_the_drain(loop: str) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    noticed = known("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGSTKFLT")
    silent = known("SIGPIPE", "SIGXFSZ", "SIGCHLD", "SIGWINCH", "SIGURG", "SIGCONT")
    with started(loop=loop) as process:
        for number in silent:
            process.send_signal(number)
        for number in noticed:
            process.send_signal(number)
            assert line(process).startswith("WARNING SIG")
        process.send_signal(signal.SIGRTMAX)
        assert line(process).startswith("WARNING SIGRTMIN+")
        process.send_signal(signal.SIGTERM)
        assert [line(process), line(process)] == ["INFO SIGTERM", "stopping"]
        for number in (*silent, *known("SIGHUP", "SIGXCPU", "SIGPWR")):
            process.send_signal(number)
        process.send_signal(signal.SIGUSR1)
        assert line(process) == "WARNING SIGUSR1"
        assert ended(process) == 0


def test_under_nohup_a_closed_terminal_is_ignored() -> None:
    with started("sh", "-c", "trap '' HUP; exec \"$@\"", "sh") as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGUSR1)
        assert line(process) == "WARNING SIGUSR1"
        process.send_signal(signal.SIGTERM)
        assert line(process) == "INFO SIGTERM"
        assert ended(process) == 0

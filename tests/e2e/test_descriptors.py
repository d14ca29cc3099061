"""A process that runs out of file descriptors answers, says so, and goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import sys
from pathlib import Path

import pytest

from opensoul.app import descriptors
from tests.e2e.process import GatewayProcess

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="another process's limit"),
]

ASK = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.settimeout(20)
    return connection


def answer(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(4_096):
            received += piece
    return received


def processor_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


async def test_connections_beyond_the_last_descriptors_are_a_503_and_a_line_in_the_log(
    tmp_path: Path,
) -> None:
    async with GatewayProcess(tmp_path, "{}") as gateway:
        held = len(os.listdir(f"/proc/{gateway.pid}/fd"))
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (held + 40, held + 40))
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(connect(gateway.port)) for _ in range(150)]
            gateway.until_logged("hardly any file descriptor is left")
            refused = connections[60:]
            answers = await asyncio.to_thread(lambda: [answer(one) for one in refused])
            assert all(text.startswith(b"HTTP/1.1 503 ") for text in answers)
            before = processor_ticks(gateway.pid)
            connections[0].sendall(ASK)
            assert b" 200 " in await asyncio.to_thread(answer, connections[0])
            # With 89 connections waiting unanswered, the process would spin by now.
            assert processor_ticks(gateway.pid) - before < 50
        with connect(gateway.port) as connection:
            connection.sendall(ASK)
            assert b" 200 " in await asyncio.to_thread(answer, connection)
        assert sum("hardly any" in line for line in gateway.err) <= 10


async def test_that_none_is_left_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    await descriptors.watch()
    assert caplog.records == []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        await descriptors.watch()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    [record] = caplog.records
    assert record.message == "no file descriptor is left: connections are closed unanswered"
    assert (vars(record)["limit"], record.levelname) == (3, "ERROR")

"""The guard of the tests themselves: an error that an event loop reports fails a test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")
FAULTY = """
import asyncio
import threading

import pytest


async def fail():
    raise LookupError("of the tests")


async def test_a_task_whose_exception_is_never_retrieved():
    task = asyncio.create_task(fail())
    await asyncio.wait([task])


async def test_a_callback_that_raises():
    asyncio.get_running_loop().call_soon(lambda: {}["absent"])
    await asyncio.sleep(0)


async def test_a_task_that_is_part_of_a_cycle():
    task = asyncio.create_task(fail())
    task.add_done_callback(lambda _, task=task: None)
    await asyncio.wait([task])
    task.itself = task


async def test_a_connection_whose_server_raises():
    async def serve(reader, writer):
        writer.close()
        raise LookupError("of the tests")

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()


def test_a_loop_of_a_thread():
    async def main():
        task = asyncio.create_task(fail())
        await asyncio.wait([task])

    thread = threading.Thread(target=asyncio.run, args=[main()])
    thread.start()
    thread.join()


async def test_nothing_wrong():
    task = asyncio.create_task(fail())
    with pytest.raises(LookupError):
        await task


async def test_reports_that_are_expected():
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
    asyncio.get_running_loop().call_soon(lambda: {}["absent"])
    await asyncio.sleep(0)
    assert len(reports) == 1
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_error_that_a_loop_reports_fails_the_test(tmp_path: Path, loop: str) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "test_faulty.py").write_text(FAULTY)
    report = tmp_path / "report.xml"
    options = ["-p", "no:cacheprovider", "-o", "asyncio_mode=auto", f"--loop={loop}"]
    command = [sys.executable, "-m", "pytest", "-q", *options, f"--junitxml={report}"]
    env = os.environ | {"PYTHONPATH": str(CONFTEST.parents[1])}  # What the file imports.
    subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, timeout=60, check=False)

    cases = ElementTree.parse(report).iter("testcase")  # noqa: S314 (made by pytest, just now)
    failed = {case.attrib["name"] for case in cases if case.find("error") is not None}
    assert failed == {
        "test_a_task_whose_exception_is_never_retrieved",
        "test_a_callback_that_raises",
        "test_a_task_that_is_part_of_a_cycle",
        "test_a_connection_whose_server_raises",
        "test_a_loop_of_a_thread",
    }

"""A disk without room: no model is paid for an answer that cannot be kept."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from dependency_injector import providers

from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore
from tests.app.serving import config, serving
from tests.fakes.provider import FakeProvider


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Take all the room there is."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


async def test_a_full_disk_costs_no_call_and_gets_well_by_itself(
    tmp_path: Path, small_disk: Path, provider: FakeProvider
) -> None:
    store = providers.Object(SqliteStore(small_disk / "sessions.sqlite3"))
    async with serving(tmp_path, config(provider.base_url), store=store) as served:
        await served.text(user="alice")
        filler = fill(small_disk)
        for stream in (False, True):
            async with served.ask(user="alice", stream=stream) as refused:
                error = (await refused.json())["error"]
            assert (refused.status, error["code"]) == (503, "store_failed")
            assert "No space left on device" in error["message"]
        async with served.client.get("/readyz") as ready:
            assert ready.status == 503
        assert len(provider.requests) == 1  # The first disk-full turn has not paid either.

        filler.unlink()
        await served.text(user="alice")
        async with served.client.get("/readyz") as ready:
            assert ready.status == 200

    assert len(provider.requests) == 2

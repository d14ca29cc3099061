"""Files of the state directory go away under a real server."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from dependency_injector import providers

from opensoul.adapters.system.files.state_lock import StateLocked
from tests.app.serving import config, serving
from tests.fakes.provider import FakeProvider


def database(home: Path) -> Path:
    return home / "state" / "opensoul.sqlite3"


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_lost_database_costs_no_call_and_acknowledges_no_turn(
    tmp_path: Path, provider: FakeProvider, replaced: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = database(tmp_path)
    async with serving(tmp_path, config(provider.base_url)) as served:
        await served.text(user="alice")
        copy = path.read_bytes()
        path.unlink()
        if replaced:
            path.write_bytes(copy)
        caplog.set_level(logging.ERROR)
        for n in range(20):
            async with served.ask(user="alice", stream=bool(n % 2)) as refused:
                error = (await refused.json())["error"]
            assert (refused.status, error["code"]) == (503, "store_failed")
            assert "while it was in use. Nothing was sent to a model" in error["message"]
        async with served.client.get("/readyz") as ready:
            assert ready.status == 503
    assert len(provider.requests) == 1
    assert caplog.messages.count("the session store cannot be written") == 1
    async with serving(tmp_path, config(provider.base_url)) as served:
        await served.text(user="alice")


async def test_two_state_directories_cannot_share_a_database(
    tmp_path: Path, provider: FakeProvider
) -> None:
    shared = tmp_path / "shared.sqlite3"
    for name in ("state", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "opensoul.sqlite3").symlink_to(shared)
    async with serving(tmp_path, config(provider.base_url)) as served:
        other = providers.Object({"OPENSOUL_STATE_DIR": str(tmp_path / "other")})
        with pytest.raises(StateLocked, match=r"which holds the database of .* is in use"):
            async with serving(tmp_path, config(provider.base_url), env=other):
                pass
        await served.text()


async def test_a_second_gateway_is_refused_though_the_lock_file_is_deleted(
    tmp_path: Path, provider: FakeProvider
) -> None:
    async with serving(tmp_path, config(provider.base_url)) as served:
        os.unlink(tmp_path / "state" / "gateway.lock")
        with pytest.raises(StateLocked, match="is in use by process"):
            async with serving(tmp_path, config(provider.base_url)):
                pass
        await served.text()

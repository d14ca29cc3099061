"""Starting and stopping, in order, with nothing left behind when something fails."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

import pytest
from dependency_injector import providers

from opensoul.adapters.config import Applied, ConfigInvalid, Issue, Rejected, Skipped
from opensoul.adapters.persistence.memory.store import MemoryStore
from opensoul.adapters.system.files.state_lock import StateLock, StateLocked
from opensoul.app.reloads import Reloads
from opensoul.app.server.host import PortTaken, open_sockets
from opensoul.domain.errors import FailureKind, ModelFailed, StoreFailed
from opensoul.domain.models.calls import ModelTarget
from opensoul.domain.settings import ListenSettings, LoggingSettings
from tests.app.serving import config, serving
from tests.fakes.locks import held

pytestmark = pytest.mark.both_loops


class BrokenStore(MemoryStore):
    """`open` and `prune_one_off` fail on demand; remembers when it was closed and pruned."""

    def __init__(self, *, opens: bool = True, prunes: bool = True) -> None:
        super().__init__()
        self._opens = opens
        self._prunes = prunes
        self.pruned = asyncio.Event()
        self.bounds: tuple[float | None, int | None] | None = None

    async def open(self) -> None:
        if not self._opens:
            raise StoreFailed("The store is damaged.")
        await super().open()

    async def prune_one_off(self, keep: float | None, max_bytes: int | None = None) -> int:
        self.bounds = (keep, max_bytes)
        self.pruned.set()
        if not self._prunes:
            raise StoreFailed("The disk is full.")
        return 3


async def test_a_locked_state_directory_keeps_it_from_starting(tmp_path: Path) -> None:
    with held(StateLock(tmp_path / "state")), pytest.raises(StateLocked, match="is in use by"):
        async with serving(tmp_path, config()):
            pass


async def test_a_store_that_cannot_be_opened_gives_the_lock_back(tmp_path: Path) -> None:
    parts = {"store": providers.Object(BrokenStore(opens=False))}
    with pytest.raises(StoreFailed, match="damaged"):
        async with serving(tmp_path, config(), **parts):
            pass

    async with serving(tmp_path, config()):
        pass


async def test_an_invalid_configuration_makes_no_application(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"gateway\.prot"):
        async with serving(tmp_path, config(gateway={"prot": 1})):
            pass


@pytest.mark.parametrize("prunes", [True, False])
async def test_one_off_sessions_are_pruned_at_the_start(
    tmp_path: Path, prunes: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "opensoul.app")
    store = BrokenStore(prunes=prunes)
    parts = {"store": providers.Object(store)}
    async with serving(tmp_path, config(), **parts):
        await asyncio.wait_for(store.pruned.wait(), 5)

    told = "deleted" if prunes else "not deleted"
    assert f"one-off sessions {told}" in caplog.messages


@pytest.mark.parametrize(
    ("session", "bounds"),
    [
        ({}, (7 * 86_400.0, 1024**3)),
        ({"oneOffRetentionDays": 0, "oneOffMaxBytes": 0}, (None, None)),
        ({"oneOffRetentionDays": 1, "oneOffMaxBytes": 5_000}, (86_400.0, 5_000)),
    ],
)
async def test_one_off_sessions_have_the_bounds_of_the_configuration(
    tmp_path: Path, session: dict[str, Any], bounds: tuple[float | None, int | None]
) -> None:
    store = BrokenStore()
    async with serving(tmp_path, config(session=session), store=providers.Object(store)):
        await asyncio.wait_for(store.pruned.wait(), 5)
    assert store.bounds == bounds


class Preparations:
    """Takes the place of what makes local models ready; the first one cannot be made so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.each = asyncio.Event()

    async def prepare(self, target: ModelTarget) -> None:
        self.asked.append(target.ref)
        self.each.set()
        if len(self.asked) == 1:
            raise ModelFailed(FailureKind.UNREACHABLE, "There is no such file.")


async def test_local_models_are_made_ready_at_the_start_and_after_a_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    preparations = Preparations()
    logged: list[LoggingSettings] = []
    parts: dict[str, Any] = {
        "prepare": providers.Object({"local": preparations.prepare}),
        "configure_logging": providers.Object(logged.append),
    }
    models = {"providers": {"here": {"api": "local", "models": [{"id": "a"}, {"id": "b"}]}}}

    def on(model: str, level: str) -> dict[str, Any]:
        agents = {"defaults": {"model": {"primary": f"here/{model}"}}}
        return config(models=models, agents=agents, logging={"level": level})

    async with serving(tmp_path, on("a", "info"), **parts) as served:
        await asyncio.wait_for(preparations.each.wait(), 5)
        preparations.each.clear()
        served.configure(on("b", "warn"))
        served.container.settings()()
        await asyncio.wait_for(preparations.each.wait(), 5)

    assert preparations.asked == ["here/a", "here/b"]
    assert "a model is not ready" in caplog.messages
    assert [settings.level for settings in logged] == ["info", "warn"]


def test_what_happened_to_a_changed_configuration_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "opensoul.app")
    reloads = Reloads()

    reloads(Applied(("gateway.port",), ("gateway.port",), ("A note.",)))
    reloads(Rejected((Issue("f", "gateway.prot", 1, "is not known"),)))
    reloads(Skipped("off", ("agents",)))

    assert caplog.messages == [
        "configuration changed",
        "a restart is needed for part of the change",
        "A note.",
        "the changed configuration is not valid; the last good one stays in force",
        "the changed configuration is not applied",
    ]


def test_the_second_host_is_left_out_where_it_cannot_be_had() -> None:
    sockets = open_sockets(ListenSettings(hosts=("127.0.0.1", "203.0.113.1"), port=0))

    assert len(sockets.insecure_sockets) == 1
    sockets.insecure_sockets[0].close()


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"127.0.0.1 port {port}"):
            open_sockets(ListenSettings(hosts=("127.0.0.1",), port=port))

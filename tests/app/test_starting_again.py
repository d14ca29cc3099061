"""A start that fails leaves nothing open, and the same application starts once that is mended."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from dependency_injector import providers

from opensoul.adapters.config import Overrides
from opensoul.adapters.system.files.state_lock import StateLock, StateLocked
from opensoul.adapters.transports import Transport
from opensoul.app.container import Container
from opensoul.app.plugins import TRANSPORTS, PluginMissing
from opensoul.app.server.factory import create_app
from opensoul.app.server.host import PortTaken, TlsUnusable, open_sockets, serve_until
from opensoul.domain.errors import StoreFailed
from opensoul.domain.settings import ListenSettings, TlsSettings
from tests.app.serving import SECRET, config
from tests.fakes.locks import held

pytestmark = pytest.mark.both_loops

Broken = Callable[[Path], Any]
"""A context within which a state directory keeps the Gateway from starting."""


def held_by_another(state: Path) -> Any:
    return held(StateLock(state))


@contextmanager
def damaged(file: Path) -> Iterator[None]:
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"not what belongs here " * 100)
    yield
    file.unlink()


def damaged_store(state: Path) -> Any:
    return damaged(state / "opensoul.sqlite3")


def damaged_devices(state: Path) -> Any:
    return damaged(state / "devices.json")


@contextmanager
def unreadable_runs(state: Path) -> Iterator[None]:
    """The file opens, but the runs of an earlier process cannot be recovered."""
    state.mkdir()
    with closing(sqlite3.connect(state / "runs.sqlite3")) as other:
        other.execute("CREATE TABLE runs (unknown)")
    yield
    (state / "runs.sqlite3").unlink()


def container_of(
    home: Path, content: dict[str, Any] | None = None, **parts: providers.Provider[Any]
) -> Container:
    (home / "opensoul.json").write_text(json.dumps(content or config()))
    return Container(
        overrides=providers.Object(Overrides(config_path=str(home / "opensoul.json"))),
        env=providers.Object({"OPENSOUL_STATE_DIR": str(home / "state")}),
        home=providers.Object(home),
        configure_logging=providers.Object(lambda settings: None),
        **parts,
    )


def open_now() -> set[str]:
    """The files and sockets of this process, and its threads other than asyncio's spare ones."""
    links = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
    files = {os.readlink(link) for link in links if link.is_symlink()}
    threads = {thread.name for thread in threading.enumerate()}
    return files | {name for name in threads if not name.startswith("asyncio_")}


async def served_once(container: Container, app: Any) -> int:
    """Serve, ask a question of the page of models, and stop; the status of the answer."""
    listen = replace(container.settings()().listen, port=0)
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    server = asyncio.create_task(
        serve_until(
            stop, app, container.lifecycle(), listen, open_sockets(listen), ready.set_result
        )
    )
    server.add_done_callback(lambda _: ready.done() or ready.cancel())
    await asyncio.wait({ready})
    if ready.cancelled():
        await server
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {SECRET}"}) as client:
        answer = await client.get(f"http://127.0.0.1:{ready.result()}/v1/models")
        await answer.read()
    stop.set()
    await server
    return answer.status


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
@pytest.mark.parametrize(
    ("broken", "failure"),
    [
        (held_by_another, StateLocked),
        (damaged_store, StoreFailed),
        (unreadable_runs, StoreFailed),
        (damaged_devices, StoreFailed),
    ],
)
async def test_what_keeps_it_from_starting_can_be_mended(
    tmp_path: Path, broken: Broken, failure: type[Exception]
) -> None:
    container = container_of(tmp_path)
    app = create_app(container)
    with broken(tmp_path / "state"):
        await asyncio.to_thread(int)  # A thread of asyncio's own, and what belongs to it.
        before = open_now()
        for _ in range(2):
            with pytest.raises(failure):
                await served_once(container, app)
        assert open_now() <= before  # What an earlier test has left may end meanwhile.
    assert await served_once(container, app) == 200
    with held(StateLock(tmp_path / "state")):
        pass


async def test_a_taken_port_keeps_nothing_open(tmp_path: Path) -> None:
    container = container_of(tmp_path)
    app = create_app(container)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortTaken):
            open_sockets(ListenSettings(hosts=("127.0.0.1",), port=taken.getsockname()[1]))
    assert await served_once(container, app) == 200


async def test_an_unusable_certificate_is_named_before_anything_starts(tmp_path: Path) -> None:
    container = container_of(tmp_path)
    app = create_app(container)
    pem = tmp_path / "cert.pem"
    pem.write_text("no certificate")
    listen = ListenSettings(hosts=("127.0.0.1",), port=0, tls=TlsSettings(str(pem), str(pem)))
    sockets = open_sockets(listen)
    with pytest.raises(TlsUnusable, match=r"cert\.pem .* cannot be used"):
        await serve_until(
            asyncio.Event(), app, container.lifecycle(), listen, sockets, lambda _: None
        )
    assert sockets.secure_sockets[0].fileno() == -1
    assert await served_once(container, app) == 200


async def test_a_plugin_that_is_missing_or_fails_can_be_mended(tmp_path: Path) -> None:
    installed: list[EntryPoint] = []
    content = config()
    content["gateway"]["transports"] = ["plain"]
    find = providers.Object(lambda group: installed if group == TRANSPORTS else [])
    container = container_of(tmp_path, content, find_plugins=find)
    with pytest.raises(PluginMissing):
        create_app(container)
    installed.append(EntryPoint("plain", "examples.plain_text_transport:absent", TRANSPORTS))
    with pytest.raises(AttributeError):
        create_app(container)
    installed.append(EntryPoint("plain", "examples.plain_text_transport:transport", TRANSPORTS))
    assert await served_once(container, create_app(container)) == 200


async def test_a_transport_that_cannot_start_can_be_mended(tmp_path: Path) -> None:
    reachable = False
    admits_clients = False

    async def start() -> None:
        nonlocal admits_clients
        if not reachable:
            raise ConnectionError("no such chat server")
        admits_clients = not container.control().hub.stopping

    container = container_of(tmp_path)
    app = create_app(container)
    container.lifecycle().serve([*container.transports(), Transport("chat", start=start)])
    with pytest.raises(ConnectionError):
        await served_once(container, app)
    assert container.control().hub.stopping
    reachable = True
    assert await served_once(container, app) == 200
    assert admits_clients


async def test_what_was_stopped_is_not_started_again(tmp_path: Path) -> None:
    container = container_of(tmp_path)
    app = create_app(container)
    await container.lifecycle().stop()  # Nothing to stop, and no reason not to start.
    assert await served_once(container, app) == 200
    await container.lifecycle().stop()
    with pytest.raises(RuntimeError, match="was stopped"):
        await served_once(container, app)
    with held(StateLock(tmp_path / "state")):
        pass

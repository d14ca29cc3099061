"""The configuration in the database, which all processes of a Gateway share
(`node.config: "database"`)."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ..adapters.config import (
    ConfigEditor,
    Inputs,
    Locations,
    load_at,
    node_independent_text,
    of_node,
    save,
)
from ..domain.errors import StoreFailed
from ..domain.ports import ConfigurationBook, NodeBus
from ..domain.ports.configuration import ConfigConflict, ConfigUnwritable

logger = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_SECONDS = 2.0
TOPIC = "configuration"

Work = Callable[[ConfigurationBook], Awaitable[T]]


class CopiedDocument:
    """A SharedDocument whose copy is `file`. It uses a connection of its own for each call, because
    the configuration has to be there before the process opens its database, and commands have no
    pool.

    `changed` is called after this process has changed the document.
    """

    def __init__(self, file: Path, url: str) -> None:
        self.file = file
        self._url = url
        self._turn = threading.Lock()
        self.changed: Callable[[], None] = _nothing

    @property
    def hash(self) -> str | None:
        """The SHA-256 of the copy."""
        try:
            return hashlib.sha256(self.file.read_bytes()).hexdigest()
        except OSError:
            return None

    def pull(self) -> None:
        with self._turn:
            data = self._do(lambda book: book.newest())
            if data is not None:
                self._copy(data)

    def push(self, base_hash: str | None, data: bytes) -> bool:
        with self._turn:
            if not self._do(lambda book: book.replace(base_hash, data)):
                return False
            self._copy(data)
        self.changed()
        return True

    def _copy(self, data: bytes) -> None:
        try:
            if not self.file.exists() or self.file.read_bytes() != data:
                self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                save(self.file, data)
        except OSError as error:
            message = f"{self.file} cannot be written: {error.strerror or error}"
            raise ConfigUnwritable(message) from error

    def _do(self, work: Work[T]) -> T:
        from ..adapters.persistence.postgres import with_configurations

        try:
            return _run(with_configurations(self._url, work))
        except StoreFailed as error:
            message = f"The configuration in the database cannot be used: {error.message}"
            raise ConfigUnwritable(message) from error


def shared_document(locations: Locations, inputs: Inputs) -> CopiedDocument | None:
    """The document of which `locations.config_path` is a copy; None: the configuration is a file.
    Raises ConfigInvalid for a wrong file of the node."""
    if locations.node_path is None:
        return None
    inputs = replace(inputs, generated_token=lambda _: "not generated for this")
    store = load_at(of_node(locations), inputs).settings.store
    assert store.url is not None  # noqa: S101 - checked with node.config
    url = store.url if store.listen_url is None else store.listen_url
    return CopiedDocument(locations.config_path, url.reveal())


def store_first(document: CopiedDocument, locations: Locations, inputs: Inputs) -> None:
    """Store the other keys of the node's own file, where there are any, and no node has stored a
    configuration yet. Raises ConfigRefused where they are not valid, ConfigUnwritable."""
    if not document.file.exists() and (text := node_independent_text(of_node(locations), inputs)):
        editor = ConfigEditor(inputs, locations, on_machine=True, shared=document)
        with suppress(ConfigConflict):  # Another node was first.
            editor.replace(text, None)


def bring_up_to_date(document: CopiedDocument) -> None:
    """Copy the newest document. Where the database cannot be reached, an earlier copy is used;
    raises ConfigUnwritable where there is none."""
    try:
        document.pull()
    except ConfigUnwritable as error:
        if not document.file.exists():
            raise
        logger.warning("the last known configuration is used", extra={"reason": error.message})


class ConfigurationWatch:
    """Brings the copy up to date after a message of another process, and with each call of `look`,
    which is due every LOOK_SECONDS. `check` applies it."""

    def __init__(
        self,
        bus: NodeBus,
        book: ConfigurationBook,
        document: CopiedDocument,
        check: Callable[[], None],
    ) -> None:
        self._book = book
        self._document = document
        self._check = check
        self._looking = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        document.changed = self._changed_in_thread
        self._bus = bus
        self._loop: asyncio.AbstractEventLoop | None = None
        bus.subscribe(TOPIC, self._look_soon)
        bus.on_gap(self._look_soon)

    async def look(self) -> None:
        """Raises nothing: what is wrong is logged."""
        self._loop = asyncio.get_running_loop()
        async with self._looking:
            try:
                newest = await self._book.newest_hash()
                if newest not in (None, self._document.hash):
                    await asyncio.to_thread(self._document.pull)
            except (StoreFailed, ConfigUnwritable) as error:
                logger.debug("the configuration was not read", extra={"reason": error.message})
            self._check()

    def _look_soon(self, _: str = "") -> None:
        task = asyncio.get_running_loop().create_task(self.look())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _changed_in_thread(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._bus.publish, TOPIC)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also in a thread that runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def _nothing() -> None:
    """The default of `CopiedDocument.changed`."""

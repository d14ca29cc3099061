"""The database of the configuration, for commands that use it without a Gateway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ....domain.errors import StoreFailed
from .configuration import gateway_errors, load_config
from .errors import CommandError

if TYPE_CHECKING:
    from ....domain.settings import StoreSettings
    from .state import State

_NO_DATABASE = (
    "The configuration has no database, so this Gateway keeps its state in files. Set store.url or"
    " OPENSOUL_DATABASE_URL."
)


def database_settings(state: State) -> StoreSettings:
    """The settings of the store, which have a database. Raises CommandError."""
    store = load_config(state).settings.store
    if store.url is None:
        raise CommandError(_NO_DATABASE, code="no_database")
    return store


def url_of(settings: StoreSettings) -> str:
    """The address; empty where there is no database."""
    return "" if settings.url is None else settings.url.reveal()


def direct_url(settings: StoreSettings) -> str:
    """The address of the server itself, where `url_of` is that of a pooler."""
    return "" if settings.listen_url is None else settings.listen_url.reveal()


async def listed_nodes(url: str) -> list[dict[str, Any]]:
    """The nodes that use the database. Raises StoreFailed, also where its schema is not that of
    this version."""
    from ....adapters.persistence.postgres import Database, PostgresNodes, database_status
    from ....adapters.transports.control.methods.machine import node_rows

    if (await database_status(url)).pending:
        raise StoreFailed("The schema of the database is not complete. Run `opensoul db migrate`.")
    database = Database(url, connections=(1, 1), behind_pooler=True)
    await database.open()
    try:
        return node_rows(await PostgresNodes(database, "", lease=0.0).list())
    finally:
        await database.close()


@contextmanager
def database_errors() -> Iterator[None]:
    """Raises CommandError for what fails in the database, or where its driver is missing."""
    from ...shared import DRIVER_MISSING, is_driver

    try:
        with gateway_errors():
            yield
    except ModuleNotFoundError as error:
        if not is_driver(error):
            raise
        raise CommandError(DRIVER_MISSING, code="extra_missing") from None

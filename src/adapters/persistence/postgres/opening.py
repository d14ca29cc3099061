"""The first connection to a database: what has to be right, and what to do where it is not."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from psycopg import AsyncConnection, Error, OperationalError, ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ....domain.errors import StoreFailed
from .migrations import floor, newest

logger = logging.getLogger(__name__)

OLDEST_SERVER = 15
ENCODINGS = ("UTF8", "SQL_ASCII")
"""Of databases that can store all characters."""
START_PATIENCE = 30.0
"""Seconds for which a server that is starting, or recovers from a crash, is waited for."""
_RETRY_AFTER = 0.25
_STARTING = re.compile(r"database system is (starting up|not yet accepting|in recovery mode)")
"""What such a server says. The driver has no SQLSTATE for the failure of a connection."""

_OPTIONS: dict[str, object] = {
    "application_name": "opensoul",
    "client_encoding": "utf8",
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""Connection parameters, unless the address has them."""
_SYNTAX = (
    "The address of the database cannot be read; it has to be one of libpq, such as"
    " postgresql://user@host/name."
)
_ESCAPES = (
    "The address of the database has a host or a port that cannot be one. In user name and"
    " password write %40 for @, %2F for /, %3A for :, %23 for #, %3F for ? and %25 for %."
)
_PORTS = re.compile(r"[0-9,]*")

POOLED = (
    "store.url is the address of a pooler in transaction mode, through which neither notifications"
    " nor prepared statements work. Set store.listenUrl to the address of the server itself; then"
    " statements through the pooler are not prepared."
)
_PROBES = 3

_SETTINGS = {"default_transaction_isolation": "read committed", "standard_conforming_strings": "on"}
"""What statements here rely on, and a user or a database may have changed. With stricter levels
than the first one, writes of several processes fail where they should wait for one another; without
the second one, the driver doubles the backslashes in arrays of bytes, which then are other ones."""
_SET = "SELECT " + ", ".join(
    f"set_config('{name}', '{value}', false)" for name, value in _SETTINGS.items()
)
_SHOW = "SELECT " + ", ".join(f"current_setting('{name}')" for name in _SETTINGS)

_BY_STATE = {
    "42501": (
        "Run `opensoul db migrate` as the owner of the database, or grant this user the rights:"
        " GRANT CREATE, USAGE ON SCHEMA public TO the user, and the rights to the tables there."
    ),
    "3F000": "Create the schema that the search_path of this user names: CREATE SCHEMA name.",
    "25006": (
        "This server is a replica, which only reads. Use the address of the primary, or name all"
        " hosts and add target_session_attrs=read-write. If it is the primary: the user or the"
        " database has the setting default_transaction_read_only."
    ),
}
"""What to do, by SQLSTATE."""
_BY_TEXT = (
    (
        r"password authentication failed|no password supplied",
        "Correct the user name or the password in store.url or OPENSOUL_DATABASE_URL.",
    ),
    (
        r'role ".*" does not exist',
        "Correct the user name in the address, or create the user: CREATE ROLE name LOGIN.",
    ),
    (
        r"no pg_hba\.conf entry|authentication failed",
        "Allow this user to connect from this machine in pg_hba.conf of the server, perhaps with"
        " sslmode=require in the address.",
    ),
    (
        r'database ".*" does not exist',
        "Correct the name at the end of the address, or create the database:"
        " createdb --encoding UTF8 name.",
    ),
    (
        r"resolve host|could not translate host name|not known",
        "Correct the host name in the address, or the name service of this machine.",
    ),
    (
        r"refused|No such file or directory|Connection reset",
        "Start the server, or correct host and port in the address. The server has to listen there"
        " (listen_addresses, port, or the folder of its Unix socket).",
    ),
    (
        r"timeout|timed out|unreachable|No route",
        "Look for a firewall between this machine and the server, and at the port in the address.",
    ),
    (
        r"too many (clients|connections)|connection slots",
        "Raise max_connections of the server, use a pooler, or run fewer nodes: each opens up to 11"
        " connections.",
    ),
    (
        r"SSL|certificate|TLS",
        "Look at sslmode and sslrootcert in the address, and at the certificate of the server.",
    ),
    (r"starting up|shutting down|recovery", "Wait until the server is ready, and try again."),
)
"""What to do, by what the server or the driver says in English."""


def connection_string(url: str) -> str:
    """The address with our defaults. Raises StoreFailed without the address, which may have a
    password."""
    try:
        given = conninfo_to_dict(url)
    except ProgrammingError as error:
        raise StoreFailed(_SYNTAX) from error
    # A part of a password that was not escaped may be here, which no message must show.
    if "@" in str(given.get("host", "")) or not _PORTS.fullmatch(str(given.get("port") or "")):
        raise StoreFailed(_ESCAPES)
    return make_conninfo(**{**_OPTIONS, **given})  # type: ignore[arg-type]  # values are plain


@asynccontextmanager
async def first_connection(url: str) -> AsyncIterator[AsyncConnection[tuple[Any, ...]]]:
    """One connection in autocommit mode to a server that is new enough. A server that is starting
    is waited for. Raises StoreFailed with what to do."""
    try:
        async with await _connected(url) as connection:
            check_version(connection.info.server_version)
            yield connection
    except (Error, OSError) as error:
        raise StoreFailed(f"The database cannot be opened: {reason(error, url)}") from error


async def _connected(url: str) -> AsyncConnection[tuple[Any, ...]]:
    """Raises StoreFailed, and what the driver raises."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + START_PATIENCE
    is_waiting = False
    while True:
        try:
            return await AsyncConnection.connect(
                connection_string(url), autocommit=True, prepare_threshold=None
            )
        except OperationalError as error:
            if not _STARTING.search(str(error)) or loop.time() > give_up_at:
                raise
            if not is_waiting:
                is_waiting = True
                logger.info("the server of the database is starting, and is waited for")
        await asyncio.sleep(_RETRY_AFTER)


def check_version(number: int) -> None:
    """Raises StoreFailed for a server that is too old."""
    version = number // 10_000
    if version < OLDEST_SERVER:
        raise StoreFailed(
            f"The server of the database is PostgreSQL {version}; {OLDEST_SERVER} or later is"
            " needed. Upgrade the server, or use the address of another one."
        )


async def check_schema(connection: AsyncConnection[tuple[Any, ...]]) -> None:
    """Raises StoreFailed where a later version has removed what this one uses, or the database
    cannot store all characters."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in ENCODINGS:
        raise StoreFailed(
            f"The database has the encoding {encoding}, which lacks characters. Create one with"
            " UTF8: createdb --encoding UTF8 --template template0 name."
        )
    needed, known = await floor(connection), newest()
    if needed > known:
        raise StoreFailed(
            f"The schema of the database is that of a later version of OpenSoul: it needs one that"
            f" knows migration {needed}, and this one knows those up to {known}. Nothing was"
            " changed. Install the version of the other nodes."
        )


async def is_pooled(url: str, connection: AsyncConnection[tuple[Any, ...]]) -> bool:
    """Whether the connection is one to a pooler in transaction mode. Raises StoreFailed.

    Two connections that are open at the same time have one process of the server: such a pooler
    gives each of them one for a transaction only. It hands out the process that became free last,
    so the first probe finds it, unless another client gets in between.
    """
    async with AsyncExitStack() as probes:
        for _ in range(_PROBES):
            process = await _process(connection)
            if connection.info.backend_pid == process:
                return False  # A pooler has ids of its own.
            probe = await probes.enter_async_context(first_connection(url))
            await probes.enter_async_context(probe.transaction())
            if await _process(probe) == process:
                return True
    return False


async def check_pooler(url: str, connection: AsyncConnection[tuple[Any, ...]]) -> None:
    """Raises StoreFailed for a pooler in transaction mode, where the address has to be the
    server's."""
    if await is_pooled(url, connection):
        raise StoreFailed(POOLED)


async def settle(connection: AsyncConnection[tuple[Any, ...]]) -> None:
    """Set for the whole connection what statements rely on. Not for one to a pooler in transaction
    mode, which would pass it on to others."""
    await connection.execute(_SET)


async def check_settings(connection: AsyncConnection[tuple[Any, ...]]) -> None:
    """Raises StoreFailed where settings of the user or the database differ from what statements
    rely on."""
    found = await (await connection.execute(_SHOW)).fetchone()
    for (name, needed), value in zip(_SETTINGS.items(), found or (), strict=True):
        if value != needed:
            raise StoreFailed(
                f"The user or the database has {name} = {value}, and behind a pooler in transaction"
                f" mode it cannot be set by the Gateway: ALTER ROLE name SET {name} = '{needed}',"
                " and have the pooler connect anew."
            )


async def _process(connection: AsyncConnection[tuple[Any, ...]]) -> int:
    """The process of the server that executes the next statement."""
    row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
    return 0 if row is None else int(row[0])


def reason(error: Exception, url: str = "") -> str:
    """What failed, and what to do where that is known, without the password of the address."""
    # The driver adds the line of the statement.
    message = error.diag.message_primary if isinstance(error, Error) else None
    text = " ".join((message or str(error)).split()) or type(error).__name__
    password = _password(url)
    if password:
        text = text.replace(password, "***")
    sentence = text if text.endswith((".", "?")) else f"{text}."
    remedy = _remedy(error, text)
    return f"{sentence} {remedy}" if remedy else sentence


def _remedy(error: Exception, text: str) -> str:
    state = error.sqlstate if isinstance(error, Error) else None
    if state in _BY_STATE:
        return _BY_STATE[state]
    found = (remedy for pattern, remedy in _BY_TEXT if re.search(pattern, text, re.IGNORECASE))
    return next(found, "")


def _password(url: str) -> str:
    try:
        return str(conninfo_to_dict(url).get("password") or "")
    except ProgrammingError:
        return ""

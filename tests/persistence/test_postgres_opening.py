"""What a process says at its start where the database cannot be used, and what to do about it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from secrets import token_hex

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from opensoul.adapters.persistence.postgres import (
    Database,
    are_one_database,
    database_status,
    migrate_database,
    migrations,
    opening,
    pools_transactions,
)
from opensoul.adapters.persistence.postgres.database import Connection
from opensoul.domain.errors import StoreFailed

from .pooler import pooled
from .postgres_server import DIRECT, new_schema, private_cluster, server_programs

pytestmark = DIRECT

PASSWORD = "s3cret-of-the-test"


async def refusal(url: str) -> str:
    """What the start of a process says."""
    with pytest.raises(StoreFailed) as failure:
        await Database(url, connections=(1, 1)).open()
    assert PASSWORD not in failure.value.message
    return failure.value.message


def changed(url: str, **parameters: object) -> str:
    return make_conninfo(url, password=PASSWORD, **parameters)  # type: ignore[arg-type]


async def test_a_database_that_is_missing_is_to_be_created(postgres_server: str) -> None:
    message = await refusal(changed(postgres_server, dbname="no_such_database"))
    assert '"no_such_database" does not exist' in message
    assert "createdb" in message


async def test_a_user_that_is_missing_is_to_be_created(postgres_server: str) -> None:
    message = await refusal(changed(postgres_server, user=f"nobody_{token_hex(4)}"))
    assert "CREATE ROLE" in message


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        (f"postgresql://me:{PASSWORD}@no-such-host.invalid/x", "Correct the host name"),
        (f"postgresql://me:{PASSWORD}@127.0.0.1:1/x", "Start the server"),
        (f"host=/no/such/folder user=me password={PASSWORD}", "Start the server"),
        (f"postgresql://me:{PASSWORD}@[::1/x", "postgresql://user@host/name"),
        (f"postgresql://me:{PASSWORD}@localhost/x?no_such_parameter=1", "one of libpq"),
        (f"postgresql://me:{PASSWORD}/more@localhost/x", "%2F for /"),
        (f"postgresql://me:more@{PASSWORD}@localhost/x", "%40 for @"),
    ],
)
async def test_an_address_that_cannot_be_used_names_the_remedy(url: str, remedy: str) -> None:
    assert remedy in await refusal(url)


async def test_a_wrong_password_is_named_without_it() -> None:
    programs = server_programs()
    if programs is None:
        pytest.skip("no PostgreSQL is installed, and access to a server of others is not changed")
    with private_cluster(programs) as cluster:
        folder = Path(str(conninfo_to_dict(cluster.url)["host"]))
        rules = folder / "data" / "pg_hba.conf"
        rules.write_text("local all locked scram-sha-256\nlocal all opensoul trust\n")
        with psycopg.connect(cluster.url, autocommit=True) as connection:
            connection.execute("CREATE ROLE locked LOGIN PASSWORD 'another one'")
            connection.execute("SELECT pg_reload_conf()")
        message = await refusal(changed(cluster.url, user="locked"))
        assert "Correct the user name or the password in store.url" in message
        message = await refusal(changed(cluster.url, user="outside"))
        assert "pg_hba.conf" in message


@contextmanager
def role(server: str, schema: str) -> Iterator[str]:
    """A user who may only look into the schema."""
    name = sql.Identifier(f"visitor_{token_hex(4)}")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
        place = sql.Identifier(schema)
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(place, name))
        try:
            yield name.as_string().strip('"')
        finally:
            connection.execute(sql.SQL("REVOKE USAGE ON SCHEMA {} FROM {}").format(place, name))
            connection.execute(sql.SQL("DROP ROLE {}").format(name))


async def test_a_user_who_may_create_no_tables_is_told_how(
    postgres_server: str, postgres_url: str
) -> None:
    schema = str(conninfo_to_dict(postgres_url)["options"]).partition("=")[2]
    with role(postgres_server, schema) as user:
        message = await refusal(make_conninfo(postgres_url, user=user))
    assert "permission denied" in message
    assert "LINE" not in message
    assert "opensoul db migrate" in message
    assert "GRANT" in message


async def test_a_schema_that_is_missing_is_to_be_created(postgres_server: str) -> None:
    message = await refusal(make_conninfo(postgres_server, options="-c search_path=no_such"))
    assert "CREATE SCHEMA" in message


async def test_a_replica_is_refused(postgres_url: str) -> None:
    options = conninfo_to_dict(postgres_url)["options"]
    read_only = f"{options} -c default_transaction_read_only=on"
    message = await refusal(make_conninfo(postgres_url, options=read_only))
    assert "target_session_attrs=read-write" in message


async def test_a_server_that_is_too_old_is_refused() -> None:
    async with old_server("14.9") as url:
        message = await refusal(url)
    assert "PostgreSQL 14; 15 or later is needed" in message


async def test_a_schema_that_needs_a_later_version_is_refused_and_not_changed(
    postgres_url: str,
) -> None:
    await migrate_database(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (9000, 'later', now())")
        database = Database(postgres_url, connections=(1, 1))
        await database.open()  # What is added does not disturb.
        await database.close()
        connection.execute("INSERT INTO schema_floor VALUES (9000)")
        connection.execute("DELETE FROM schema_migrations WHERE number = 6")

        message = await refusal(postgres_url)
        assert "needs one that knows migration 9000" in message
        with pytest.raises(StoreFailed, match="Install the version of the other nodes"):
            await migrate_database(postgres_url)
        left = connection.execute("SELECT count(*) FROM schema_migrations WHERE number = 6")
        assert left.fetchone() == (0,)
    assert (await database_status(postgres_url)).later == (9000,)


async def test_migrating_is_reported_once(postgres_url: str) -> None:
    before = await database_status(postgres_url)
    assert (before.version, before.tables, before.running) == (0, (), None)
    done = await asyncio.gather(*(migrate_database(postgres_url) for _ in range(3)))
    assert sorted(name for names in done for name in names) == list(before.pending)
    after = await database_status(postgres_url)
    assert (after.pending, after.queued, after.running, after.waiting) == ((), 0, 0, 0)
    assert "sessions" in {table.name for table in after.tables}


async def test_a_migration_that_waits_for_a_transaction_does_not_keep_others_waiting(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate_database(postgres_url)
    script = (9000, "later", "ALTER TABLE runs ADD COLUMN later integer")
    monkeypatch.setattr(migrations, "scripts", lambda: iter([script]))
    async with (
        await psycopg.AsyncConnection.connect(postgres_url) as long,
        await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as other,
    ):
        await long.execute("SELECT FROM runs")  # A dump, for example, reads for hours.
        migrating = asyncio.create_task(migrate_database(postgres_url))
        while not await waits_for(other, "runs"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # The server does not say that somebody waits.
        await other.execute("SET statement_timeout = '10s'")
        await other.execute("SELECT FROM runs")
        assert not migrating.done()
        await long.commit()
        assert await migrating == ["9000 later"]


async def test_a_migration_that_gets_no_lock_says_what_to_do(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate_database(postgres_url)
    script = (9000, "later", "ALTER TABLE runs ADD COLUMN later integer")
    monkeypatch.setattr(migrations, "scripts", lambda: iter([script]))
    monkeypatch.setattr(migrations, "_MOST_WAIT", 0.0)
    async with await psycopg.AsyncConnection.connect(postgres_url) as long:
        await long.execute("SELECT FROM runs")
        with pytest.raises(StoreFailed, match=r"9000 later needs a lock.* pg_stat_activity"):
            await migrate_database(postgres_url)


async def waits_for(connection: psycopg.AsyncConnection[tuple[object, ...]], table: str) -> bool:
    """Whether a transaction waits for a lock of the table."""
    waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = %s::regclass)"
    row = await (await connection.execute(waiting, (table,))).fetchone()
    assert row is not None
    return bool(row[0])


@pytest.mark.parametrize(("mode", "expected"), [("transaction", True), ("session", False)])
async def test_a_pooler_in_transaction_mode_is_recognised(
    postgres_url: str, mode: str, expected: bool
) -> None:
    with pooled(postgres_url, mode) as address:
        assert await pools_transactions(address) is expected
        assert (await database_status(address)).pooled is expected
        assert await are_one_database(address, postgres_url)


async def test_a_pooler_in_transaction_mode_is_refused_without_the_address_of_the_server(
    postgres_url: str,
) -> None:
    with pooled(postgres_url) as address:
        assert "Set store.listenUrl" in await refusal(address)
        knowing = Database(address, connections=(1, 1), behind_pooler=True)
        await knowing.open()
        await knowing.close()
    with pooled(postgres_url, "session") as address:
        whole = Database(address, connections=(1, 1))
        await whole.open()
        await whole.close()


async def test_a_server_without_a_pooler_is_none(postgres_url: str, postgres_server: str) -> None:
    assert not await pools_transactions(postgres_url)
    assert not await are_one_database(postgres_url, postgres_server)


async def test_migrations_pass_through_a_pooler_in_transaction_mode(postgres_url: str) -> None:
    with pooled(postgres_url) as address:
        done = await asyncio.gather(*(migrate_database(address) for _ in range(3)))
    assert len([name for names in done for name in names]) > 5
    assert (await database_status(postgres_url)).pending == ()


@asynccontextmanager
async def old_server(version: str, *refusals: str) -> AsyncIterator[str]:
    """A server that lets everybody in and says that it is of that version; before that, it refuses
    a connection with each of these messages."""

    gone = asyncio.Event()
    left = list(refusals)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = struct.unpack("!I", await reader.readexactly(4))[0]
        await reader.readexactly(size - 4)
        if left:
            error = f"SFATAL\0C57P03\0M{left.pop(0)}\0\0"
            writer.write(message(b"E", error.encode()))
            writer.close()
            await writer.wait_closed()
            return
        fields = {"server_version": version, "client_encoding": "UTF8"}
        parameters = b"".join(
            message(b"S", f"{name}\0{value}\0".encode()) for name, value in fields.items()
        )
        greeting = message(b"R", struct.pack("!I", 0)) + parameters
        writer.write(greeting + message(b"K", struct.pack("!II", 1, 1)) + message(b"Z", b"I"))
        await writer.drain()
        await reader.read()
        writer.close()
        await writer.wait_closed()
        gone.set()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://me@127.0.0.1:{port}/x?sslmode=disable&gssencmode=disable"
        await gone.wait()


async def test_a_server_that_is_starting_is_waited_for() -> None:
    refusals = (
        "the database system is starting up",
        "the database system is not yet accepting connections",
        "the database system is in recovery mode",
    )
    async with old_server("14.5", *refusals) as url:
        assert "PostgreSQL 14" in await refusal(url)


async def test_a_server_that_takes_too_long_to_start_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "START_PATIENCE", -1.0)
    async with old_server("14.5", "the database system is starting up") as url:
        assert "Wait until the server is ready" in await refusal(url)
        assert "PostgreSQL 14" in await refusal(url)


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


async def test_a_table_of_another_program_with_the_same_name_is_named(postgres_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        await connection.execute("CREATE TABLE schema_migrations (version text)")
    message = await refusal(postgres_url)
    assert "schema_migrations that is not OpenSoul's" in message
    assert "CREATE SCHEMA" in message


async def test_a_schema_is_not_shared_with_a_gateway_further_back_in_the_search_path(
    postgres_server: str,
) -> None:
    """Such as a second Gateway for tests, with `test,public`."""
    with new_schema(postgres_server) as url, new_schema(postgres_server) as other:
        first, second = (
            str(conninfo_to_dict(one)["options"]).split("=")[1] for one in (url, other)
        )
        await migrate_database(url)
        both = make_conninfo(postgres_server, options=f"-c search_path={second},{first}")
        message = await refusal(both)
        assert f"are in the schema {first}" in message
        assert "Set search_path" in message
        await migrate_database(other)
        assert await migrate_database(both) == []


async def test_a_table_of_another_program_further_back_in_the_search_path_does_not_matter(
    postgres_server: str,
) -> None:
    with new_schema(postgres_server) as url, new_schema(postgres_server) as other:
        first, second = (
            str(conninfo_to_dict(one)["options"]).split("=")[1] for one in (url, other)
        )
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute("CREATE TABLE schema_migrations (version text)")
        both = make_conninfo(postgres_server, options=f"-c search_path={second},{first}")
        assert await migrate_database(both)
        assert (await database_status(both)).pending == ()


LEVEL, STRINGS = "default_transaction_isolation", "standard_conforming_strings"


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_a_stricter_isolation_of_the_user_is_not_that_of_statements(
    postgres_url: str, level: str
) -> None:
    """They wait for one another, where PostgreSQL would end them with an error."""
    async with opened(with_settings(postgres_url, **{LEVEL: level})) as database:
        await database.execute("CREATE TABLE counted (number integer)")
        await database.execute("INSERT INTO counted VALUES (0)")
        both = asyncio.Barrier(2)

        async def count(connection: Connection) -> None:
            await connection.execute("SELECT number FROM counted")
            await both.wait()
            await connection.execute("UPDATE counted SET number = number + 1")

        await asyncio.gather(database.change(count), database.change(count))
        assert await database.row("SELECT number FROM counted") == (2,)


async def test_bytes_in_arrays_are_stored_as_they_are_with_old_rules_for_strings(
    postgres_url: str,
) -> None:
    content = [b"\x00\\\xff", b'{"a": 1}', b"\\x7b"]
    async with opened(with_settings(postgres_url, **{STRINGS: "off"})) as database:
        stored = await database.row("SELECT %s::bytea[]", (content,))
        assert stored == (content,)


async def test_migrations_see_what_another_process_has_done_at_any_isolation(
    postgres_url: str,
) -> None:
    strict = with_settings(postgres_url, **{LEVEL: "repeatable read"})
    async with await psycopg.AsyncConnection.connect(postgres_url) as first:
        await first.execute(migrations._LOCK)
        migrating = asyncio.create_task(migrate_database(strict))
        async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as other:
            while not await waits_for_advisory_lock(other):  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # The server does not say that somebody waits.
        await first.execute(migrations._TABLE)
        done, *left = migrations.scripts()
        await first.execute(done[2].encode())
        await first.execute(migrations._APPLY, done[:2])
        await first.commit()
        assert len(await migrating) == len(left)


async def test_a_stricter_isolation_behind_a_pooler_is_refused(postgres_server: str) -> None:
    with pooled(postgres_server) as address:
        async with await psycopg.AsyncConnection.connect(address, autocommit=True) as pooler:
            await pooler.execute("SET default_transaction_isolation = 'serializable'")
            with pytest.raises(StoreFailed, match=f"ALTER ROLE name SET {LEVEL}"):
                await Database(address, connections=(1, 1), behind_pooler=True).open()


async def test_a_database_without_all_characters_is_refused(postgres_server: str) -> None:
    name = f"latin_{token_hex(4)}"
    create = "CREATE DATABASE {} ENCODING LATIN1 TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(sql.SQL(create).format(sql.Identifier(name)))
        try:
            latin = make_conninfo(postgres_server, dbname=name)
            assert "has the encoding LATIN1" in (message := await refusal(latin))
            assert "createdb --encoding UTF8" in message
            with pytest.raises(StoreFailed, match="has the encoding LATIN1"):
                await migrate_database(latin)
            assert (await database_status(latin)).tables == ()
        finally:
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


def with_settings(url: str, **settings: str) -> str:
    """The address of a user who has these settings."""
    words = (f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in settings.items())
    return make_conninfo(url, options=" ".join([str(conninfo_to_dict(url)["options"]), *words]))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(url, connections=(2, 2))
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def waits_for_advisory_lock(connection: Connection) -> bool:
    waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'advisory')"
    row = await (await connection.execute(waiting)).fetchone()
    assert row is not None
    return bool(row[0])

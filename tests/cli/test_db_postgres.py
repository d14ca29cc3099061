"""`opensoul db` and what other commands say where the Gateway has a database."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from opensoul.adapters.system.files import StateLock
from tests.persistence.odd_state import fill

from .command import Home


@pytest.fixture
def with_database(home: Home, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A node's home, with a schema of its own that is empty."""
    monkeypatch.setenv("OPENSOUL_DATABASE_URL", postgres_url)
    return home


def test_migrate_runs_what_is_pending_and_names_it(with_database: Home) -> None:
    before = with_database.opensoul("db", "status", "--json").json
    assert before["version"] == 0
    first = with_database.opensoul("db", "migrate")
    assert first.code == 0
    assert first.out.splitlines() == [f"migrated: {name}" for name in before["pending"]]
    again = with_database.opensoul("db", "migrate")
    assert (again.code, again.out) == (0, "The schema is complete: no migration is pending.\n")
    assert with_database.opensoul("db", "migrate", "--json").json == {"migrations": []}


def test_status_shows_server_schema_and_sizes(with_database: Home) -> None:
    with_database.opensoul("db", "migrate")
    shown = with_database.opensoul("db", "status").out
    for part in ("PostgreSQL", "pending         none", "runs running    0", "sessions "):
        assert part in shown
    found = with_database.opensoul("db", "status", "--json").json
    assert found["needsListenUrl"] is False
    assert found["maxConnections"] > found["connections"] > 0


def test_without_a_database_the_setting_is_named(home: Home) -> None:
    for command in ("migrate", "status"):
        refused = home.opensoul("db", command, "--json")
        assert refused.code == 1
        assert refused.json_error["code"] == "no_database"
        assert "store.url" in refused.json_error["message"]


def test_a_failure_of_the_database_has_exit_code_1(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENSOUL_DATABASE_URL", "postgresql://me:s3cret@127.0.0.1:1/x")
    refused = home.opensoul("db", "migrate")
    assert refused.code == 1
    assert "Start the server, or correct host and port" in refused.err
    assert "s3cret" not in refused.err


@pytest.mark.parametrize("module", ["psycopg", "psycopg_pool"])
def test_where_the_driver_is_not_installed_the_extra_is_named(
    home: Home, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setenv("OPENSOUL_DATABASE_URL", "postgresql://me@127.0.0.1:1/x")
    for name in list(sys.modules):
        if "persistence.postgres" in name or name == "opensoul.app.factories.postgres":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    for command in (("db", "status"), ("agent", "--local", "-m", "hello")):
        refused = home.opensoul(*command)
        assert refused.code == 1
        assert "pip install 'opensoul[postgres]'" in refused.err


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with many sessions, which the tests only read."""
    directory = tmp_path_factory.mktemp("full")
    asyncio.run(fill(directory, more_sessions=300))
    return directory


def test_import_copies_a_directory_once(with_database: Home, full: Path) -> None:
    source = ("--from", str(full))
    dry = with_database.opensoul("db", "import", *source, "--dry-run")
    assert (dry.code, dry.out.splitlines()[-1]) == (0, "Nothing was copied: --dry-run.")
    assert with_database.opensoul("db", "status", "--json").json["version"] == 0

    first = with_database.opensoul("db", "import", *source)
    assert first.code == 0
    assert "sessions: 304 of 304 copied" in first.err
    assert first.out.splitlines()[-1] == "All of it is in the database, and was compared."
    again = with_database.opensoul("db", "import", *source, "--json")
    assert again.code == 0
    assert again.json["complete"]
    assert {kind["copied"] for kind in again.json["kinds"]} == {0}
    assert {kind["name"] for kind in again.json["kinds"] if not kind["total"]} == set()
    assert {kind["total"] - kind["there"] for kind in again.json["kinds"]} == {0}


def test_import_goes_on_where_it_was_killed(with_database: Home, full: Path) -> None:
    url = os.environ["OPENSOUL_DATABASE_URL"]
    command = [sys.executable, "-m", "opensoul.app", "db", "import", "--from", str(full)]
    with psycopg.connect(url) as connection:
        killed = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert killed.stderr is not None
        assert killed.stderr.readline() == "sessions: 20 of 304 copied\n"
        # From now on it waits in a transaction.
        connection.execute("LOCK TABLE sessions IN SHARE MODE")
        killed.send_signal(signal.SIGKILL)
        killed.wait(60)
        killed.stderr.close()
    with psycopg.connect(url) as connection:
        (there,) = connection.execute("SELECT count(*) FROM sessions").fetchone() or (0,)
    assert 20 <= there < 304

    second = with_database.opensoul("db", "import", "--from", str(full), "--json").json
    sessions = second["kinds"][0]
    assert (second["complete"], sessions["there"]) == (True, there)
    assert sessions["copied"] == 304 - there


def test_import_names_what_differs_and_copies_nothing_unless_told(
    with_database: Home, full: Path
) -> None:
    source = ("--from", str(full))
    with_database.opensoul("db", "import", *source)
    with psycopg.connect(os.environ["OPENSOUL_DATABASE_URL"]) as connection:
        connection.execute("UPDATE sessions SET model = 'x' WHERE key = 'agent:main:plain-7'")
        connection.execute("DELETE FROM sessions WHERE key = 'agent:main:plain-8'")

    refused = with_database.opensoul("db", "import", *source)
    assert refused.code == 1
    assert (
        "sessions that the database has with another content:\n  agent:main:plain-7" in refused.err
    )
    assert "Nothing was copied. --skip-different" in refused.out
    rest = with_database.opensoul("db", "import", *source, "--skip-different", "--json")
    sessions = rest.json["kinds"][0]
    assert (rest.code, sessions["copied"], sessions["different"]) == (1, 1, ["agent:main:plain-7"])
    assert sessions["lacking"] == []


def test_import_waits_for_no_process_that_has_the_directory(
    with_database: Home, full: Path
) -> None:
    lock = StateLock(full)
    lock.acquire()
    try:
        refused = with_database.opensoul("db", "import", "--from", str(full), "--json")
    finally:
        lock.release()
    assert refused.code == 1
    assert refused.json_error["code"] == "state_locked"


def test_a_directory_without_a_database_is_named(with_database: Home, tmp_path: Path) -> None:
    refused = with_database.opensoul("db", "import", "--from", str(tmp_path))
    assert refused.code == 1
    assert "There is no database of a Gateway at" in refused.err

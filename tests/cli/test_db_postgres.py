"""`opensoul db` and what other commands say where the Gateway has a database."""

from __future__ import annotations

import sys

import pytest

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
